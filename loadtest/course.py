"""The course of a run: when which orders go out, what was seen meanwhile, and when it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from loadtest.capacity import CapacitySearch
from loadtest.figures.histogram import Histogram
from loadtest.figures.slo import Slo
from loadtest.gathering import Moment, Window
from loadtest.scenario import Scenario, Search
from loadtest.server.probe import ServerProbe, ServerSample
from loadtest.softphones.fleet import END_PATIENCE_S
from loadtest.softphones.orders import HangUp, Second, SetCalls
from loadtest.troop import Troop

LOOK_EVERY_S: Final = 1.0
RECOVER_S: Final = 30.0
RECOVERED_MS: Final = 250.0
WELL_FOR: Final = 2
"""Seconds in a row in which acks come in time again, before a search goes on."""
INTERRUPTED_S: Final = 10.0
"""After Ctrl-C, for calls to hang up and end."""


@dataclass(frozen=True, slots=True)
class Step:
    """One number of calls that a search has tried."""

    calls: int
    passed: bool
    harness_was_late: bool
    missed: tuple[str, ...]
    figures: dict[str, float]


@dataclass(slots=True)
class Seen:
    """A whole run."""

    total: Window = field(default_factory=Window)
    steps: list[Step] = field(default_factory=list)
    best: Window | None = None
    """A search's: of the highest number that passed."""
    interrupted: bool = False

    @property
    def window(self) -> Window:
        """What the run's figures are of."""
        return self.best or self.total


class Course:
    """Drives `troop` through `scenario`. `run` may be called once; `interrupt` may come at any time."""

    def __init__(
        self,
        scenario: Scenario,
        troop: Troop,
        probe: ServerProbe,
        slo: Slo,
        on_moment: Callable[[Moment, str], None] = lambda moment, doing: None,
    ) -> None:
        """`on_moment`: hears of each second, and what is being done."""
        self._scenario = scenario
        self._troop = troop
        self._probe = probe
        self._slo = slo
        self._on_moment = on_moment
        self._doing = ""
        self._seen = Seen()
        self._windows: list[Window] = [self._seen.total]
        self._interrupted = asyncio.Event()
        self._began_s = 0.0

    def interrupt(self) -> None:
        """Hang up, and be content with the figures so far."""
        self._interrupted.set()

    async def run(self) -> Seen:
        """Raises HarnessFailed."""
        self._began_s = asyncio.get_running_loop().time()
        scenario = self._scenario
        self._look()  # what everybody had used before
        if scenario.search is not None:
            await self._search(scenario.search)
        else:
            await self._plain()
        self._doing = "hanging up"
        within_s = scenario.together_within_s if scenario.hang_up == "together" else 1.0
        self._troop.tell(HangUp(within_s=within_s))
        patience_s = INTERRUPTED_S if self._interrupted.is_set() else END_PATIENCE_S + 5
        await self._pass_time(patience_s, until_over=True, heed=False)
        await self._troop.finish()
        self._look()
        self._seen.interrupted = self._interrupted.is_set()
        return self._seen

    async def _plain(self) -> None:
        scenario, moments = self._scenario, self._seen.total.moments
        self._doing = f"ramp to {scenario.calls}"
        self._troop.tell(SetCalls(calls=scenario.calls, over_s=scenario.ramp_s))
        await self._pass_time(scenario.ramp_s)
        first = len(moments)
        self._doing = f"{scenario.calls} calls"
        by_age = scenario.hang_up == "by_age"
        full_s = scenario.duration_s - (scenario.ramp_s if by_age else 0.0)
        await self._pass_time(max(0.0, full_s))
        self._seen.total.full = (first, len(moments))
        if by_age:
            self._doing = "the last calls"
            rest_s = min(scenario.ramp_s, scenario.duration_s)
            await self._pass_time(rest_s + END_PATIENCE_S, until_over=True)

    async def _search(self, search: Search) -> None:
        capacity = CapacitySearch(search, self._scenario.calls)
        while (calls := capacity.next) is not None and not self._interrupted.is_set():
            window = Window()
            self._windows.append(window)
            self._doing = f"trying {calls}, best so far {capacity.best}"
            self._troop.tell(SetCalls(calls=calls, over_s=self._scenario.ramp_s))
            await self._pass_time(self._scenario.ramp_s + search.settle_s)
            window.forget_latencies()
            await self._pass_time(self._scenario.duration_s)
            self._windows.remove(window)
            if self._interrupted.is_set():
                return
            step = self._judge(calls, window)
            capacity.take(calls, passed=step.passed)
            if step.passed:
                self._seen.best = window
            else:
                await self._recover(capacity.best)

    async def _recover(self, calls: int) -> None:
        """Let the server work off what too many calls have left behind: the next number is not to be blamed for it."""
        self._doing = f"recovering with {calls}"
        self._troop.tell(SetCalls(calls=calls, over_s=self._scenario.ramp_s))
        bound_ms = self._slo.thresholds.at_most.get("ack_lag_p99_ms", RECOVERED_MS)
        well = 0
        for _ in range(int(RECOVER_S / LOOK_EVERY_S)):
            await self._pass_time(LOOK_EVERY_S)
            moment = self._seen.total.moments[-1]
            well = well + 1 if recovered(moment, calls, bound_ms) else 0
            if well >= WELL_FOR or self._interrupted.is_set():
                return

    def _judge(self, calls: int, window: Window) -> Step:
        figures = window.figures
        missed = [str(one) for one in self._slo.judge(figures) if not one.kept]
        least = min((moment.calls for moment in window.moments), default=0)
        if least < 0.98 * calls:
            missed.append(f"only {least} of {calls} calls were up")
        step = Step(calls, not missed, window.harness_was_late, tuple(missed), figures)
        self._seen.steps.append(step)
        return step

    async def _pass_time(self, wait_s: float, *, until_over: bool = False, heed: bool = True) -> None:
        """Look on for so long, or until no call is open any more, or (`heed`) until interrupted."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + wait_s
        while (left_s := end_s - loop.time()) > 0 and not (heed and self._interrupted.is_set()):
            await self._wait(min(LOOK_EVERY_S, left_s), heed=heed)
            self._look()
            if until_over and self._troop.all_have_told and not sum(one.calls_open for one in self._troop.latest):
                return

    async def _wait(self, wait_s: float, *, heed: bool) -> None:
        if not heed:
            await asyncio.sleep(wait_s)
            return
        try:
            async with asyncio.timeout(wait_s):
                await self._interrupted.wait()
        except TimeoutError:
            pass  # the usual case: nobody has lost patience

    def _look(self) -> None:
        seconds = self._troop.seconds()
        sample = self._probe.sample()
        for window in self._windows:
            for second in seconds:
                window.add(second)
        moment = self._moment(seconds, self._troop.latest, sample)
        for window in self._windows:
            window.moments.append(moment)
        self._on_moment(moment, self._doing)

    def _moment(self, seconds: list[Second], latest: list[Second], sample: ServerSample) -> Moment:
        lags, lateness = Histogram(), Histogram()
        for second in seconds:
            lateness.merge(second.lateness.histogram)
            if (sparse := second.latencies.get("ack_lag")) is not None:
                lags.merge(sparse.histogram)
        return Moment(
            at_s=asyncio.get_running_loop().time() - self._began_s,
            calls=sum(second.calls_live for second in latest),
            calls_open=sum(second.calls_open for second in latest),
            frames=sum(second.frames_sent for second in seconds),
            failures=sum(sum(second.failures.values()) for second in seconds),
            frames_acked=lags.count,
            ack_lag_p99_ms=lags.percentile_s(0.99) * 1000,
            harness_lag_p99_ms=lateness.percentile_s(0.99) * 1000,
            harness_cpu_s=self._troop.cpu_s,
            server=sample,
        )


def recovered(moment: Moment, calls: int, bound_ms: float) -> bool:
    """Whether a server that is to have so many calls acknowledges theirs in time. One that says nothing does not."""
    heard = moment.frames_acked > 0 or not moment.calls_open
    return heard and moment.calls_open <= calls and moment.ack_lag_p99_ms <= bound_ms
