"""One load test from the first check to its result."""

from __future__ import annotations

import asyncio
import itertools
import resource
import signal
import ssl
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import aiohttp
import msgspec

from gateway.commands.open_files import raise_open_files
from loadtest.course import Course, Seen
from loadtest.figures.result import Distribution, Machine, OverTime, Result, Threshold, TriedCalls
from loadtest.figures.slo import Slo
from loadtest.gathering import Moment, Window
from loadtest.scenario import Scenario
from loadtest.server.admission import NotAdmitted, check_admission, check_recordings
from loadtest.server.own import Served
from loadtest.server.probe import Lags, ServerProbe
from loadtest.server.recordings import Verified, chosen, verify
from loadtest.softphones.orders import Outcome, Prepare
from loadtest.softphones.socket import Target
from loadtest.softphones.speech import scripts, sources
from loadtest.troop import HarnessFailed, Troop

SPARE_FILES: Final = 200
MOST_FAULTS: Final = 50


@dataclass(frozen=True, slots=True)
class Ordered:
    """What is to be run against `served`, and how."""

    scenario: Scenario
    served: Served
    slo: Slo
    file: Path | None = None
    folder: Path | None = None
    language: str = "auto"
    processes: int = 1
    processors: tuple[int, ...] = ()
    """The only ones that softphones may run on; empty: any."""
    verify: int | None = 10
    """Recordings to be compared with what was sent; None: all."""
    ca_file: str = ""
    seed: int = 1
    about_server: dict[str, str] = field(default_factory=dict)


async def run_load(
    ordered: Ordered, on_moment: Callable[[Moment, str], None], say: Callable[[str], None] = lambda doing: None
) -> Result:
    """Run it. Ctrl-C ends it early, with the figures so far. `say` hears what is done before the load and after it.

    Raises NotAdmitted, NotAudio, HarnessFailed, ExtraMissing.
    """
    scenario, served = ordered.scenario, ordered.served
    target = Target(served.ws_url, served.app_id, served.secret)
    if scenario.network is not None and target.secure:
        raise HarnessFailed("a scenario with [network] needs ws://: its relay cannot stand in a TLS connection")
    check_open_files(scenario.calls, ordered.processes, relayed=scenario.network is not None)
    tls = _trusting(ordered.ca_file) if target.secure else None
    say(f"knocking at {target.url}")
    await check_admission(target, tls, time.time())
    machine, begun_at = Machine.here(), datetime.now(UTC)
    plan = Prepare(
        url=served.ws_url,
        app_id=served.app_id,
        secret=served.secret,
        ca_file=ordered.ca_file,
        scenario=scenario,
        sources=[str(path) for path in sources(ordered.file, ordered.folder)],
        language=ordered.language,
        process=0,
        processes=ordered.processes,
        seed=ordered.seed,
    )
    async with AsyncExitStack() as stack:
        credentials = {"Authorization": aiohttp.encode_basic_auth(served.app_id, served.secret)}
        connector = aiohttp.TCPConnector(ssl=tls if tls is not None else True)
        session = aiohttp.ClientSession(headers=credentials, connector=connector)
        await stack.enter_async_context(session)
        probe = ServerProbe(served.http_url, served.pid, session)
        stack.push_async_callback(probe.close)
        if ordered.verify != 0:
            await check_recordings(served.http_url, session)
        await probe.begin()
        say("making the frames")
        troop = await stack.enter_async_context(Troop(plan, processors=ordered.processors))
        course = Course(scenario, troop, probe, ordered.slo, on_moment)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, course.interrupt)
        stack.callback(loop.remove_signal_handler, signal.SIGINT)
        began_s = time.monotonic()
        seen = await course.run()
        length_s = time.monotonic() - began_s
        verified = await _verified(ordered, plan, session, troop.outcomes, say)
    return _result(ordered, plan, seen, verified, machine, begun_at, length_s)


def check_open_files(calls: int, processes: int, *, relayed: bool) -> None:
    """Raise the limit of open files as far as it goes. Raises HarnessFailed where that is too few for the calls."""
    needed = -(-calls // processes) * (3 if relayed else 1) + SPARE_FILES
    allowed = raise_open_files()
    if allowed != resource.RLIM_INFINITY and allowed < needed:
        raise HarnessFailed(
            f"{calls} calls by {processes} processes need {needed} open files each, and this user may have {allowed}:"
            f" raise it (ulimit -Hn {needed}, as root), or take more --processes"
        )


async def _verified(
    ordered: Ordered,
    plan: Prepare,
    session: aiohttp.ClientSession,
    outcomes: list[Outcome],
    say: Callable[[str], None],
) -> Verified:
    if ordered.verify == 0:
        return Verified()
    paths = [Path(source) for source in plan.sources]
    played = [scripts(paths, kind) for kind in ordered.scenario.phones]
    wanted = chosen(outcomes, ordered.verify)
    compared = itertools.count(1)

    def one_more() -> None:
        say(f"{next(compared)} of {len(wanted)} recordings compared")

    say(f"comparing {len(wanted)} recordings")
    return await verify(ordered.served.http_url, session, wanted, played, one_more)


def _trusting(ca_file: str) -> ssl.SSLContext:
    """Raises NotAdmitted."""
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except OSError as fault:  # ssl.SSLError is one
        raise NotAdmitted(f"--ca {ca_file} holds no certificate (PEM) that can be used: {fault}") from fault


def _result(
    ordered: Ordered,
    plan: Prepare,
    seen: Seen,
    verified: Verified,
    machine: Machine,
    begun_at: datetime,
    length_s: float,
) -> Result:
    window = seen.window
    figures = window.figures
    if ordered.verify != 0:
        figures["recordings_verified"] = float(verified.recordings)
        figures["recordings_wrong"] = float(verified.wrong)
    # A document tells of more than the numbers can: what was lost over a resume, too.
    figures["messages_lost"] += verified.messages_lost
    if ordered.scenario.search is not None:
        figures["calls_sustained"] = float(max((step.calls for step in seen.steps if step.passed), default=0))
    judged = [
        Threshold(figure=one.figure, side=one.side, threshold=one.threshold, measured=one.measured, kept=one.kept)
        for one in ordered.slo.judge(figures)
    ]
    found = ordered.scenario.search is None or figures["calls_sustained"] > 0
    return Result(
        scenario=msgspec.to_builtins(ordered.scenario),
        sources=[Path(source).name for source in plan.sources],
        processes=ordered.processes,
        begun_at=begun_at.isoformat(timespec="seconds"),
        length_s=round(length_s, 1),
        interrupted=seen.interrupted,
        server=ordered.about_server,
        machine=machine,
        harness_was_late=window.harness_was_late,
        figures=figures,
        slo=judged,
        passed=found and all(one.kept for one in judged),
        failures=dict(seen.total.failures.most_common(MOST_FAULTS)),
        faults=verified.faults[:MOST_FAULTS],
        tried=[
            TriedCalls(
                calls=step.calls,
                passed=step.passed,
                harness_was_late=step.harness_was_late,
                missed=list(step.missed),
                figures=step.figures,
            )
            for step in seen.steps
        ],
        distributions=_distributions(window),
        over_time=over_time(seen.total.moments),
    )


def _distributions(window: Window) -> dict[str, Distribution]:
    return {
        name: Distribution(
            count=histogram.count,
            mean_ms=round(histogram.sum_s / histogram.count * 1000, 3),
            max_ms=round(histogram.max_s * 1000, 3),
            buckets=histogram.sparse(),
        )
        for name, histogram in {**window.latencies, "harness_lag": window.lateness}.items()
        if histogram.count
    }


def over_time(moments: list[Moment]) -> OverTime:
    """The moments as columns; what the server took between each and the one before."""
    cpu: list[float] = []
    rss: list[float] = []
    lag: list[float] = []
    for before, now in zip([None, *moments], moments, strict=False):
        was = before.server if before is not None else None
        sample = now.server
        if sample is None or not sample.cpu_s:
            break
        earlier = was.cpu_s if was is not None else sample.cpu_s
        used_s = sum(seconds - earlier.get(pid, 0.0) for pid, seconds in sample.cpu_s.items())
        length_s = now.at_s - before.at_s if before is not None else 1.0
        cpu.append(round(used_s / max(length_s, 1e-3), 3))
        rss.append(round(sample.rss_bytes / 1e6, 1))
        lags = sample.loop_lags.since(was.loop_lags if was is not None else Lags())
        lag.append(lags.at_most_s(0.99) * 1000 if lags.count else 0.0)
    return OverTime(
        at_s=[round(moment.at_s, 2) for moment in moments],
        calls=[moment.calls for moment in moments],
        frames_per_s=[
            round(now.frames / max(now.at_s - before.at_s, 1e-3), 1) if before is not None else 0.0
            for before, now in zip([None, *moments], moments, strict=False)
        ],
        failures=[moment.failures for moment in moments],
        ack_lag_p99_ms=[round(moment.ack_lag_p99_ms, 2) for moment in moments],
        harness_lag_p99_ms=[round(moment.harness_lag_p99_ms, 2) for moment in moments],
        server_cpu_share=cpu,
        server_rss_mb=rss,
        server_loop_lag_p99_ms=lag,
    )
