"""A server that only counts: takes calls' audio, acknowledges it ten times a second, and does nothing else.

Against it `python -m loadtest cost` measures what the harness itself costs. Run as a module it prints its port.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import struct
import sys
from typing import Final, cast

import msgspec
import uvloop

from loadtest.softphones.frames import BINARY, CLOSE, TEXT
from protocol.audio import AudioFormat
from protocol.codec import SUBPROTOCOL, encode
from protocol.messages import Ack, Ended, Hangup, ServerMessage, Start, Started

ACK_EVERY_S: Final = 0.1


class Sink(asyncio.Protocol):
    """One call."""

    calls: Final[set[Sink]] = set()

    def __init__(self) -> None:
        self._rest = b""
        self._upgraded = False
        self._bytes = self._acked = 0
        self._width = 1
        self._seq = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.discard(self)

    def data_received(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        if not self._upgraded:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self._rest = head
                return
            self._upgrade(head)
        at = 0
        while (frame := _frame(data, at)) is not None:
            opcode, begin, end_at = frame
            if opcode == BINARY:
                self._bytes += end_at - begin
            elif opcode == TEXT:
                self._control(masked_with(data[begin - 4 : begin], data[begin:end_at]))
            elif opcode == CLOSE:
                self._transport.close()
            at = end_at
        self._rest = data[at:]

    def acknowledge(self) -> None:
        if self._bytes != self._acked:
            self._acked = self._bytes
            self._say(Ack(seq=self._next(), samples=self._bytes // self._width))

    def _upgrade(self, head: bytes) -> None:
        key = next((line for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:")), None)
        if key is None:  # who asks for metrics
            self._transport.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            self._transport.close()
            return
        digest = hashlib.sha1(key.split(b":")[1].strip() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11")  # noqa: S324 - RFC 6455
        accept = base64.b64encode(digest.digest()).decode()
        self._transport.write(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n".encode()
        )
        self._upgraded = True

    def _control(self, text: bytes) -> None:
        match msgspec.json.decode(text, type=Start | Hangup):
            case Start(encoding=encoding, rate=rate, channels=channels):
                self._width = AudioFormat(encoding, rate, channels).bytes_per_instant
                self._say(
                    Started(
                        call_id=f"sink-{id(self)}",
                        seq=self._next(),
                        resume_token="",
                        resume_window_s=0,
                        rate=rate,
                        channels=channels,
                        limits={},
                    )
                )
                self.calls.add(self)
            case Hangup():
                self.acknowledge()
                samples = self._bytes // self._width
                self._say(Ended(seq=self._next(), samples=samples, duration_ms=0, reason="hangup"))

    def _next(self) -> int:
        self._seq += 1
        return self._seq

    def _say(self, message: ServerMessage) -> None:
        payload = encode(message)
        head = bytes((0x81, len(payload))) if len(payload) < 126 else struct.pack("!BBH", 0x81, 126, len(payload))
        self._transport.write(head + payload)


def _frame(data: bytes, at: int) -> tuple[int, int, int] | None:
    """Opcode of the masked frame at `at`, where its payload begins and ends; None while it is not whole."""
    if len(data) - at < 6:
        return None
    length, begin = data[at + 1] & 0x7F, at + 6
    if length > 125:
        width = 2 if length == 126 else 8
        begin += width
        length = int.from_bytes(data[at + 2 : at + 2 + width])
    return (data[at] & 0x0F, begin, begin + length) if len(data) >= begin + length else None


def masked_with(key: bytes, payload: bytes) -> bytes:
    """The payload under any key."""
    return bytes(byte ^ key[at % 4] for at, byte in enumerate(payload))


async def serve() -> None:
    """Until standard input ends: nobody outlives who started it."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Sink, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    while not ended.is_set():
        for call in list(Sink.calls):
            call.acknowledge()
        await asyncio.sleep(ACK_EVERY_S)
    server.close()


if __name__ == "__main__":
    uvloop.run(serve())
