"""A connection of the native socket that counts what comes, and a keep-alive that knows when it cannot hear."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.http11 import Request

from gateway.doors.limits import BURST_S, DoorLimits
from gateway.doors.strangers import Strangers
from gateway.token_bucket import TokenBucket

_DATA = (Opcode.BINARY, Opcode.CONT)
_CLOSE_TIMEOUT_S = 1.0
_SLICE_BYTES = 8192


class NativeConnection(ServerConnection):
    """Tells a flood from a call where frames are parsed: the library answers pings by itself, and queues the rest."""

    def __init__(self, *arguments: Any, limits: DoorLimits, strangers: Strangers, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.tiny_bytes: int | None = None
        """A binary frame with fewer bytes counts as tiny; None: every frame does."""
        self.on_flood: Callable[[], None] = self.cut
        """Called once, when far too many frames have come; nothing more is taken from then on."""
        self._strangers = strangers
        rate = limits.max_messages_per_s
        self._allowance = TokenBucket(rate, rate * BURST_S, self.loop.time())
        self._flooded = False

    def cut(self) -> None:
        self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._strangers.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._strangers.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        # In slices: the library parses all it is given at a stretch, and a quarter of a MiB of tiny frames takes it a
        # good part of a second. After a flood we read on, or the reason would never reach a peer that is still
        # sending; but look at nothing.
        for begin in range(0, len(data), _SLICE_BYTES):
            if self._flooded:
                return
            super().data_received(data[begin : begin + _SLICE_BYTES])

    def process_event(self, event: Any) -> None:
        if isinstance(event, Request):
            self._strangers.leave(self)
        elif isinstance(event, Frame) and not self._flooded and self._is_too_much(event):
            self._flooded = True
            self.on_flood()
        if not self._flooded:
            super().process_event(event)

    def _is_too_much(self, frame: Frame) -> bool:
        tiny = self.tiny_bytes is None or frame.opcode not in _DATA or len(frame.data) < self.tiny_bytes
        return tiny and not self._allowance.take(1, self.loop.time())


async def keep_alive(connection: ServerConnection, limits: DoorLimits, held: Callable[[], bool]) -> None:
    """Ping the peer, and close with 1011 when it does not answer. Returns when the connection is gone.

    While `held`, nothing is read from the socket: an answer could not be heard, so none is missed.
    """
    try:
        while True:
            await asyncio.sleep(limits.ping_interval_s)
            if not await _answered(connection, limits.ping_timeout_s, held):
                break
        async with asyncio.timeout(_CLOSE_TIMEOUT_S):
            await connection.close(1011, "keepalive ping timeout")
    except (ConnectionClosed, TimeoutError):
        pass
    connection.transport.abort()


async def _answered(connection: ServerConnection, timeout_s: float, held: Callable[[], bool]) -> bool:
    """Whether a ping came back. A peer that reads nothing does not even take the ping."""
    pong: asyncio.Future[float] | None = None
    while True:
        try:
            async with asyncio.timeout(timeout_s):
                if pong is None:
                    pong = asyncio.ensure_future(await connection.ping())
                await asyncio.shield(pong)
                return True
        except TimeoutError:
            if not held():
                return False
