"""A WebSocket as cheap as Python has it: a bare protocol on uvloop, and frames made ahead, handed to the system."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import ssl
import time
from dataclasses import dataclass
from typing import ClassVar, Final, cast
from urllib.parse import urlsplit

import msgspec

from loadtest.softphones.frames import CLOSE, PING, PONG, TEXT, BadFrame, ServerFrames, client_frame
from protocol.voiceprint import signed_headers

_KEY: Final = base64.b64encode(b"earshot loadtest").decode()
_ACCEPT: Final = base64.b64encode(
    hashlib.sha1(f"{_KEY}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode(), usedforsecurity=False).digest()
)
"""What a WebSocket server answers to that key (RFC 6455, 4.2.2)."""
_MOST_HEAD_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Target:
    """A server to be loaded, and as whom."""

    url: str
    """ws(s)://host:port/v1/calls"""
    app_id: str
    secret: str

    @property
    def secure(self) -> bool:
        return urlsplit(self.url).scheme == "wss"

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or (443 if self.secure else 80)

    def at(self, path: str) -> Target:
        """The same server at another path."""
        return Target(urlsplit(self.url)._replace(path=path).geturl(), self.app_id, self.secret)


class Socket(asyncio.Protocol):
    """One connection. A subclass says what happens when it is open, when text comes, and when it is over."""

    subprotocol: ClassVar[str]
    _clock = staticmethod(time.monotonic)

    def __init__(self, target: Target) -> None:
        self.target = target
        self._transport: asyncio.Transport | None = None
        self._head: bytearray | None = bytearray()
        self._frames = ServerFrames(self._on_message)
        self._descriptor = -1
        self.closed = False
        """Nothing is sent any more."""
        self._close_reason = ""

    # --- what a subclass fills in ---

    def opened(self, now_s: float) -> None:
        """The handshake is done."""
        raise NotImplementedError

    def heard(self, text: bytes) -> None:
        """A text message came."""
        raise NotImplementedError

    def lost(self, reason: str, *, refused: bool = False) -> None:
        """The connection is over. `refused`: it never came to be, by the server's decision."""
        raise NotImplementedError

    # --- sending ---

    def write(self, frame: bytes) -> None:
        """Send a frame, or what is left of it when the system takes no more; nothing once the socket is closed."""
        transport = self._transport
        if transport is None or self.closed or transport.is_closing():
            return
        if self._descriptor < 0 or transport.get_write_buffer_size():
            transport.write(frame)
            return
        try:
            taken = os.write(self._descriptor, frame)  # a third of what the transport's own write costs
        except BlockingIOError:
            taken = 0
        except OSError:
            return  # `connection_lost` follows and says why
        if taken < len(frame):
            transport.write(frame[taken:])

    def say(self, message: msgspec.Struct) -> None:
        self.write(client_frame(TEXT, msgspec.json.encode(message)))

    def close(self) -> None:
        """Say goodbye and let go."""
        if not self.closed:
            self.write(client_frame(CLOSE, b"\x03\xe8"))
            self.closed = True
            if self._transport is not None:
                self._transport.close()

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)  # uvloop's own is no subclass
        if transport.get_extra_info("sslcontext") is None:
            self._descriptor = transport.get_extra_info("socket").fileno()
        target = self.target
        host, port = target.address
        headers = {
            "Host": f"{f'[{host}]' if ':' in host else host}:{port}",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": _KEY,
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Protocol": self.subprotocol,
            **signed_headers(target.app_id, target.secret, time.time()),
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        transport.write(f"GET {urlsplit(target.url).path} HTTP/1.1\r\n{lines}\r\n".encode())

    def data_received(self, data: bytes) -> None:
        if self._head is not None:
            rest = self._answered(data)
            if not rest:
                return
            data = rest
        try:
            self._frames.feed(data)
        except BadFrame as fault:
            self._give_up(f"the server broke the protocol: {fault}")

    def connection_lost(self, exc: Exception | None) -> None:
        was_closed, self.closed = self.closed, True
        self._descriptor = -1
        if not was_closed:
            self.lost(self._close_reason or f"connection lost: {exc or 'closed without a word'}")

    def _answered(self, data: bytes) -> bytes:
        """The server's answer to the upgrade; what comes behind it."""
        head = self._head
        assert head is not None
        head += data
        end = head.find(b"\r\n\r\n")
        if end < 0:
            if len(head) > _MOST_HEAD_BYTES:
                self._give_up("what answers is no Earshot: no end of its headers")
            return b""
        if not head.startswith(b"HTTP/1.1 101"):
            self._refused(bytes(head[:end]), bytes(head[end + 4 :]))
            return b""
        if _ACCEPT not in head[:end]:
            self._give_up("what answers is no WebSocket server: its Sec-WebSocket-Accept is wrong")
            return b""
        self._head = None
        self.opened(self._clock())
        return bytes(head[end + 4 :])

    def _refused(self, head: bytes, body: bytes) -> None:
        status = head.split(b"\r\n", 1)[0].decode("latin-1")
        try:
            answer = msgspec.json.decode(body, type=dict[str, str])
        except msgspec.DecodeError:
            answer = {}
        self._give_up(answer.get("code", status), refused=True)

    def _give_up(self, reason: str, *, refused: bool = False) -> None:
        if not self.closed:
            self.closed = True
            if self._transport is not None:
                self._transport.abort()
            self.lost(reason, refused=refused)

    def _on_message(self, opcode: int, payload: bytes) -> None:
        if opcode == TEXT:
            self.heard(payload)
        elif opcode == PING:
            self.write(client_frame(PONG, payload))
        elif opcode == CLOSE:
            code = int.from_bytes(payload[:2]) if len(payload) > 1 else 1005
            self._close_reason = f"the server closed with {code} {payload[2:].decode('utf-8', 'replace')}".strip()


async def connect(socket: Socket, tls: ssl.SSLContext | None, address: tuple[str, int]) -> None:
    """Connect `socket` to `address`, its target's, looked up once for all. Raises OSError."""
    loop = asyncio.get_running_loop()
    if tls is None:
        await loop.create_connection(lambda: socket, *address)
    else:
        await loop.create_connection(lambda: socket, *address, ssl=tls, server_hostname=socket.target.address[0])
