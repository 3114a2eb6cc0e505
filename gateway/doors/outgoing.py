"""What waits to be sent on one socket: bounded, so that a slow reader costs nothing but its own socket."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

import structlog
from websockets.exceptions import ConnectionClosed

from gateway.doors.connection import NativeConnection
from gateway.doors.limits import DoorLimits
from protocol.errors import ProtocolError

log = structlog.get_logger(__name__)

CLOSE_TIMEOUT_S = 10.0


class Outgoing:
    """A session's Sink on a `websockets` connection.

    While the peer reads, a message is written where it is sent; what it does not read waits here, for a task that is
    there as long as something waits.
    """

    def __init__(
        self, connection: NativeConnection, limits: DoorLimits, last_words: Callable[[ProtocolError], bytes]
    ) -> None:
        """`last_words` makes the error that tells a client why it was cut off."""
        self._connection = connection
        self._limits = limits
        self._last_words = last_words
        self._queue: deque[bytes | Sequence[bytes]] = deque()
        self._queued_bytes = 0
        self._closing = False
        self._close_code, self._close_reason = 1000, ""
        self._writer: asyncio.Task[None] | None = None

    def send(self, payload: bytes) -> None:
        if self._closing:
            return
        if self._writer is None and self._connection.takes_text:
            self._connection.send_text(payload)
            return
        limits = self._limits
        if len(self._queue) >= limits.max_queued_messages or self._queued_bytes > limits.max_queued_bytes:
            waiting = f"{len(self._queue)} messages, {self._queued_bytes} bytes"
            fault = ProtocolError("too_slow", f"{waiting} wait to be read; `resume` brings them")
            self.cut_off(fault, limits.slow_reader_grace_s)
            return
        self._queue.append(payload)
        self._queued_bytes += len(payload)
        self._wake()

    def send_again(self, payloads: Sequence[bytes]) -> None:
        """Send what a client has missed: kept elsewhere all the same, so however much it is, it does not count."""
        if not self._closing and payloads:
            self._queue.append(payloads)
            self._wake()

    def close(self, code: int, reason: str) -> None:
        if not self._closing:
            self._closing = True
            self._close_code, self._close_reason = code, reason
            self._wake()

    def _wake(self) -> None:
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write())

    def cut_off(self, fault: ProtocolError, grace_s: float) -> None:
        """Drop what waits, and say why: a peer that does not read it within `grace_s` seconds is cut all the same."""
        if self._closing:
            return
        log.warning("client_cut_off", code=fault.code, remote=str(self._connection.remote_address), reason=str(fault))
        self._closing = True
        self._queue.clear()
        if self._writer is not None:
            self._writer.cancel()
        self._writer = asyncio.get_running_loop().create_task(self._part(fault, grace_s))

    async def finished(self) -> None:
        """Return once what was queued before `close` is sent, or the peer is gone or too slow."""
        self.close(1000, "")
        assert self._writer is not None, "closing takes a task"
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._writer
        except TimeoutError:
            self._connection.transport.abort()

    async def _write(self) -> None:
        try:
            while self._queue:
                await self._send(self._queue.popleft())
            if self._closing:
                await self._connection.close(self._close_code, self._close_reason)
            else:
                self._writer = None
        except ConnectionClosed:
            self._closing = True

    async def _send(self, queued: bytes | Sequence[bytes]) -> None:
        if isinstance(queued, bytes):
            self._queued_bytes -= len(queued)
            await self._connection.send(queued, text=True)
            return
        for payload in queued:
            await self._connection.send(payload, text=True)

    async def _part(self, fault: ProtocolError, grace_s: float) -> None:
        try:
            async with asyncio.timeout(grace_s):
                await self._connection.send(self._last_words(fault), text=True)
                await self._connection.close(fault.entry.close or 1008, fault.code)
        except (ConnectionClosed, TimeoutError):
            pass
        finally:
            self._connection.transport.abort()
