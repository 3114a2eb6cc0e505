"""What waits to be sent on one socket: bounded, so that a slow reader costs nothing but its own socket."""

from __future__ import annotations

import asyncio

import structlog
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

log = structlog.get_logger(__name__)

MAX_QUEUED = 4096
"""Messages; a client this far behind is cut off and may resume, where it gets what it missed."""
CLOSE_TIMEOUT_S = 10.0


class Outgoing:
    """A session's Sink on a `websockets` connection."""

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._closing = False
        self._close_code, self._close_reason = 1000, ""
        self._writer = asyncio.get_running_loop().create_task(self._write())

    def send(self, payload: bytes) -> None:
        if self._closing:
            return
        if self._queue.qsize() >= MAX_QUEUED:
            log.warning("slow_reader_cut_off", remote=str(self._connection.remote_address))
            self._closing = True
            self._connection.transport.abort()
            return
        self._queue.put_nowait(payload)

    def close(self, code: int, reason: str) -> None:
        if not self._closing:
            self._closing = True
            self._close_code, self._close_reason = code, reason
            self._queue.put_nowait(None)

    async def finished(self) -> None:
        """Return once what was queued before `close` is sent, or the peer is gone or too slow."""
        self.close(1000, "")
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._writer
        except TimeoutError:
            self._connection.transport.abort()

    async def _write(self) -> None:
        try:
            while (payload := await self._queue.get()) is not None:
                await self._connection.send(payload, text=True)
            await self._connection.close(self._close_code, self._close_reason)
        except ConnectionClosed:
            self._closing = True
