"""How many live calls a machine carries: `python -m loadtest.bench_capacity --help`.

So many paced calls at once against a real `earshot serve` of its own, each with speech half the time, begun at other
places of the material. A step is carried when no final text comes more than 3 s late. Steps go up until one is not.

What to expect on two processors, from the CPU that decodes take (BENCHMARKS.md, live text): at least 12 calls with
partial texts with whisper-tiny.en, 6 with whisper-base, 25 with finals alone (`--finals-only`) with whisper-base. Under
load partials thin out first, so the columns of level and partials belong to the answer.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import aiohttp
import click
import numpy as np
from rich.console import Console
from rich.table import Table

from gateway.clients.quality_http import QualityHttp
from gateway.engines.manifest import WHISPER_BASE
from gateway.evaluation.accounting import GATEWAY, CpuTimes, cpu_times
from gateway.evaluation.figures import Spread, spread
from gateway.evaluation.material import RATE_HZ, LabelledCall, demo_material, labelled
from gateway.ports import StoredCategory
from gateway.stores.serving import Serving
from gateway.terminal.serving import NotServing, served
from gateway.terminal.softphone import Playback, read_audio
from loadtest.corpus import CORPUS
from protocol.audio import AudioFormat
from protocol.client import CallClient, CallLost, CallRefused
from protocol.messages import Segment, Start, Transcript

APP_ID = "capacity"
MOST_LATE_MS = 3000
KEYWORDS = ("account", "money", "question", "captain", "退款", "投诉", "问题", "还款")
"""Rules that look at the calls: without any, partials would be given up sooner."""


@dataclass(slots=True)
class Step:
    """What so many calls at once saw."""

    calls: int
    late_ms: list[float] = field(default_factory=list)
    """Of each final: from when its segment could close, on the media clock, to its arrival."""
    missing: int = 0
    """Segments that closed and got no final text."""
    partials: int = 0
    speech_s: float = 0.0
    levels: list[int] = field(default_factory=list)
    cpu: CpuTimes | None = None
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)

    @property
    def carried(self) -> bool:
        return not self.faults and not self.missing and max(self.late_ms, default=0.0) <= MOST_LATE_MS


@click.command()
@click.option(
    "--calls", "steps", multiple=True, type=click.IntRange(min=1), default=(4, 8, 12, 16, 24), show_default=True
)
@click.option("--duration", "duration_s", type=click.FloatRange(min=10), default=120.0, show_default=True, help="s")
@click.option("--model", default=WHISPER_BASE.name, show_default=True)
@click.option("--language", type=click.Choice(["en", "zh"]), default="en", show_default=True)
@click.option("--finals-only", is_flag=True, help="Texts at pauses and at the end of an utterance only.")
@click.option("--material", type=click.Path(path_type=Path, file_okay=False), help="NAME.flac beside NAME.json.")
def main(
    steps: tuple[int, ...], duration_s: float, model: str, language: str, finals_only: bool, material: Path | None
) -> None:
    """Play --calls (may be given several times) calls at once, until finals come late.

    Without --material, the labelled corpus beside the repository, if it is there; else the demo's synthetic calls.
    """
    console = Console(width=160)
    folder = material or CORPUS / "calls"
    found = labelled(folder, []) if folder.is_dir() else demo_material()
    turns = _turns([call for call in found.calls if call.language == language])
    environment = {"EARSHOT_RECOGNIZER": model, **({"EARSHOT_PARTIAL_HOP_MS": "0"} if finals_only else {})}
    os.environ.update(environment)
    table = Table(
        *("calls", "carried", "finals late, ms p50 / p95 / most", "missing", "partials a second of speech"),
        *("level p50 / most", "CPU of recogniser / gateway / all, share of the machine"),
        title=f"{model}, {language}{', finals only' if finals_only else ''}: {os.cpu_count()} processors, "
        f"load average before {os.getloadavg()[0]:.1f}",
        title_justify="left",
    )
    try:
        for calls in sorted(steps):
            step = asyncio.run(_step(calls, turns, language, duration_s, console))
            table.add_row(*_row(step))
            if not step.carried:
                for fault in step.faults[:3]:
                    console.print(fault)
                break
    except NotServing as fault:
        raise click.ClickException(str(fault)) from fault
    console.print(table)


def _turns(calls: Sequence[LabelledCall]) -> list[bytes]:
    """Every turn as mono PCM."""
    turns = []
    for call in calls:
        pcm, _ = read_audio(call.audio, RATE_HZ, 2)
        planes = np.frombuffer(pcm, "<i2").reshape(-1, 2)
        roles = list(dict.fromkeys(sorted(turn.channel for turn in call.turns)))  # agent before customer
        for turn in call.turns:
            span = planes[int(turn.start_s * RATE_HZ) : int(turn.end_s * RATE_HZ), roles.index(turn.channel)]
            turns.append(span.tobytes())
    return turns


def _half_speech(turns: Sequence[bytes], first: int, duration_s: float) -> bytes:
    """Turns from the `first` on, each followed by as much silence."""
    wanted, pcm = 2 * int(duration_s * RATE_HZ), bytearray()
    for turn in cycle([*turns[first:], *turns[:first]]):
        pcm += turn + bytes(len(turn))
        if len(pcm) >= wanted:
            return bytes(pcm[:wanted])
    return bytes(pcm)


async def _step(calls: int, turns: list[bytes], language: str, duration_s: float, console: Console) -> Step:
    """A fresh server for each step: voice QC of the last one's recordings would be in the way."""
    step = Step(calls, seconds=duration_s, speech_s=calls * duration_s / 2)
    secret = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="earshot-capacity-") as folder:
        async with served(Path(folder), f"{APP_ID}:{secret}", console) as serving, aiohttp.ClientSession() as http:
            quality = QualityHttp(http, serving.http, lambda _: (APP_ID, secret))
            await quality.add_rule(APP_ID, StoredCategory("words", "what rules look for", KEYWORDS))
            watching = asyncio.create_task(_watch_level(serving, http, step.levels))
            before = cpu_times(serving.pid)
            stagger_s = min(10.0, duration_s / 4)
            playing = [
                _call(
                    *(serving, secret, language, stagger_s * nth / calls),
                    *(_half_speech(turns, 5 * nth % len(turns), duration_s), step),
                )
                for nth in range(calls)
            ]
            with console.status(f"{calls} calls of {duration_s:g} s"):
                await asyncio.gather(*playing)
            step.cpu = cpu_times(serving.pid).since(before)
            watching.cancel()
    return step


async def _call(serving: Serving, secret: str, language: str, wait_s: float, pcm: bytes, step: Step) -> None:
    await asyncio.sleep(wait_s)
    audio = AudioFormat("pcm_s16le", RATE_HZ, 1)
    start = Start(rate=RATE_HZ, roles=["customer"], language=language)  # type: ignore[arg-type]  # one of the choices
    playback = Playback(pcm, audio, 1.0)
    closed: dict[str, int] = {}
    try:
        async with CallClient(serving.ws, start, app_id=APP_ID, secret=secret) as client, asyncio.TaskGroup() as group:
            group.create_task(_play(playback, client))
            async for message in client:
                match message:
                    case Segment(state="closed"):
                        closed[message.segment_id] = message.at_ms
                    case Transcript(final=False):
                        step.partials += 1
                    case Transcript(segment_id=segment_id):
                        late_ms = playback.since_ms(closed.pop(segment_id))
                        assert late_ms is not None
                        step.late_ms.append(late_ms)
    except* (CallRefused, CallLost, OSError) as group_of_faults:
        step.faults += [str(fault) for fault in group_of_faults.exceptions]
    step.missing += len(closed)


async def _play(playback: Playback, client: CallClient) -> None:
    await playback.run(client)
    # The verdict is not waited for, the last final texts are.
    await client.hang_up(wait_qc_ms=0)


async def _watch_level(serving: Serving, http: aiohttp.ClientSession, levels: list[int]) -> None:
    while True:
        async with http.get(f"{serving.http}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        levels += [int(float(line.split()[1])) for line in lines if line.startswith("earshot_load_level ")]
        await asyncio.sleep(1.0)


def _row(step: Step) -> list[str]:
    late, level = spread(step.late_ms), spread(step.levels)
    assert step.cpu is not None
    whole_s = (os.cpu_count() or 1) * step.seconds
    parts = step.cpu.parts
    shares = [parts.get("recognizer", 0.0), parts.get(GATEWAY, 0.0), sum(parts.values())]
    return [
        str(step.calls),
        "yes" if step.carried else "no",
        _three(late),
        str(step.missing),
        f"{step.partials / step.speech_s:.2f}",
        f"{level.p50:.0f} / {level.most:.0f}",
        " / ".join(f"{share / whole_s:.0%}" for share in shares),
    ]


def _three(one: Spread) -> str:
    return f"{one.p50:.0f} / {one.p95:.0f} / {one.most:.0f}"


if __name__ == "__main__":
    main()
