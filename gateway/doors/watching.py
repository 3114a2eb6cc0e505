"""`/v1/watch` on the native listener: one socket watches calls of one app, whichever process holds them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import msgspec
import structlog
from websockets.exceptions import ConnectionClosed

from gateway.doors.connection import NativeConnection, keep_alive
from gateway.doors.limits import DoorLimits
from gateway.doors.watch_line import WatchLine, told_of
from gateway.doors.watches import BoardWatch, CallWatch, Grounds
from gateway.ports import CallStore, Unavailable
from gateway.session.brief import agent_of
from gateway.session.feed import Feed
from gateway.session.feed_elsewhere import FeedElsewhere
from gateway.session.watchers import Item
from gateway.telemetry import Metrics
from gateway.token_bucket import TokenBucket
from protocol.watching import (
    MAX_WATCHES,
    Unwatch,
    Watch,
    WatchFault,
    WatchGoingAway,
    Watching,
    decode_watcher,
)

log = structlog.get_logger(__name__)

FLOOD_GRACE_S = 1.0
WATCHES_PER_S = 20.0
WATCHES_AT_ONCE = 2.0 * MAX_WATCHES
"""What a socket may ask for: each watch is worth a call's whole past."""


class WatchDoor:
    """Serves watchers. Whatever one of them does or does not do, no call and no other watcher notices."""

    def __init__(
        self,
        feed: Feed,
        elsewhere: FeedElsewhere,
        store: CallStore,
        limits: DoorLimits,
        metrics: Metrics,
        taken_up: Callable[[str], Awaitable[None]],
    ) -> None:
        """`taken_up` returns when a call that an earlier process left behind has been taken up."""
        self._grounds = Grounds(feed, elsewhere, store, taken_up)
        self._limits = limits
        self._metrics = metrics
        self._watchers: set[WatchLine] = set()

    @property
    def full(self) -> bool:
        return bool(self._limits.max_watchers) and len(self._watchers) >= self._limits.max_watchers

    def drain(self, deadline_ms: int) -> None:
        """Tell everybody that the server goes away, and close."""
        goodbye = Item(msgspec.json.encode(WatchGoingAway(deadline_ms=deadline_ms)))
        for line in list(self._watchers):
            line.put(goodbye)
            line.close(1012, "shutting_down")

    async def serve(self, connection: NativeConnection) -> None:
        """Serve one socket until it closes."""
        line = WatchLine(connection, self._limits, self._count)
        connection.on_flood = partial(self._cut_off_flood, line)
        watcher = _Watcher(connection, line, self._grounds)
        self._watchers.add(line)
        self._metrics.watchers.set(len(self._watchers))
        alive = asyncio.create_task(keep_alive(connection, self._limits, lambda: False))
        try:
            await watcher.converse(self._limits.first_message_timeout_s)
        except WatchFault as fault:
            self._metrics.refused.labels(fault.code).inc()
            line.put(Item(told_of(fault)))
            line.close(fault.entry.close or 1008, fault.code)
        except ConnectionClosed:
            pass
        except Exception:
            log.exception("watcher_failed")
            line.put(Item(told_of(WatchFault("internal", "the server failed"))))
            line.close(1011, "internal")
        finally:
            await watcher.leave()
            reading = asyncio.create_task(_read_away(connection))  # or a peer that still talks never gets to the close
            await line.finished()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            self._watchers.discard(line)
            self._metrics.watchers.set(len(self._watchers))
            if line.cut_off_for:
                self._metrics.watchers_dropped.labels(line.cut_off_for).inc()
            alive.cancel()
            await asyncio.gather(alive, return_exceptions=True)

    def _count(self, sent: int, coalesced: int) -> None:
        self._metrics.watch_messages.inc(sent)
        self._metrics.watch_coalesced.inc(coalesced)

    def _cut_off_flood(self, line: WatchLine) -> None:
        fault = WatchFault("too_fast", f"over {self._limits.max_messages_per_s:g} messages a second")
        line.cut_off(fault, FLOOD_GRACE_S)


async def _read_away(connection: NativeConnection) -> None:
    with suppress(ConnectionClosed):
        while True:
            await connection.recv()


class _Watcher:
    """One socket and its watches."""

    def __init__(self, connection: NativeConnection, line: WatchLine, grounds: Grounds) -> None:
        self._connection = connection
        self._line = line
        self._grounds = grounds
        self._app_id = connection.username
        ticket = connection.ticket
        self._only_call = "" if ticket is None else ticket.call_id
        self._only_agent = "" if ticket is None else ticket.agent
        self._watches: dict[str, BoardWatch | CallWatch] = {}
        self._allowance = TokenBucket(WATCHES_PER_S, WATCHES_AT_ONCE, asyncio.get_running_loop().time())

    async def converse(self, first_message_timeout_s: float) -> None:
        """Do what the socket asks for. Raises ConnectionClosed at its end, WatchFault for what ends it."""
        try:
            async with asyncio.timeout(first_message_timeout_s):
                payload = await self._connection.recv()
        except TimeoutError:
            text = f"no first message within {first_message_timeout_s:g} s; expected watch"
            raise WatchFault("timeout", text) from None
        while True:
            try:
                await self._obey(payload)
            except WatchFault as fault:
                if fault.entry.close is not None:
                    raise
                self._line.put(Item(told_of(fault)))
            payload = await self._connection.recv()

    async def leave(self) -> None:
        for watch in list(self._watches.values()):
            await watch.close()
        self._watches.clear()

    async def _obey(self, payload: str | bytes) -> None:
        if isinstance(payload, bytes):
            raise WatchFault("bad_message", "a binary frame; expected a text frame with watch or unwatch")
        message = decode_watcher(payload)
        if not self._allowance.take(1, asyncio.get_running_loop().time()):
            raise WatchFault("too_fast", f"over {WATCHES_PER_S:g} watches a second")
        earlier = self._watches.pop(message.id, None)
        if earlier is not None:
            await earlier.close()
        match message:
            case Watch():
                await self._begin(message)
            case Unwatch():
                pass

    async def _begin(self, message: Watch) -> None:
        if len(self._watches) >= MAX_WATCHES:
            raise WatchFault("too_many_watches", f"there are {MAX_WATCHES} already", message.id)
        if message.call_id is not None and message.agent is not None:
            raise WatchFault("bad_message", "a watch has a call_id or an agent, not both", message.id)
        if message.call_id is None:
            await self._watch_board(message)
        else:
            await self._watch_call(message, message.call_id)

    async def _watch_board(self, message: Watch) -> None:
        if self._only_call:
            raise WatchFault("unknown_call", f"this socket's ticket is for call {self._only_call}", message.id)
        agent = message.agent or ""
        if self._only_agent not in ("", agent):
            if agent:
                raise WatchFault("unknown_call", f"this socket's ticket is for agent {self._only_agent!r}", message.id)
            agent = self._only_agent
        self._tell(Watching(id=message.id))
        watch = BoardWatch(self._grounds, self._app_id, agent, self._line, levels=message.levels)
        self._watches[message.id] = watch
        await self._reporting(message.id, watch.begin())

    async def _watch_call(self, message: Watch, call_id: str) -> None:
        unknown = WatchFault("unknown_call", f"no call {call_id} that may be watched", message.id)
        if self._only_call not in ("", call_id):
            raise unknown
        await self._grounds.taken_up(call_id)
        if self._only_agent and await self._agent_of(call_id, message.id) != self._only_agent:
            raise unknown
        watch = CallWatch(self._grounds, self._app_id, call_id, message, self._line)
        self._watches[message.id] = watch
        if not await self._reporting(message.id, watch.begin()):
            await watch.close()
            self._watches.pop(message.id, None)
            raise unknown

    async def _agent_of(self, call_id: str, watch_id: str) -> str:
        here = self._grounds.feed.find(self._app_id, call_id)
        if here is not None:
            return agent_of(here.document.content)
        try:
            record = await self._grounds.store.get(self._app_id, call_id)
        except Unavailable as fault:
            log.warning("watch_is_not_judged", fault=str(fault))
            text = f"whose call {call_id} is cannot be asked right now"
            raise WatchFault("cluster_unavailable", text, watch_id) from fault
        return "" if record is None else agent_of(record.document)

    async def _reporting(self, watch_id: str, beginning: Awaitable[bool]) -> bool:
        """Tell the watcher when others could not be asked; what is here is told all the same."""
        try:
            return await beginning
        except Unavailable as fault:
            log.warning("watch_is_not_whole", fault=str(fault))
            text = "other processes hold calls too, and cannot be asked right now"
            self._line.put(Item(told_of(WatchFault("cluster_unavailable", text, watch_id))))
            return True

    def _tell(self, told: Watching) -> None:
        self._line.put(Item(msgspec.json.encode(told)))
