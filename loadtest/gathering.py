"""What all processes of softphones and the server's probe have told, added up: over a run, or a part of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from loadtest.figures.catalogue import LATENCIES, QUANTILES
from loadtest.figures.histogram import Histogram
from loadtest.server.probe import ServerSample
from loadtest.softphones.orders import Second

LATE_S = 0.02
"""When the harness itself sent one frame of a hundred later than this, its figures are not the server's."""
LEAST_MOMENTS = 3
"""Fewer than so many with all calls up say little about CPU: then it is told of the whole run."""
_COUNTED = (
    "calls_begun",
    "calls_refused",
    "calls_failed",
    "samples_unacked",
    "messages_lost",
    "messages_disordered",
)
_COUNTED_IF_ANY = ("cuts", "watch_messages", "watchers_failed")


@dataclass(frozen=True, slots=True)
class Moment:
    """About a second of the run, of all processes together."""

    at_s: float
    """Since the run began."""
    calls: int
    calls_open: int
    frames: int
    failures: int
    ack_lag_p99_ms: float
    harness_lag_p99_ms: float
    harness_cpu_s: tuple[float, ...]
    """By process, since each began."""
    server: ServerSample | None
    frames_acked: int = 0
    """With none, `ack_lag_p99_ms` says nothing: the server does not either."""


@dataclass(slots=True)
class Window:
    """A stretch of the run."""

    latencies: dict[str, Histogram] = field(default_factory=lambda: {name: Histogram() for name in LATENCIES})
    lateness: Histogram = field(default_factory=Histogram)
    counts: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    moments: list[Moment] = field(default_factory=list)
    full: tuple[int, int] | None = None
    """The moments during which all calls were up: what is said of CPU is about these. None: all."""

    def add(self, second: Second) -> None:
        for name, sparse in second.latencies.items():
            self.latencies[name].merge(sparse.histogram)
        self.lateness.merge(second.lateness.histogram)
        self.counts.update(second.counts)
        self.counts["frames"] += second.frames_sent
        self.failures.update(second.failures)

    def forget_latencies(self) -> None:
        """What was timed so far was before the window's purpose: calls were still being added.

        How long they took to begin is kept, for none begins later.
        """
        self.latencies = {name: Histogram() for name in LATENCIES} | {"connect": self.latencies["connect"]}
        self.lateness = Histogram()
        self.moments.clear()

    @property
    def figures(self) -> dict[str, float]:
        """By the catalogue's names; those that were not measured are left out."""
        figures: dict[str, float] = {name: float(self.counts[name]) for name in _COUNTED}
        figures.update({name: float(self.counts[name]) for name in _COUNTED_IF_ANY if name in self.counts})
        figures["calls_at_once"] = float(max((moment.calls for moment in self.moments), default=0))
        figures["frames_sent"] = float(self.counts["frames"])
        for name, histogram in self.latencies.items():
            if histogram.count:
                for quantile, share in QUANTILES.items():
                    figures[f"{name}_{quantile}_ms"] = round(histogram.percentile_s(share) * 1000, 3)
        figures["harness_lag_p99_ms"] = round(self.lateness.percentile_s(0.99) * 1000, 3)
        figures["harness_lag_max_ms"] = round(self.lateness.max_s * 1000, 3)
        begin, end = self.full or (0, len(self.moments))
        full = self.moments[begin:end] if end - begin > LEAST_MOMENTS else self.moments
        if len(full) >= 2:
            figures.update(_rates(full))
        return figures

    @property
    def harness_was_late(self) -> bool:
        """Whether the figures are not the server's, because we did not send in time ourselves."""
        return self.lateness.percentile_s(0.99) > LATE_S


def _rates(moments: Sequence[Moment]) -> dict[str, float]:
    """CPU and frames between the first of the moments and the last."""
    first, last = moments[0], moments[-1]
    length_s = last.at_s - first.at_s
    frames = sum(moment.frames for moment in moments[1:])
    call_s = sum(moment.calls for moment in moments[1:]) * length_s / (len(moments) - 1)
    own = [after - before for before, after in zip(first.harness_cpu_s, last.harness_cpu_s, strict=True)]
    rates = {"frames_per_s": frames / length_s, "harness_cpu_share": max(own) / length_s}
    if frames and any(own):
        rates["harness_cpu_us_per_frame"] = sum(own) * 1e6 / frames
        rates["harness_frames_per_core_s"] = frames / sum(own)
    sampled = [moment for moment in moments if moment.server is not None]
    if len(sampled) >= 2:
        rates.update(_of_server(sampled, frames, call_s))
    return {name: round(value, 4) for name, value in rates.items()}


def _of_server(moments: Sequence[Moment], frames: int, call_s: float) -> dict[str, float]:
    first, last = moments[0].server, moments[-1].server
    assert first is not None
    assert last is not None
    rates: dict[str, float] = {}
    if last.cpu_s:
        length_s = moments[-1].at_s - moments[0].at_s
        used = {pid: seconds - first.cpu_s.get(pid, 0.0) for pid, seconds in last.cpu_s.items()}
        rates["server_cpu_share"] = sum(used.values()) / length_s
        rates["server_main_cpu_share"] = max(used.values()) / length_s
        rates["server_rss_max_mb"] = max(one.server.rss_bytes for one in moments if one.server) / 1e6
        if frames:
            rates["server_cpu_us_per_frame"] = sum(used.values()) * 1e6 / frames
        if call_s:
            rates["server_cpu_ms_per_call_s"] = sum(used.values()) * 1e3 / call_s
    lags = last.loop_lags.since(first.loop_lags)
    if lags.count:
        rates["server_loop_lag_p50_ms"] = lags.at_most_s(0.5) * 1000
        rates["server_loop_lag_p99_ms"] = lags.at_most_s(0.99) * 1000
    return rates
