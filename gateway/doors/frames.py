"""Finds whole masked binary frames in the bytes of a WebSocket (RFC 6455, 5.2), and leaves all else as it came."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

try:
    from websockets.speedups import apply_mask
except ImportError:  # no C extension on this platform
    from websockets.utils import apply_mask

_WHOLE_BINARY = 0x82
"""The first byte of a frame that is a binary message of its own, without extensions."""
_WHOLE_TEXT = 0x81
_MASKED = 0x80
_MASKED_16_BIT = 0xFE
"""The second byte of a frame whose length stands in the two that follow."""
MASK_BYTES = 4


@dataclass(frozen=True, slots=True)
class Payload:
    """A whole masked binary frame as it came."""

    frame: bytes
    header_bytes: int

    @property
    def size_bytes(self) -> int:
        return len(self.frame) - self.header_bytes

    def data(self) -> bytes:
        """What was sent, without the mask."""
        return payload_of(self.frame, self.header_bytes)


def payload_of(frame: bytes, header_bytes: int) -> bytes:
    """What was sent in a whole masked frame, without the mask."""
    return apply_mask(frame[header_bytes:], frame[header_bytes - MASK_BYTES : header_bytes])


def payloads_of(frames: Iterable[bytes]) -> list[bytes]:
    """What was sent in whole masked frames, without their masks."""
    return [
        apply_mask(frame[8:], frame[4:8]) if frame[1] == _MASKED_16_BIT else payload_of(frame, _measured(frame, 0)[0])
        for frame in frames
    ]


def text_frame(payload: bytes) -> bytes:
    """A whole text frame as a server sends it: UTF-8, without a mask."""
    size_bytes = len(payload)
    if size_bytes < 126:
        return bytes((_WHOLE_TEXT, size_bytes)) + payload
    if size_bytes < 65_536:
        return bytes((_WHOLE_TEXT, 126)) + size_bytes.to_bytes(2) + payload
    return bytes((_WHOLE_TEXT, 127)) + size_bytes.to_bytes(8) + payload


class FrameCutter:
    """Cuts a stream of frames that begins at the first byte it is given.

    The pieces in their order are the stream. Of a whole masked binary frame not even a part of the header leaves early;
    every other byte leaves at once, so a parser behind this finds faults when it would have found them.
    """

    def __init__(self, max_bytes: int) -> None:
        """Frames with more than `max_bytes` of payload are not taken for whole ones."""
        self._max_bytes = max_bytes
        self._owed_bytes = 0
        """Of a frame that has begun to leave, what is still to come."""
        self._header = b""
        """The begin of a header that is not whole yet."""
        self._left_bytes = 0
        """How much of it has left."""

    def whole(self, data: bytes) -> int:
        """The header's length if `data` is one whole masked binary frame and nothing else; 0 if it has to be `cut`.

        One that is whole leaves nothing behind. Most packets of most calls are that.
        """
        if self._owed_bytes or self._header or len(data) < 8 or data[0] != _WHOLE_BINARY:
            return 0
        second = data[1]
        if second == 0xFE:
            header_bytes, payload_bytes = 8, data[2] << 8 | data[3]
        elif _MASKED <= second < 0xFE:
            header_bytes, payload_bytes = 6, second - _MASKED
        else:
            return 0
        return header_bytes if len(data) == header_bytes + payload_bytes and payload_bytes <= self._max_bytes else 0

    def rest(self) -> bytes:
        """At the end of the stream: what has not left."""
        rest, self._header = self._header[self._left_bytes :], b""
        return rest

    def cut(self, data: bytes) -> Iterator[Payload | bytes]:
        """What leaves now that `data` has come."""
        begin = self._left_bytes
        data, self._header, self._left_bytes = self._header + data, b"", 0
        at, size = self._owed_bytes, len(data)
        while at < size:
            header_bytes, payload_bytes = _measured(data, at)
            if header_bytes == 0:
                self._header = data[at:]
                break
            end = at + header_bytes + payload_bytes
            if end <= size and payload_bytes <= self._max_bytes and _may_be_whole(data, at):
                if begin < at:
                    yield data[begin:at]
                yield Payload(data[at:end], header_bytes)
                begin = end
            at = end
        self._owed_bytes = max(0, at - size)
        if self._header and _may_be_whole(data, at):
            size = at
        elif self._header:
            self._left_bytes = size - at
        if begin < size:
            yield data[begin:size]


def _may_be_whole(data: bytes, at: int) -> bool:
    return data[at] == _WHOLE_BINARY and (at + 1 == len(data) or data[at + 1] >= _MASKED)


def _measured(data: bytes, at: int) -> tuple[int, int]:
    """How many bytes the header and the payload of the frame at `at` have; (0, 0) when its header is not whole."""
    have = len(data) - at
    if have < 2:
        return 0, 0
    second = data[at + 1]
    payload_bytes = second & 0x7F
    header_bytes = 2 + (MASK_BYTES if second & _MASKED else 0)
    if payload_bytes >= 126:
        length_bytes = 2 if payload_bytes == 126 else 8
        header_bytes += length_bytes
        payload_bytes = int.from_bytes(data[at + 2 : at + 2 + length_bytes])
    return (header_bytes, payload_bytes) if have >= header_bytes else (0, 0)
