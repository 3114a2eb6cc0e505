"""A connection of the native socket that counts what comes, and a keep-alive that knows when it cannot hear."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.version import version

from gateway.doors.frames import MASK_BYTES, FrameCutter, Payload, text_frame
from gateway.doors.limits import BURST_S, DoorLimits
from gateway.doors.strangers import Strangers
from gateway.tickets import Ticket
from gateway.token_bucket import TokenBucket
from protocol.codec import MAX_MESSAGE_BYTES

log = structlog.get_logger(__name__)

_DATA = (Opcode.BINARY, Opcode.CONT)
_CLOSE_TIMEOUT_S = 1.0
_SLICE_BYTES = 8192
_END_OF_REQUEST = b"\r\n\r\n"


class NativeConnection(ServerConnection):
    """Takes audio on a short way, and tells a flood from a call where frames are parsed.

    The library makes each frame an object, queues it and wakes a task, which costs more than all else a packet of a
    call costs. So whole masked binary frames are offered to `on_audio` as they come; every other byte, and whatever
    is refused there, is the library's, which alone knows states, fragments, control frames and faults.
    """

    def __init__(self, *arguments: Any, limits: DoorLimits, strangers: Strangers, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.tiny_bytes: int | None = None
        """A binary frame with fewer bytes counts as tiny; None: every frame does."""
        self.on_flood: Callable[[], None] = self.cut
        """Called once, when far too many frames have come; nothing more is taken from then on."""
        self.on_audio: Callable[[bytes, int], bool] | None = None
        """Offered each whole binary frame that is next in line, with the length of its header, in place of a message;
        False: make it a message."""
        self._alike: list[bytes] | None = None
        """Where audio goes that comes in frames of the same shape as the last; see `take_alike`."""
        self._alike_head = b""
        self._alike_bytes = self._most_alike = 0
        self._on_most_alike: Callable[[], None] = self.cut
        self.ticket: Ticket | None = None
        """What the peer came in by, if it was a ticket: it may do that and no more."""
        self._frames: FrameCutter | None = None
        self._last_bytes = b""
        self._strangers = strangers
        rate = limits.max_messages_per_s
        self._allowance = TokenBucket(rate, rate * BURST_S, self.loop.time())
        self._flooded = False

    def cut(self) -> None:
        self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._strangers.enter(self)
        self.has_shortcut = _library_is_as_we_know_it(self)
        """Whether `on_audio` will be offered anything, and `takes_text` can tell."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._strangers.leave(self)
        super().connection_lost(exc)

    def take_alike(self, frames: list[bytes], header_bytes: int, most: int, on_most: Callable[[], None]) -> None:
        """Put what comes next into `frames`, without another word, as long as it is a frame of the last one's shape;
        at `most` frames call `on_most`. Anything else that comes ends it, and so does `take_no_more`.

        For `on_audio`, which says by calling this that it would take them all.
        """
        self._alike_head, self._alike_bytes = frames[-1][: header_bytes - MASK_BYTES], len(frames[-1])
        self._alike, self._most_alike, self._on_most_alike = frames, most, on_most

    def take_on(self, frames: list[bytes]) -> None:
        """Go on with what `take_alike` began, if nothing has ended it, into another list."""
        if self._alike is not None:
            self._alike = frames

    def take_no_more(self) -> None:
        self._alike = None

    def data_received(self, data: bytes) -> None:
        alike = self._alike
        if alike is not None:
            # Of the same length, with the same length in its header: whole as that one was.
            if len(data) == self._alike_bytes and data.startswith(self._alike_head):
                alike.append(data)
                if len(alike) >= self._most_alike:
                    self._on_most_alike()
                return
            self._alike = None
        if self._frames is None:
            data = self._after_request(data)
        elif header_bytes := self._frames.whole(data):
            if not self._heard(data, header_bytes):
                self._parse(data)
            return
        if self._frames is not None and data:
            for piece in self._frames.cut(data):
                if isinstance(piece, Payload):
                    if not self._heard(piece.frame, piece.header_bytes):
                        self._parse(piece.frame)
                else:
                    self._parse(piece)
            self._alike = None  # what comes next may go on within a frame

    def eof_received(self) -> None:
        if self._frames is not None:
            self._parse(self._frames.rest())
        super().eof_received()

    def _after_request(self, data: bytes) -> bytes:
        """Hand the bytes of the upgrade request to the library; frames begin behind its empty line."""
        seen = self._last_bytes + data
        end = seen.find(_END_OF_REQUEST)
        if end < 0:
            self._last_bytes = seen[1 - len(_END_OF_REQUEST) :]
            self._parse(data)
            return b""
        request_bytes = end + len(_END_OF_REQUEST) - len(self._last_bytes)
        self._parse(data[:request_bytes])
        self._frames = FrameCutter(MAX_MESSAGE_BYTES)
        return data[request_bytes:]

    def _heard(self, frame: bytes, header_bytes: int) -> bool:
        """Whether the frame's audio was taken at once: nothing that came before it is still to be read."""
        on_audio = self.on_audio
        if on_audio is None or self._flooded or self.tiny_bytes is None or len(frame) - header_bytes < self.tiny_bytes:
            return False
        protocol = self.protocol
        if protocol.state is not State.OPEN or protocol.current_size is not None or len(self.recv_messages.frames):
            return False
        return on_audio(frame, header_bytes)

    @property
    def takes_text(self) -> bool:
        """Whether `send_text` may be called: nothing written earlier waits for the peer to read."""
        return not self.paused and self.protocol.state is State.OPEN and not self.transport.is_closing()

    def send_text(self, payload: bytes) -> None:
        """Send a text message at once, past the library, which would do no more with it than this.

        Never while `send` of the library is under way.
        """
        self.transport.write(text_frame(payload))

    def _parse(self, data: bytes) -> None:
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


def _library_is_as_we_know_it(connection: ServerConnection) -> bool:
    """Whether the library still shows what tells that nothing is waiting before a frame: these are its inner parts."""
    known = (
        hasattr(connection.protocol, "current_size")
        and hasattr(connection.recv_messages, "frames")
        and hasattr(connection, "paused")
    )
    if not known:
        log.warning("audio_takes_the_long_way", reason=f"websockets {version} is built differently; calls cost more")
    return known


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
