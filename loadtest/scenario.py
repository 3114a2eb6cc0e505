"""What a load consists of: scenarios, as TOML files, parsed once into closed types."""

from __future__ import annotations

import itertools
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from loadtest.figures.slo import Slo, Thresholds
from protocol.audio import Encoding

_SCENARIOS = files("loadtest") / "scenarios"
Share = Annotated[float, Meta(gt=0, le=1)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
PositiveSeconds = Annotated[float, Meta(gt=0, le=604_800)]
Seconds = Annotated[float, Meta(ge=0, le=604_800)]
FrameMs = Annotated[int, Meta(ge=1, le=500)]


class BadScenario(Exception):
    """The scenario cannot be run; the text names the file, the field and what was expected."""


class _Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every table of a scenario."""


class Phones(_Table, frozen=True, kw_only=True):
    """A kind of softphone, and how many of the calls are of it."""

    share: Annotated[float, Meta(gt=0, le=1000)] = 1.0
    """So many parts of all calls, beside the parts of the other kinds."""
    encoding: Encoding = "pcm_s16le"
    rate_hz: Literal[8000, 16000, 48000] = 8000
    channels: Literal[1, 2] = 1
    frame_ms: Annotated[tuple[FrameMs, ...], Meta(min_length=1, max_length=64)] = (20,)
    """Audio in a frame; of several, one after the other, over and over."""


class Network(_Table, frozen=True, kw_only=True):
    """What happens between softphones and server. Calls then resume, by the SDK."""

    cut_every_s: Seconds = 0
    """Mean time after which a connection is reset, at random; 0: never."""
    delay_ms: Annotated[int, Meta(ge=0, le=10_000)] = 0
    """Later arrival, each way."""
    stall_every_s: Seconds = 0
    """Mean time after which nothing passes for `stall_s`; 0: never."""
    stall_s: Seconds = 0


class SlowReaders(_Table, frozen=True, kw_only=True):
    """Softphones that send in time and read seldom. What they see is told apart from what the others see."""

    share: Share
    pause_s: PositiveSeconds
    """They read nothing for so long ..."""
    every_s: PositiveSeconds
    """... so often."""


class Watchers(_Table, frozen=True, kw_only=True):
    """Who looks on through `/v1/watch`."""

    boards: Annotated[int, Meta(ge=0, le=10_000)] = 0
    """Sockets that watch all calls of the app."""
    calls: Annotated[int, Meta(ge=0, le=10_000)] = 0
    """Sockets that watch one call each."""
    levels: bool = True


class Search(_Table, frozen=True, kw_only=True):
    """Look for the highest number of calls that still meets the SLO; `calls` is the most that is tried, `duration_s`
    how long each number is held, `ramp_s` how long a change takes."""

    first_calls: Count = 10
    growth: Annotated[float, Meta(gt=1, le=10)] = 2.0
    """So many times more, until the SLO is missed."""
    within: Annotated[float, Meta(gt=0, le=1)] = 0.1
    """Then halve, until what passed and what failed lie this close."""
    settle_s: Seconds = 2.0
    """After a change, before it is judged."""


class Scenario(_Table, frozen=True, kw_only=True):
    """A load. `calls`, `ramp_s` and `duration_s` are what the command line may say otherwise."""

    about: Annotated[str, Meta(min_length=1, max_length=200)]
    """One line, for the list."""
    name: str = ""
    """The file's; not to be given."""
    calls: Count = 10
    ramp_s: Seconds = 5.0
    """The calls begin evenly over this long."""
    duration_s: PositiveSeconds = 30.0
    """How long each call lasts, or (together, in turn) how long the load does after the ramp."""
    hang_up: Literal["by_age", "together", "replaced"] = "by_age"
    """`by_age`: each call after `duration_s`; `together`: all at the end; `replaced`: see `call_s`."""
    together_within_s: Seconds = 0.5
    call_s: tuple[PositiveSeconds, PositiveSeconds] | None = None
    """Shortest and longest call: each that ends is replaced by another, until `duration_s` after the ramp."""
    phones: Annotated[tuple[Phones, ...], Meta(min_length=1, max_length=64)] = (Phones(),)
    network: Network | None = None
    slow_readers: SlowReaders | None = None
    watchers: Watchers | None = None
    search: Search | None = None
    slo: Thresholds | None = None
    """What is asked of the server where the command line names no --slo; a search needs it."""

    def __post_init__(self) -> None:
        if (self.hang_up == "replaced") is (self.call_s is None):
            raise ValueError('hang_up = "replaced" and call_s go together')
        if self.call_s is not None and self.call_s[0] > self.call_s[1]:
            raise ValueError("call_s is [shortest, longest]")
        if self.network is not None and self.slow_readers is not None:
            raise ValueError("network and slow_readers cannot go together: one resumes by the SDK, the other does not")
        if self.network is not None and bool(self.network.stall_every_s) is not bool(self.network.stall_s):
            raise ValueError("network.stall_every_s and network.stall_s go together")
        if self.search is not None and (self.network is not None or self.call_s is not None or self.watchers):
            raise ValueError("search goes with phones alone: no network, watchers or call_s")

    def phones_of(self, place: int) -> int:
        """Which of `phones` the call number `place` is of; shares hold within any few calls that follow each other."""
        turns = _turns(tuple(kind.share for kind in self.phones))
        return turns[place % len(turns)]

    def reads_slowly(self, place: int) -> bool:
        """Whether the call number `place` is a slow reader; the share holds within any few calls in a row."""
        if self.slow_readers is None:
            return False
        share = self.slow_readers.share
        return int((place + 1) * share + 1e-9) > int(place * share + 1e-9)


@cache
def _turns(shares: tuple[float, ...]) -> tuple[int, ...]:
    """Whose turn it is, a thousand times: each kind is owed its share at every turn, the one owed most is next."""
    owed = [0.0] * len(shares)
    turns = []
    for _ in range(1000):
        owed = [debt + share / sum(shares) for debt, share in zip(owed, shares, strict=True)]
        turns.append(max(range(len(owed)), key=lambda index: owed[index]))
        owed[turns[-1]] -= 1
    return tuple(turns)


def names() -> tuple[str, ...]:
    """The scenarios that come with the harness."""
    return tuple(sorted(one.name.removesuffix(".toml") for one in _SCENARIOS.iterdir() if one.name.endswith(".toml")))


def load(scenario: str) -> Scenario:
    """The scenario of this name, or of a TOML file at this path. Raises BadScenario."""
    if scenario in names():
        return parse(_SCENARIOS.joinpath(f"{scenario}.toml").read_text("utf-8"), scenario)
    path = Path(scenario)
    if path.suffix != ".toml":
        raise BadScenario(f"there is no scenario {scenario!r}; expected one of {', '.join(names())}, or a .toml file")
    try:
        return parse(path.read_text("utf-8"), path.stem, str(path))
    except (OSError, UnicodeError) as fault:
        raise BadScenario(f"{path} cannot be read: {fault}") from fault


def parse(text: str, name: str, where: str = "") -> Scenario:
    """A scenario of TOML text. Raises BadScenario, naming the field."""
    try:
        scenario = msgspec.toml.decode(text, type=Scenario)
        if scenario.name:
            raise msgspec.ValidationError("a scenario's name is its file's: leave it out - at `$.name`")
        if scenario.search is not None and not (scenario.slo and scenario.slo.at_most):
            raise msgspec.ValidationError("a search needs [slo.at_most] - at `$.slo`")
        Slo.checked(scenario.slo or Thresholds())
    except (msgspec.DecodeError, ValueError) as fault:
        raise BadScenario(f"{where or f'scenario {name}'}: {fault}") from fault
    return msgspec.structs.replace(scenario, name=name)


def overridden(scenario: Scenario, calls: int | None, ramp_s: float | None, duration_s: float | None) -> Scenario:
    """The scenario with what the command line said in the place of its own; None: nothing was said.

    Raises BadScenario where that leaves no call of a kind that the scenario is about.
    """
    made = msgspec.structs.replace(
        scenario,
        calls=scenario.calls if calls is None else calls,
        ramp_s=scenario.ramp_s if ramp_s is None else ramp_s,
        duration_s=scenario.duration_s if duration_s is None else duration_s,
    )
    if made.slow_readers is not None and not any(made.reads_slowly(place) for place in range(made.calls)):
        share = made.slow_readers.share
        least = next(place + 1 for place in itertools.count(made.calls) if made.reads_slowly(place))
        raise BadScenario(f"slow_readers: {share:g} of {made.calls} calls is nobody; take at least {least} (--calls)")
    return made
