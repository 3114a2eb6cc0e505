"""What goes over the socket between the main process and a worker: frames of MessagePack behind their length."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import msgspec

LENGTH = struct.Struct(">I")
MAX_FRAME_BYTES = 256 * 1024 * 1024
"""More than anything that is sent: a page of the longest calls' documents. Beyond it the peer is not one of ours."""

Q = TypeVar("Q")
A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class Question(Generic[Q, A]):
    """Something that one side may ask the other, and the types of what is asked and answered."""

    name: str
    asked: type[Q]
    answered: type[A]


@dataclass(frozen=True, slots=True)
class Notice(Generic[Q]):
    """Something that one side may tell the other."""

    name: str
    told: type[Q]


class Nothing(msgspec.Struct, frozen=True, array_like=True):
    """The body of what needs none."""


class Asked(msgspec.Struct, frozen=True, array_like=True, tag="ask"):
    number: int
    name: str
    body: msgspec.Raw


class Answered(msgspec.Struct, frozen=True, array_like=True, tag="answer"):
    number: int
    body: msgspec.Raw


Fault = Literal["unavailable", "rejected", "protocol", "os", "internal"]


class Refused(msgspec.Struct, frozen=True, array_like=True, tag="refuse"):
    """The question raised: `fault` says what, so that the asker can raise the same."""

    number: int
    fault: Fault
    message: str
    code: str = ""
    retry_after_s: float | None = None


class GivenUp(msgspec.Struct, frozen=True, array_like=True, tag="give_up"):
    """Nobody waits for the answer any more."""

    number: int


class Told(msgspec.Struct, frozen=True, array_like=True, tag="tell"):
    name: str
    body: msgspec.Raw


Frame = Asked | Answered | Refused | GivenUp | Told

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Frame)


class BadFrame(Exception):
    """The other side is not what it should be: a frame cannot be read."""


def packed(body: object) -> msgspec.Raw:
    """A body as it goes into a frame."""
    return msgspec.Raw(_ENCODER.encode(body))


def framed(frame: Frame) -> bytes:
    data = _ENCODER.encode(frame)
    return LENGTH.pack(len(data)) + data


class FrameReader:
    """Cuts a stream of bytes into frames, however the bytes come."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are whole now. Raises BadFrame."""
        buffer = self._buffer
        buffer += data
        begin = 0
        while len(buffer) - begin >= LENGTH.size:
            (size,) = LENGTH.unpack_from(buffer, begin)
            if size > MAX_FRAME_BYTES:
                raise BadFrame(f"a frame of {size} bytes, over {MAX_FRAME_BYTES}")
            end = begin + LENGTH.size + size
            if len(buffer) < end:
                break
            try:
                # Bodies point into these bytes, so they are a copy of their own.
                yield _DECODER.decode(bytes(buffer[begin + LENGTH.size : end]))
            except msgspec.DecodeError as fault:
                raise BadFrame(f"a frame that cannot be read: {fault}") from fault
            begin = end
        if begin:
            del buffer[:begin]
