"""WebSocket frames (RFC 6455) as a load generator needs them: ours made ahead, the server's taken apart cheaply."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

import numpy as np

TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA
MASK: Final = b"\x5a\xc3\x96\x3c"
"""One key for every frame, so that a frame can be made once for all calls. The key protects proxies from what web pages
send (RFC 6455, 10.3), which is no matter here; the server unmasks it like any other."""
_FINAL, _OPCODE, _MASKED = 0x80, 0x0F, 0x80


class BadFrame(Exception):
    """What came is no frame of a WebSocket server."""


def client_frame(opcode: int, payload: bytes) -> bytes:
    """A whole frame as a client sends it, masked with `MASK`."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", _FINAL | opcode, _MASKED | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", _FINAL | opcode, _MASKED | 126, size)
    else:
        head = struct.pack("!BBQ", _FINAL | opcode, _MASKED | 127, size)
    return head + MASK + masked(payload)


def masked(payload: bytes) -> bytes:
    """The payload under `MASK`; twice gives it back."""
    key = np.resize(np.frombuffer(MASK, np.uint8), len(payload))
    return (np.frombuffer(payload, np.uint8) ^ key).tobytes()


class ServerFrames:
    """Takes a server's bytes as they come and hands on whole messages: `on_message(opcode, payload)`."""

    def __init__(self, on_message: Callable[[int, bytes], None]) -> None:
        self._on_message = on_message
        self._rest = b""
        self._opcode = 0
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> None:
        """Take the next bytes. Raises BadFrame; what came before it was handed on."""
        if not self._rest and len(data) > 1 and data[0] == _FINAL | TEXT and data[1] == len(data) - 2 < 126:
            self._on_message(TEXT, data[2:])  # one short text and nothing else: nearly always
            return
        if self._rest:
            data = self._rest + data
        at, size = 0, len(data)
        while size - at >= 2:
            second = data[at + 1]
            begin, length = at + 2, second & 0x7F
            if length > 125:
                width = 2 if length == 126 else 8
                if size - begin < width:
                    break
                length = int.from_bytes(data[begin : begin + width])
                begin += width
            if second & _MASKED or data[at] & 0x70:
                raise BadFrame(
                    f"a frame that begins with {data[at : at + 2].hex()}; a server masks and reserves nothing"
                )
            if size - begin < length:
                break
            self._take(data[at], data[begin : begin + length])
            at = begin + length
        self._rest = data[at:]

    def _take(self, first: int, payload: bytes) -> None:
        opcode = first & _OPCODE
        if opcode >= CLOSE:
            self._on_message(opcode, payload)
            return
        if bool(opcode) is bool(self._opcode):
            raise BadFrame(f"opcode {opcode} {'inside' if self._opcode else 'without'} a fragmented message")
        if opcode and first & _FINAL:
            self._on_message(opcode, payload)
            return
        self._opcode = opcode or self._opcode
        self._parts.append(payload)
        if first & _FINAL:
            whole, opcode = b"".join(self._parts), self._opcode
            self._parts, self._opcode = [], 0
            self._on_message(opcode, whole)
