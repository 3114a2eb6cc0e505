"""What passes between the command and its processes of softphones: orders one way, what was seen the other."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Struct

from loadtest.figures.histogram import Histogram
from loadtest.scenario import Scenario

_LENGTH: Final = struct.Struct("!I")


class _Order(Struct, frozen=True, kw_only=True, tag=True):
    """Base of what a process is told."""


class Prepare(_Order, frozen=True, kw_only=True):
    """Get everything ready; answered by `Ready` or `Unfit`."""

    url: str
    app_id: str
    secret: str
    ca_file: str
    scenario: Scenario
    sources: list[str]
    language: str
    process: int
    processes: int
    """This one is number `process` of so many: of all calls it carries each `processes`th."""
    seed: int


class SetCalls(_Order, frozen=True, kw_only=True):
    """Have so many calls, over all processes; the change is spread evenly over `over_s`."""

    calls: int
    over_s: float


class HangUp(_Order, frozen=True, kw_only=True):
    """Hang up every call within so long, and begin no other."""

    within_s: float


class Finish(_Order, frozen=True, kw_only=True):
    """Give up what is still open, say what became of each call (`Outcome`s, then `Finished`), and end."""


class Sparse(Struct, frozen=True):
    """A histogram on its way."""

    counts: dict[int, int]
    max_s: float
    sum_s: float

    @classmethod
    def of(cls, histogram: Histogram) -> Sparse:
        return cls(histogram.sparse(), histogram.max_s, histogram.sum_s)

    @property
    def histogram(self) -> Histogram:
        return Histogram.of(self.counts, self.max_s, self.sum_s)


class _Told(Struct, frozen=True, kw_only=True, tag=True):
    """Base of what a process says."""


class Ready(_Told, frozen=True, kw_only=True):
    """Everything is prepared."""

    cpu_s: float
    """Of this process, for that."""


class Unfit(_Told, frozen=True, kw_only=True):
    """It cannot be done, and why."""

    reason: str


class Second(_Told, frozen=True, kw_only=True):
    """What happened since the last of these, about a second ago."""

    calls_live: int
    calls_open: int
    """Not over, or still to begin."""
    frames_sent: int
    cpu_s: float
    """Of this process, since it began."""
    counts: Mapping[str, int]
    failures: Mapping[str, int]
    latencies: Mapping[str, Sparse]
    lateness: Sparse


class Outcome(_Told, frozen=True, kw_only=True):
    """One call that is over."""

    call_id: str
    phones: int
    """Which of the scenario's kinds ..."""
    source: int
    """... played which of the sources ..."""
    first_frame: int
    """... from which frame on."""
    sent_samples: int
    acked_samples: int
    failure: str
    segments: tuple[str, ...]
    """Utterances that it heard close."""
    alerts: tuple[str, ...]


class Finished(_Told, frozen=True, kw_only=True):
    """Nothing more comes."""


Order = Prepare | SetCalls | HangUp | Finish
Told = Ready | Unfit | Second | Outcome | Finished
_order: msgspec.msgpack.Decoder[Order] = msgspec.msgpack.Decoder(Order)
_told: msgspec.msgpack.Decoder[Told] = msgspec.msgpack.Decoder(Told)


def packed(message: Order | Told) -> bytes:
    """A message as it goes through a pipe: four bytes of length, then msgpack."""
    body = msgspec.msgpack.encode(message)
    return _LENGTH.pack(len(body)) + body


class Unpacking:
    """Finds the messages in a pipe's bytes."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The bodies that are whole by now; `order` and `told` read them."""
        self._rest += data
        bodies = []
        while len(self._rest) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._rest)
            if len(self._rest) < _LENGTH.size + length:
                break
            bodies.append(bytes(self._rest[_LENGTH.size : _LENGTH.size + length]))
            del self._rest[: _LENGTH.size + length]
        return bodies


def order(body: bytes) -> Order:
    return _order.decode(body)


def told(body: bytes) -> Told:
    return _told.decode(body)
