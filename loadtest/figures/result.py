"""A run's result as it is kept: one JSON document with a versioned schema, units in every name."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

SCHEMA: Final = "earshot.loadtest.v1"


class BadResult(Exception):
    """The file holds no result that can be read; the text says why."""


class Machine(Struct, frozen=True, kw_only=True):
    """Where the harness ran."""

    processors: int
    system: str
    python: str
    load_average_before: float
    """Of one minute, before the run: what else was going on."""

    @classmethod
    def here(cls) -> Machine:
        return cls(
            processors=len(os.sched_getaffinity(0)),
            system=f"{platform.system()} {platform.release()} {platform.machine()}",
            python=platform.python_version(),
            load_average_before=round(os.getloadavg()[0], 2),
        )


class Distribution(Struct, frozen=True, kw_only=True):
    """One latency: counts by bucket (see loadtest.figures.histogram), and the largest."""

    count: int
    mean_ms: float
    max_ms: float
    buckets: dict[int, int]


class OverTime(Struct, frozen=True, kw_only=True):
    """Of every second or so of the run; lists of equal length. Of the server: empty when it was not seen."""

    at_s: list[float]
    calls: list[int]
    frames_per_s: list[float]
    failures: list[int]
    ack_lag_p99_ms: list[float]
    harness_lag_p99_ms: list[float]
    server_cpu_share: list[float]
    server_rss_mb: list[float]
    server_loop_lag_p99_ms: list[float]


class TriedCalls(Struct, frozen=True, kw_only=True):
    """One step of a search."""

    calls: int
    passed: bool
    harness_was_late: bool
    missed: list[str]
    figures: dict[str, float]


class Threshold(Struct, frozen=True, kw_only=True):
    figure: str
    side: str
    threshold: float
    measured: float | None
    kept: bool


class Result(Struct, frozen=True, kw_only=True):
    """Everything about one run."""

    schema: Literal["earshot.loadtest.v1"] = SCHEMA
    scenario: dict[str, Any]
    """As it was run: what the command line said is in it."""
    sources: list[str]
    """Names of the files that were played."""
    processes: int
    begun_at: str
    """ISO 8601, UTC."""
    length_s: float
    interrupted: bool
    server: dict[str, str]
    """What was said of it on the command line: arguments and settings of one of our own."""
    machine: Machine
    harness_was_late: bool
    """The harness did not send in time itself: the figures are not the server's."""
    figures: dict[str, float]
    slo: list[Threshold]
    passed: bool
    failures: dict[str, int]
    """How often which."""
    faults: list[str]
    """Recordings and documents that are not as they should be."""
    tried: list[TriedCalls]
    distributions: dict[str, Distribution]
    over_time: OverTime

    def write(self, path: Path) -> None:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")


def read_result(path: Path) -> Result:
    """Raises BadResult."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Result)
    except OSError as fault:
        raise BadResult(f"{path} cannot be read: {fault.strerror}") from fault
    except (msgspec.DecodeError, UnicodeError) as fault:
        raise BadResult(f"{path} is no result of this harness ({SCHEMA}): {fault}") from fault
