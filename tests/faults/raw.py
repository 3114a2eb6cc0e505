"""A WebSocket client without manners: frames by hand, bad ones too, which no library would send. After RFC 6455."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import struct
import time
import zlib
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import urlsplit

import msgspec

from protocol.codec import SUBPROTOCOL
from protocol.voiceprint import signed_headers
from tests.faults.servers import APP_ID, SECRET

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
GONE: Final = 1006
"""No close frame came: the connection was cut."""
PATIENCE_S = 30
"""For what must come on a machine under load; who waits this long has failed."""
Headers = Sequence[tuple[str, str]]


def signed() -> Headers:
    return tuple(signed_headers(APP_ID, SECRET, time.time()).items())


OFFER: Headers = (("Sec-WebSocket-Protocol", SUBPROTOCOL),)


@dataclass(frozen=True)
class Answer:
    """The HTTP answer to an upgrade."""

    status: int
    headers: dict[str, str]
    body: bytes


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    final: bool = True,
    masked: bool = True,
    reserved: int = 0,
    claims_bytes: int | None = None,
) -> bytes:
    """One frame. `reserved` are RSV1 to 3 as a number of three bits; `claims_bytes` is the length in the header, where
    it is not the payload's."""
    length = len(payload) if claims_bytes is None else claims_bytes
    head = bytes([final << 7 | reserved << 4 | opcode])
    mask_bit = masked << 7
    if length < 126:
        head += bytes([mask_bit | length])
    elif length < 1 << 16:
        head += struct.pack("!BH", mask_bit | 126, length)
    else:
        head += struct.pack("!BQ", mask_bit | 127, length)
    # A mask of zeros is a mask: the payload stays as it is.
    return head + (bytes(4) if masked else b"") + payload


@dataclass
class RawSocket:
    """A connection after its upgrade, or after the refusal of it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    answer: Answer
    texts: list[dict[str, object]] = field(default_factory=list)
    """Every text message read so far."""
    answers_pings: bool = True

    async def send(self, data: bytes) -> None:
        """Bytes as they are. Raises ConnectionError when the server has cut the connection."""
        self.writer.write(data)
        await self.writer.drain()

    async def tell(self, **message: object) -> None:
        """A control message, well-formed."""
        await self.send(frame(TEXT, msgspec.json.encode(message)))

    async def start(self, **fields: object) -> dict[str, object]:
        """Begin a call of 8 kHz; what `started` says."""
        await self.tell(type="start", **{"rate": 8000, "channels": 1, "language": "en", **fields})
        return await self.until("started")

    async def until(self, kind: str, *, patience_s: float = PATIENCE_S, **having: object) -> dict[str, object]:
        """Read up to the first message of the type whose fields are as given. AssertionError if the socket closes."""
        async with asyncio.timeout(patience_s):
            while True:
                opcode, payload = await self._read_frame()
                assert opcode != CLOSE, f"closed {_close_code(payload)} before {kind}; came: {self.texts}"
                if opcode == TEXT:
                    message = self.texts[-1]
                    if message["type"] == kind and having.items() <= message.items():
                        return message

    async def ends(self) -> int:
        """Hang up and read to the end: the close code. A server that has closed already does not hear it."""
        with suppress(ConnectionError):
            await self.tell(type="hangup", wait_qc_ms=0)
        return await self.closed()

    async def closed(self, patience_s: float = PATIENCE_S) -> int:
        """Read to the end: the close code, or GONE. Raises TimeoutError."""
        async with asyncio.timeout(patience_s):
            try:
                while True:
                    opcode, payload = await self._read_frame()
                    if opcode == CLOSE:
                        return _close_code(payload)
            except (asyncio.IncompleteReadError, ConnectionError):
                return GONE

    @property
    def error_codes(self) -> list[object]:
        """Those of the `error` messages read so far."""
        return [message["code"] for message in self.texts if message["type"] == "error"]

    def cut(self) -> None:
        """Gone, without a word."""
        self.writer.transport.abort()

    async def _read_frame(self) -> tuple[int, bytes]:
        first, length = await self.reader.readexactly(2)
        if length == 126:
            (length,) = struct.unpack("!H", await self.reader.readexactly(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", await self.reader.readexactly(8))
        opcode, payload = first & 15, await self.reader.readexactly(length)
        if first & 0x40:
            payload = zlib.decompressobj(wbits=-15).decompress(payload + b"\0\0\xff\xff")
        if opcode == TEXT:
            self.texts.append(msgspec.json.decode(payload))
        elif opcode == PING and self.answers_pings:
            self.writer.write(frame(PONG, payload))
        return opcode, payload

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()


async def upgrade(
    url: str, headers: Headers | None = None, *, receive_buffer_bytes: int = 0, target: str = "", host: str = ""
) -> RawSocket:
    """Ask for a WebSocket at `url` (ws://); `headers` default to good credentials and subprotocol.

    `target` stands in for the URL's path, `host` for its Host header. Whether it was granted is in `answer`.
    """
    parts = urlsplit(url)
    assert parts.hostname is not None
    plain = socket.socket()
    if receive_buffer_bytes:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    plain.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plain, (parts.hostname, parts.port))
    reader, writer = await asyncio.open_connection(sock=plain, limit=1 << 16)
    lines = [
        f"GET {target or parts.path} HTTP/1.1",
        f"Host: {host or parts.netloc}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
        "Sec-WebSocket-Version: 13",
        *(f"{name}: {value}" for name, value in (headers if headers is not None else (*signed(), *OFFER))),
    ]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape"))
    async with asyncio.timeout(PATIENCE_S):
        answer = await _read_answer(reader)
    return RawSocket(reader, writer, answer)


@asynccontextmanager
async def started_call(url: str, **fields: object) -> AsyncIterator[RawSocket]:
    """A connection on which a call of 8 kHz has begun."""
    async with await upgrade(url) as wire:
        await wire.start(**fields)
        yield wire


def fragments(opcode: int, parts: Iterable[bytes]) -> bytes:
    """One message, a frame for each part."""
    cut = list(parts)
    return b"".join(
        frame(CONTINUATION if at else opcode, part, final=at == len(cut) - 1) for at, part in enumerate(cut)
    )


async def _read_answer(reader: asyncio.StreamReader) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Answer(int(head[0].split()[1]), headers, body)


def _close_code(payload: bytes) -> int:
    return int.from_bytes(payload[:2]) if payload else 1005
