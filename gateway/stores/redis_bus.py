"""The bus of the nodes of a cluster: Redis pub/sub. What it loses is lost, as a Bus may."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count

import structlog
from redis.asyncio.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from gateway.ports import Unavailable
from gateway.ports.bus import Answer, Hear
from gateway.stores.redis_connection import RedisConnection

log = structlog.get_logger(__name__)

MAX_QUEUED = 16_384
"""Payloads that may wait to be published ..."""
MAX_QUEUED_BYTES = 16 * 1024 * 1024
"""... and how large they may be together."""
MAX_TOGETHER = 256
"""Payloads that go to Redis in one round trip."""
MAX_ANSWERING = 256
"""Questions that are being answered at a time; a question beyond is answered as by one who does not know."""
PING_EVERY_S = 5.0
"""A listener that hears nothing for this long asks Redis whether it is still there, and waits as long again."""
RETRY_S = 0.5
CONNECT_TIMEOUT_S = 3.0
_ID_BYTES = 8


@dataclass(slots=True)
class _Asked:
    """A question of ours that is out."""

    done: asyncio.Future[None]
    first_only: bool
    answers: list[bytes] = field(default_factory=list)
    heard: int = 0
    expected: int | None = None
    """How many have it; None while Redis has not told."""

    def look(self) -> None:
        enough = self.heard == self.expected or (self.first_only and bool(self.answers))
        if enough and not self.done.done():
            self.done.set_result(None)


class RedisBus:
    """A Bus through one Redis. `start` first; it listens again by itself whenever its connection breaks."""

    alone = False

    def __init__(
        self, connection: RedisConnection, *, on_dropped: Callable[[int], None] = lambda payloads: None
    ) -> None:
        """`on_dropped` hears how many payloads were not published."""
        self._connection = connection
        self._on_dropped = on_dropped
        self._me = secrets.token_bytes(_ID_BYTES)
        # Pub/sub knows no database numbers; keys do, and so must what belongs to them.
        self._prefix = b"earshot:bus:%d:" % connection.database
        self._my_channel = self._prefix + b"reply:" + self._me.hex().encode()
        self._topics: dict[bytes, list[Hear]] = {}
        self._answers: dict[bytes, Answer] = {}
        self._asked: dict[bytes, _Asked] = {}
        self._numbers = count(1)
        self._outgoing: deque[tuple[bytes, bytes]] = deque()
        self._outgoing_bytes = 0
        self._wake = asyncio.Event()
        self._listener: PubSub | None = None
        self._listening = asyncio.Event()
        self._heard_well = True
        """Whether the last that the log was told is that Redis can be heard."""
        self._subscribed: set[bytes] = set()
        """Channels that Redis was told to tell us of, on the present connection."""
        self._confirming: dict[bytes, deque[asyncio.Future[None]]] = {}
        """By channel, the times it was told so that it has not confirmed yet."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._answering: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Listen and publish from here on, in the background."""
        self._tasks = {asyncio.create_task(self._listen()), asyncio.create_task(self._tell())}

    async def stop(self) -> None:
        tasks = self._tasks | self._answering
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- telling ---

    def publish(self, topic: str, payload: bytes) -> None:
        self._queue(self._topic(topic), self._me + payload)

    def _queue(self, channel: bytes, data: bytes) -> None:
        if len(self._outgoing) >= MAX_QUEUED or self._outgoing_bytes + len(data) > MAX_QUEUED_BYTES:
            self._on_dropped(1)
            return
        self._outgoing.append((channel, data))
        self._outgoing_bytes += len(data)
        self._wake.set()

    async def _tell(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._outgoing:
                together = [self._outgoing.popleft() for _ in range(min(MAX_TOGETHER, len(self._outgoing)))]
                self._outgoing_bytes -= sum(len(data) for _, data in together)
                try:
                    await self._connection.commands([(b"PUBLISH", *one) for one in together])
                except Unavailable as fault:
                    # Some of them may have gone out: once more would be twice.
                    self._on_dropped(len(together))
                    log.warning("bus_cannot_tell", payloads=len(together), fault=str(fault))
                    await asyncio.sleep(RETRY_S)

    # --- hearing ---

    def _topic(self, topic: str) -> bytes:
        return self._prefix + b"topic:" + topic.encode()

    async def subscribe(self, topic: str, hear: Hear) -> _Subscription:
        channel = self._topic(topic)
        self._topics.setdefault(channel, []).append(hear)
        try:
            await self._hear_channel(channel)
        except BaseException:
            self._forget(channel, hear)
            raise
        return _Subscription(self, channel, hear)

    async def _hear_channel(self, channel: bytes) -> None:
        """Return once Redis has said that it will tell us. Raises Unavailable."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._listening.wait()
                assert self._listener is not None
                if channel not in self._subscribed:
                    await self._subscribe(self._listener, channel)
                waiting = self._confirming.get(channel)
                if waiting:
                    await asyncio.shield(waiting[-1])
        except TimeoutError as fault:
            where = self._connection.shown_url
            raise Unavailable(f"Redis at {where} did not begin to tell within {CONNECT_TIMEOUT_S:g} s") from fault
        except (RedisError, OSError) as fault:
            raise Unavailable(f"Redis at {self._connection.shown_url} cannot be listened to: {fault}") from fault

    async def _subscribe(self, listener: PubSub, *channels: bytes) -> None:
        for channel in channels:
            self._subscribed.add(channel)
            self._confirming.setdefault(channel, deque()).append(asyncio.get_running_loop().create_future())
        with _broken_connections():
            await listener.subscribe(*channels)

    async def leave(self, channel: bytes, hear: Hear) -> None:
        """One listener hears no more of it; the last one's leaving tells Redis."""
        self._forget(channel, hear)
        listener = self._listener
        if channel not in self._topics and channel in self._subscribed and listener is not None:
            self._subscribed.discard(channel)
            try:
                with _broken_connections():
                    async with asyncio.timeout(CONNECT_TIMEOUT_S):
                        await listener.unsubscribe(channel)
            except (RedisError, OSError, TimeoutError) as fault:
                log.info("bus_still_listens", fault=str(fault))  # until it connects anew; what comes is passed over

    def _forget(self, channel: bytes, hear: Hear) -> None:
        hears = self._topics.get(channel, [])
        if hear in hears:
            hears.remove(hear)
            if not hears:
                del self._topics[channel]

    async def _listen(self) -> None:
        while True:
            fault = await self._listened()
            if self._heard_well:
                log.warning("bus_not_heard", fault=str(fault), redis=self._connection.shown_url)
            self._heard_well = False
            await asyncio.sleep(RETRY_S)

    async def _listened(self) -> BaseException:
        """Listen until the connection breaks, however it does; what it was."""
        listener = self._connection.listener()
        fault: BaseException = RedisConnectionError("it was cancelled")
        try:
            with _broken_connections():
                await self._listen_on(listener)
        except (RedisError, OSError, TimeoutError) as broken:
            fault = broken
        except asyncio.CancelledError as cancelled:
            # The library cancels a reader whose connection another task finds broken: that is not meant for us.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            fault = cancelled
        finally:
            self._stop_hearing(fault)
            with suppress(RedisError, OSError, TimeoutError):
                await listener.aclose()  # type: ignore[no-untyped-call]
        return fault

    def _stop_hearing(self, fault: BaseException | None) -> None:
        self._listener = None
        self._listening.clear()
        cannot = f"Redis at {self._connection.shown_url} cannot be heard: {fault}"
        confirming = (one for waiting in self._confirming.values() for one in waiting)
        waiting = [*confirming, *(asked.done for asked in self._asked.values())]
        for one in waiting:
            if not one.done():
                one.set_exception(Unavailable(cannot))
                one.exception()  # whoever waited may have left
        self._confirming.clear()
        self._subscribed.clear()

    async def _listen_on(self, listener: PubSub) -> None:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await self._subscribe(listener, self._my_channel, *self._topics, *self._answers)
        pinged = False
        while True:
            message = await listener.get_message(timeout=PING_EVERY_S)
            if message is not None:
                pinged = False
                await self._take(listener, message["type"], message["channel"], message["data"])
            elif pinged:
                raise TimeoutError(f"it said nothing for {2 * PING_EVERY_S:g} s")
            else:
                pinged = True
                await listener.ping()

    async def _take(self, listener: PubSub, kind: str, channel: bytes, data: bytes) -> None:
        if kind == "message":
            self._hear(channel, data)
        elif kind == "subscribe":
            self._confirm(channel)
            if self._listener is None and not self._confirming:
                self._listener = listener
                # What was asked for while the connection was being made.
                late = {*self._topics, *self._answers} - self._subscribed
                if late:
                    await self._subscribe(listener, *late)
                self._listening.set()
                if not self._heard_well:
                    self._heard_well = True
                    log.info("bus_heard_again", redis=self._connection.shown_url)

    def _confirm(self, channel: bytes) -> None:
        waiting = self._confirming.get(channel)
        if waiting:
            confirmed = waiting.popleft()
            if not waiting:
                del self._confirming[channel]
            if not confirmed.done():
                confirmed.set_result(None)

    def _hear(self, channel: bytes, data: bytes) -> None:
        sender, payload = data[:_ID_BYTES], data[_ID_BYTES:]
        if channel == self._my_channel:
            self._take_answer(payload)
        elif channel in self._answers:
            self._be_asked(channel, sender, payload)
        elif sender != self._me and channel in self._topics:
            for hear in list(self._topics[channel]):
                try:
                    hear(payload)
                except Exception:
                    log.exception("bus_listener_failed", topic=channel.decode())

    # --- asking and answering ---

    def answers(self, question: str, answer: Answer) -> None:
        channel = self._question(question)
        self._answers[channel] = answer
        if self._listener is not None:
            self._keep(asyncio.create_task(self._begin_to_answer(channel)))

    async def _begin_to_answer(self, channel: bytes) -> None:
        try:
            await self._hear_channel(channel)
        except Unavailable as fault:
            log.info("bus_answers_later", fault=str(fault))  # it is among what is heard when it listens anew

    def _question(self, question: str) -> bytes:
        return self._prefix + b"ask:" + question.encode()

    async def ask(self, question: str, payload: bytes, *, timeout_s: float) -> bytes | None:
        answers = await self._ask(question, payload, timeout_s, first_only=True)
        return answers[0] if answers else None

    async def ask_all(self, question: str, payload: bytes, *, timeout_s: float) -> Sequence[bytes]:
        return await self._ask(question, payload, timeout_s, first_only=False)

    async def _ask(self, question: str, payload: bytes, timeout_s: float, *, first_only: bool) -> list[bytes]:
        try:
            async with asyncio.timeout(min(timeout_s, CONNECT_TIMEOUT_S)):
                await self._listening.wait()
        except TimeoutError as fault:
            raise Unavailable(f"answers from Redis at {self._connection.shown_url} could not be heard") from fault
        number = next(self._numbers).to_bytes(_ID_BYTES)
        asked = self._asked[number] = _Asked(asyncio.get_running_loop().create_future(), first_only)
        try:
            data = self._me + number + payload
            asked.expected = int(await self._connection.command(b"PUBLISH", self._question(question), data))
            asked.look()
            async with asyncio.timeout(timeout_s):
                await asked.done
        except TimeoutError:
            pass  # those who have not answered by now are not waited for
        finally:
            del self._asked[number]
        return asked.answers

    def _take_answer(self, data: bytes) -> None:
        asked = self._asked.get(data[:_ID_BYTES])
        if asked is not None:
            asked.heard += 1
            if data[_ID_BYTES:][:1] == b"+":
                asked.answers.append(data[_ID_BYTES + 1 :])
            asked.look()

    def _be_asked(self, channel: bytes, asker: bytes, data: bytes) -> None:
        number, payload = data[:_ID_BYTES], data[_ID_BYTES:]
        if asker == self._me:
            self._take_answer(number + b"-")  # we are among those whom Redis counted
        elif len(self._answering) >= MAX_ANSWERING:
            self._reply(asker, number, None)
        else:
            self._keep(asyncio.create_task(self._answer(channel, asker, number, payload)))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, channel: bytes, asker: bytes, number: bytes, payload: bytes) -> None:
        answer = None
        try:
            answer = await self._answers[channel](payload)
        except Exception:
            log.exception("bus_question_failed", question=channel.decode())
        self._reply(asker, number, answer)

    def _reply(self, asker: bytes, number: bytes, answer: bytes | None) -> None:
        known = b"-" if answer is None else b"+" + answer
        self._queue(self._prefix + b"reply:" + asker.hex().encode(), self._me + number + known)


@contextmanager
def _broken_connections() -> Iterator[None]:
    """The library writes to a connection that it has closed meanwhile, and stumbles over the writer that is gone."""
    try:
        yield
    except AttributeError as fault:
        raise RedisConnectionError("the connection was closed meanwhile") from fault


class _Subscription:
    def __init__(self, bus: RedisBus, channel: bytes, hear: Hear) -> None:
        self._bus = bus
        self._channel = channel
        self._hear = hear
        self._open = True

    async def close(self) -> None:
        if self._open:
            self._open = False
            await self._bus.leave(self._channel, self._hear)
