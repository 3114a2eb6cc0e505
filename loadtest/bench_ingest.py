"""What it costs to take the audio of calls, held against other ways of doing less: `python -m loadtest.bench_ingest`.

Each server runs on one processor and the softphones on another; frames are real speech, 20 ms each, in real time.
The peers receive, ask webrtcvad and append to a buffer. Earshot is the server itself, journal and acks included,
without live text. A lag is the time from when a frame was due to the answer to a message right behind it: the network,
the server's work on all that came before, and the way back.
"""

from __future__ import annotations

import gc
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from time import process_time

import click
import webrtcvad
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from gateway.commands.open_files import raise_open_files
from gateway.demo.material import demo_call
from gateway.terminal.softphone import read_audio
from loadtest.figures.histogram import percentiles
from loadtest.frame_sender import FRAME_MS, FrameSender, Lags, frames_of
from loadtest.ingest_peers import PEERS, RATE_HZ
from loadtest.ingest_servers import Served, compiled_floor, earshot, floor, peer

MOST_LAG_MS = 20.0
FRAMES_PER_S = 1000 // FRAME_MS
STEP = 1.08
"""Between two numbers of calls that are tried."""
EARSHOT = "earshot"
FLOOR = "C, epoll"
INGEST_ONLY = {"live_text": "false"}


@dataclass(frozen=True, slots=True)
class Point:
    """One stretch of sending."""

    calls: int
    cpu_us: float
    """Of the server's processes, for each frame."""
    lag_p50_ms: float
    lag_p99_ms: float
    late_p99_ms: float
    """Of the sender itself."""
    sender_share: float
    """Of its processor that the sender used, 0 to 1."""

    @property
    def in_time(self) -> bool:
        return self.lag_p99_ms < MOST_LAG_MS


@dataclass(slots=True)
class Measured:
    """One server's figures."""

    name: str
    vad_us: float
    """What webrtcvad alone takes of a frame, where the server itself does not ask it."""
    fixed: Point | None = None
    """With the number of calls that all servers get."""
    points: list[Point] = field(default_factory=list)
    lost_frames: int | None = None

    @property
    def cpu_us(self) -> float:
        return (self.fixed.cpu_us if self.fixed else 0.0) + self.vad_us

    @property
    def most_calls(self) -> int:
        return max((point.calls for point in self.points if point.in_time), default=0)


def measure(sender: FrameSender, served: Served, calls: int, duration_s: float) -> Point:
    """Send on `calls` lines."""
    sender.open(calls)
    sender.send(calls, 0.5)
    began_s, frames, ours_s = served.cpu_s(), sender.sent_frames, process_time()
    lags = sender.send(calls, duration_s)
    spent_s = served.cpu_s() - began_s
    ours_s = process_time() - ours_s
    _recover(sender, served)
    p50, _, p99, _ = percentiles(lags.lag_ms)
    p99 = float("inf") if _drowned(lags) else p99
    late = percentiles(lags.late_ms)[2]
    return Point(calls, 1e6 * spent_s / (sender.sent_frames - frames), p50, p99, late, ours_s / duration_s)


def _drowned(lags: Lags) -> bool:
    return bool(lags.unanswered or lags.blocked or not lags.lag_ms)


def _recover(sender: FrameSender, served: Served) -> None:
    """Until the server has worked off what it got: it is idle, or that takes too long to matter."""
    for _ in range(20):
        before_s = served.cpu_s()
        sender.rest(0.1)
        if served.cpu_s() - before_s < 0.05:
            return


def highest(sender: FrameSender, served: Served, first: Point, duration_s: float, most: int) -> Iterator[Point]:
    """Look for the largest number of calls whose lag is bearable, from what the CPU of a small load lets expect."""
    calls = min(most, round(0.85 * 1e6 / first.cpu_us / FRAMES_PER_S))
    point = measure(sender, served, calls, duration_s)
    yield point
    upwards = point.in_time
    while point.in_time == upwards and 20 < calls < most:
        calls = min(most, round(calls * STEP if upwards else calls / STEP))
        point = measure(sender, served, calls, duration_s)
        yield point
    # One bad stretch is no limit on a machine with other work: the last number is tried once more.
    if upwards and not point.in_time:
        yield measure(sender, served, calls, duration_s)


def vad_us(pcm: bytes) -> float:
    """What webrtcvad takes of a frame of this audio, in process, in us."""
    vad, step = webrtcvad.Vad(2), 2 * RATE_HZ * FRAME_MS // 1000
    frames = [pcm[at : at + step] for at in range(0, len(pcm) - step + 1, step)]
    began_s = process_time()
    for _ in range(3):
        for frame in frames:
            vad.is_speech(frame, RATE_HZ)
    return 1e6 * (process_time() - began_s) / (3 * len(frames))


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how much."""

    frames: Sequence[bytes]
    calls: int
    duration_s: float
    most: int
    server_on: int


def run_one(
    name: str,
    serving: AbstractContextManager[Served],
    plan: Plan,
    say: Callable[[str], None],
    *,
    beside_us: float = 0.0,
    search: bool = True,
) -> Measured:
    """Start a server, measure it, stop it."""
    found = Measured(name, beside_us)
    with serving as served:
        sender = FrameSender(served.port, served.upgrade, plan.frames)
        try:
            say(f"{name}: {plan.calls} calls")
            found.fixed = measure(sender, served, plan.calls, plan.duration_s)
            found.points.append(found.fixed)
            if search:
                for point in highest(sender, served, found.fixed, plan.duration_s, plan.most):
                    found.points.append(point)
                    say(f"{name}: {point.calls} calls, p99 {point.lag_p99_ms:.1f} ms")
            if name.startswith(EARSHOT):
                found.lost_frames = sender.unacked_frames(RATE_HZ * FRAME_MS // 1000, 10)
        finally:
            sender.close()
    return found


def saturated(plan: Plan, calls: int, say: Callable[[str], None]) -> tuple[Point, Point]:
    """The same calls with engines that rest, and with a live recogniser that has more to do than it can."""
    points = []
    for settings in (INGEST_ONLY, {"live_text": "true"}):
        with earshot(plan.server_on, RATE_HZ, settings) as served:
            say(f"engines {'busy' if settings['live_text'] == 'true' else 'idle'}: {calls} calls")
            sender = FrameSender(served.port, served.upgrade, plan.frames)
            try:
                sender.open(calls)
                sender.send(calls, 5.0)  # until the recogniser has more than it can do
                points.append(measure(sender, served, calls, 2 * plan.duration_s))
            finally:
                sender.close()
    return points[0], points[1]


def table_of(found: Sequence[Measured]) -> Table:
    """The figures and their ratios to Earshot's."""
    ours = next((one for one in found if one.name == EARSHOT), None)
    base = next((one for one in found if one.name == FLOOR), None)
    table = Table("server", "us a frame", "/ floor", "calls, p99 < 20 ms", "earshot has", "p50 / p99 ms", "lost")
    for one in found:
        assert one.fixed is not None
        times = f"{ours.most_calls / one.most_calls:.2f} x" if ours and one.most_calls else ""
        table.add_row(
            one.name + (" + webrtcvad" if one.vad_us else ""),
            f"{one.cpu_us:.1f}",
            f"{one.cpu_us / base.cpu_us:.2f}" if base else "",
            str(one.most_calls) if len(one.points) > 1 else "",
            times if one is not ours and len(one.points) > 1 else "",
            f"{one.fixed.lag_p50_ms:.1f} / {one.fixed.lag_p99_ms:.1f}",
            "" if one.lost_frames is None else str(one.lost_frames),
        )
    return table


@click.command()
@click.option("--calls", default=200, show_default=True, help="Calls with which CPU is compared.")
@click.option("--most", default=3000, show_default=True, help="More calls than this are not tried.")
@click.option("--seconds", "duration_s", default=3.0, show_default=True, help="How long each point is measured.")
@click.option("--only", multiple=True, type=click.Choice([*PEERS, FLOOR, EARSHOT, "engines"]), help="Leave out others.")
@click.option("--json", "out", type=click.Path(path_type=Path), help="Where the figures go, as JSON.")
def main(calls: int, most: int, duration_s: float, only: tuple[str, ...], out: Path | None) -> None:
    """Hold Earshot's way of taking audio against others, on two processors of this machine."""
    raise_open_files()
    processors = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {processors[-1]})
    pcm, _ = read_audio(demo_call("en").audio, RATE_HZ, 1)
    plan = Plan(frames_of(pcm, RATE_HZ), calls, duration_s, most, processors[0])
    gc.disable()
    wanted = only or (*PEERS, FLOOR, EARSHOT, "engines")
    found: list[Measured] = []
    engines = None
    with (
        tempfile.TemporaryDirectory() as folder,
        Progress(
            SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=Console(stderr=True)
        ) as progress,
    ):
        task = progress.add_task("webrtcvad")
        say = partial(_say, progress, task)
        alone_us = vad_us(pcm)
        found += [run_one(name, peer(plan.server_on, name), plan, say) for name in PEERS if name in wanted]
        if FLOOR in wanted:
            program = compiled_floor(Path(folder))
            if program is None:
                progress.print("no C compiler: the floor is left out (4.3 us a frame where it was last measured)")
            else:
                serving = floor(plan.server_on, program)
                found.append(run_one(FLOOR, serving, plan, say, beside_us=alone_us, search=False))
        if EARSHOT in wanted:
            found.append(run_one(EARSHOT, earshot(plan.server_on, RATE_HZ, INGEST_ONLY), plan, say))
        if "engines" in wanted:
            half = next((one.most_calls for one in found if one.name == EARSHOT), 0) // 2 or calls
            engines = saturated(plan, half, say)
    console = Console()
    console.print(table_of(found))
    console.print(f"webrtcvad alone: {alone_us:.1f} us a frame of this speech; the sender needs", end=" ")
    shares = [point for one in found for point in one.points]
    console.print(f"{max((point.sender_share for point in shares), default=0):.0%} of its processor at most")
    if engines is not None:
        idle, busy = engines
        console.print(
            f"{idle.calls} calls, engines idle: p99 {idle.lag_p99_ms:.1f} ms; saturated: {busy.lag_p99_ms:.1f} ms, "
            f"{busy.lag_p99_ms / idle.lag_p99_ms:.2f} x"
        )
    if out is not None:
        out.write_text(json.dumps(_as_data(found, engines, alone_us), indent=1) + "\n")


def _say(progress: Progress, task: object, text: str) -> None:
    progress.update(task, description=text)  # type: ignore[arg-type]  # what add_task gave
    if not progress.console.is_terminal:
        progress.console.print(text)


def _as_data(found: Sequence[Measured], engines: tuple[Point, Point] | None, alone_us: float) -> dict[str, object]:
    return {
        "webrtcvad_us": alone_us,
        "servers": [{**asdict(one), "cpu_us": one.cpu_us, "most_calls": one.most_calls} for one in found],
        "engines": None if engines is None else {"idle": asdict(engines[0]), "saturated": asdict(engines[1])},
    }


if __name__ == "__main__":
    main()
