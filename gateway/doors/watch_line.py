"""What waits to be told to one watcher: of what grows old only the newest, of all else everything, up to a bound."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from itertools import count

import msgspec
import structlog
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from gateway.doors.limits import DoorLimits
from gateway.session.watchers import Item
from protocol.watching import WatchFault

log = structlog.get_logger(__name__)

CLOSE_TIMEOUT_S = 10.0


class WatchQueue:
    """Items in their order. One with a key takes the place of an older one with it, at the end of the line."""

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._waiting: OrderedDict[str | int, Item | deque[bytes]] = OrderedDict()
        self._numbers = count()
        self._bounded = self._bounded_bytes = 0
        """How many of those that wait count, and how large they are together."""
        self.coalesced = 0
        """How many items were left out, a newer one standing for them."""

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, item: Item) -> bool:
        """False, with the item left out, when too much waits."""
        for needless in (item.key, item.ends):
            if needless:
                self._leave_out(needless)
        if item.bounded:
            full = self._bounded >= self._max_messages
            if full or (self._bounded and self._bounded_bytes + len(item.payload) > self._max_bytes):
                return False
            self._bounded += 1
            self._bounded_bytes += len(item.payload)
        self._waiting[item.key or next(self._numbers)] = item
        return True

    def put_past(self, payloads: Iterable[bytes]) -> None:
        """What was said before the watch began: kept elsewhere all the same, so it does not count."""
        past = deque(payloads)
        if past:
            self._waiting[next(self._numbers)] = past

    def pop(self) -> bytes | None:
        """The next payload, or None."""
        if not self._waiting:
            return None
        key = next(iter(self._waiting))
        first = self._waiting[key]
        if isinstance(first, deque):
            payload = first.popleft()
            if not first:
                del self._waiting[key]
            return payload
        del self._waiting[key]
        self._count_out(first)
        return first.payload

    def clear(self) -> None:
        self._waiting.clear()
        self._bounded = self._bounded_bytes = 0

    def _leave_out(self, key: str) -> None:
        older = self._waiting.pop(key, None)
        if isinstance(older, Item):
            self._count_out(older)
            self.coalesced += 1

    def _count_out(self, item: Item) -> None:
        if item.bounded:
            self._bounded -= 1
            self._bounded_bytes -= len(item.payload)


class WatchLine:
    """A watcher's queue and what empties it. Putting something in never waits."""

    def __init__(self, connection: ServerConnection, limits: DoorLimits, on_sent: Callable[[int, int], None]) -> None:
        """`on_sent` hears, when the line has run empty, how many were sent and how many left out since."""
        self._connection = connection
        self._limits = limits
        self._on_sent = on_sent
        self._queue = WatchQueue(limits.max_queued_messages, limits.max_queued_bytes)
        self._wake = asyncio.Event()
        self._closing = False
        self._close_code, self._close_reason = 1000, ""
        self.cut_off_for = ""
        """The code by which the peer was cut off, if it was."""
        self._writer = asyncio.get_running_loop().create_task(self._write())

    def put(self, item: Item) -> None:
        if self._closing:
            return
        if self._queue.put(item):
            self._wake.set()
        else:
            text = f"{len(self._queue)} messages wait to be read; watch again from the last `seq` you have"
            fault = WatchFault("too_slow", text)
            self.cut_off(fault, self._limits.slow_reader_grace_s)

    def put_past(self, payloads: Iterable[bytes]) -> None:
        if not self._closing:
            self._queue.put_past(payloads)
            self._wake.set()

    def close(self, code: int, reason: str) -> None:
        """Send what waits, then close."""
        if not self._closing:
            self._closing = True
            self._close_code, self._close_reason = code, reason
            self._wake.set()

    def cut_off(self, fault: WatchFault, grace_s: float) -> None:
        """Drop what waits, and say why: a peer that does not read it within `grace_s` seconds is cut all the same."""
        if self._closing:
            return
        log.warning("watcher_cut_off", code=fault.code, remote=str(self._connection.remote_address))
        self._closing = True
        self.cut_off_for = fault.code
        self._queue.clear()
        self._writer.cancel()
        self._writer = asyncio.get_running_loop().create_task(self._part(fault, grace_s))

    async def finished(self) -> None:
        """Return once what waited before `close` is sent, or the peer is gone or too slow."""
        self.close(1000, "")
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._writer
        except TimeoutError:
            self._connection.transport.abort()

    async def _write(self) -> None:
        try:
            while not self._closing or len(self._queue):
                sent = 0
                while (payload := self._queue.pop()) is not None:
                    await self._connection.send(payload, text=True)
                    sent += 1
                self._on_sent(sent, self._queue.coalesced)
                self._queue.coalesced = 0
                self._wake.clear()
                if not self._closing:
                    await self._wake.wait()
            await self._connection.close(self._close_code, self._close_reason)
        except ConnectionClosed:
            self._closing = True

    async def _part(self, fault: WatchFault, grace_s: float) -> None:
        try:
            async with asyncio.timeout(grace_s):
                await self._connection.send(told_of(fault), text=True)
                await self._connection.close(fault.entry.close or 1008, fault.code)
        except (ConnectionClosed, TimeoutError):
            pass
        finally:
            self._connection.transport.abort()


def told_of(fault: WatchFault) -> bytes:
    """A fault as the message that tells the watcher."""
    return msgspec.json.encode(fault.told())
