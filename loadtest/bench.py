"""How fast and how right live calls are: `make bench`, or `python -m loadtest.bench --help`.

Plays labelled calls one after another, in real time, through the real socket of a real server in a process of its own,
each in stereo and as a mono downmix, and prints latency, accuracy and CPU beside the aims. What each figure means is
printed under the table (`loadtest/report.py`).
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import click
import msgspec
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from gateway.call.settings import CallSettings, CallTerms
from gateway.clients.quality_http import QualityHttp
from gateway.clients.voiceprint_http import VoiceprintHttp
from gateway.engines.manifest import SILERO
from gateway.engines.models import ModelMissing, model_folder
from gateway.engines.silero import Silero
from gateway.engines.webrtc import WebrtcGate
from gateway.ports import StoredCategory
from gateway.session.settings import call_settings
from gateway.settings import load
from gateway.stores.serving import Serving
from gateway.terminal.serving import NotServing, served
from gateway.terminal.softphone import NotAudio, read_audio
from loadtest import report
from loadtest.material import RATE_HZ, LabelledCall, Material, NoMaterial, demo_material, labelled
from loadtest.player import Played, play, start_of
from loadtest.rulemaking import MadeRule, rules_for
from loadtest.scoring import Scored, score
from loadtest.trace import trace
from protocol.codec import encode

ROOT = Path(__file__).parent.parent
CORPUS = ROOT.parent / "shared" / "corpus"
APP_ID = "bench"
SEED = 20240220
CHANNELS = {"stereo": 2, "mono": 1}


@click.command()
@click.option("--calls", type=click.Path(path_type=Path, file_okay=False), help="NAME.flac beside NAME.json.")
@click.option(
    "--enrol", "enrolments", multiple=True, type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder with a transcripts.tsv that marks clips to enrol; may be given again.",
)  # fmt: skip
@click.option("--only", type=click.Choice(list(CHANNELS)), help="One of the two ways of playing.")
@click.option("--limit", type=click.IntRange(min=1), help="Play only so many calls.")
@click.option("--name", "names", multiple=True, help="Play only the call of this name; may be given again.")
@click.option(
    "--apart", multiple=True, default=("magic",), show_default=True, help="Speaker whose text is counted apart."
)
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures here.")
@click.option(
    "--markdown", "markdown_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the table here."
)
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Write every call's messages here.")
def main(
    calls: Path | None, enrolments: tuple[Path, ...], only: str | None, limit: int | None, names: tuple[str, ...],
    apart: tuple[str, ...], json_file: Path | None, markdown_file: Path | None, keep: Path | None,
) -> None:  # fmt: skip
    """Play labelled calls in real time and print latency, accuracy and CPU. Takes as long as the calls, and voice QC.

    Without --calls, the labelled corpus beside the repository, if it is there; else the demo's synthetic calls.
    """
    console = Console()
    try:
        material = _material(calls, enrolments, console)
        chosen = [call for call in material.calls if not names or call.name in names][:limit]
        bench = _Bench(material, console, frozenset(apart), keep)
        variants = asyncio.run(bench.run(chosen, [only] if only else list(CHANNELS)))
    except (NoMaterial, NotAudio, NotServing, ModelMissing) as fault:
        raise click.ClickException(str(fault)) from fault
    figures = {name: report.figures_of(scored) for name, scored in variants.items()}
    report.show(figures, console)
    if markdown_file is not None:
        markdown_file.write_text(report.markdown(figures))
    if json_file is not None:
        document = {"environment": report.environment(), "load": bench.load, "variants": figures}
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1))


def _material(calls: Path | None, enrolments: Sequence[Path], console: Console) -> Material:
    folder = calls or CORPUS / "calls"
    if calls is None and not folder.is_dir():
        console.print(
            "No labelled corpus here (--calls): playing the demo's calls. Their voices are [bold]synthetic[/]."
        )
        return demo_material()
    return labelled(folder, enrolments or [CORPUS / language for language in ("en", "zh")])


class _Bench:
    def __init__(self, material: Material, console: Console, apart: frozenset[str], keep: Path | None) -> None:
        self._material = material
        self._console = console
        self._apart = apart
        self._keep = keep
        self._settings: CallSettings
        self.load: list[tuple[float, float, float]] = []
        """Load averages (1, 5, 15 minutes) before and after."""

    async def run(self, calls: Sequence[LabelledCall], variants: Sequence[str]) -> dict[str, Scored]:
        """Play `calls` in each variant; figures by variant. Raises NotServing, NotAudio, ModelMissing."""
        settings = load(None).settings
        self._settings = call_settings(settings, WebrtcGate)
        silero = Silero(model_folder(settings.models_path, SILERO.name) / SILERO.files[0].name)
        self._note_load("before")
        secret = secrets.token_hex(16)
        rules = {call.name: self._rules(call) for call in calls}
        sums = {variant: Scored() for variant in variants}
        with tempfile.TemporaryDirectory(prefix="earshot-bench-") as folder:
            async with served(Path(folder), f"{APP_ID}:{secret}", self._console) as serving:
                await self._prepare(serving, secret, rules)
                with _progress(self._console) as progress:
                    for variant in variants:
                        for call in calls:
                            played, pcm = await self._play(call, variant, serving, secret, progress)
                            self._save(played, variant)
                            terms = CallTerms.of("offline", start_of(call, played.channels))
                            traced = await asyncio.to_thread(trace, pcm, terms, self._settings, silero.confirm)
                            enrolled = frozenset(self._material.voices)
                            sums[variant].add(score(played, traced, rules[call.name], enrolled, self._apart))
        self._note_load("after")
        return sums

    async def _play(
        self, call: LabelledCall, variant: str, serving: Serving, secret: str, progress: Progress
    ) -> tuple[Played, bytes]:
        channels = CHANNELS[variant]
        pcm = _mixed(call, channels)
        seconds = len(pcm) / (2 * channels * RATE_HZ)
        bar = progress.add_task(f"{call.name} {variant}", total=seconds)
        played = await play(
            call, pcm, channels, serving, (APP_ID, secret), lambda at_s: progress.update(bar, completed=at_s)
        )
        return played, pcm

    async def _prepare(self, serving: Serving, secret: str, rules: dict[str, tuple[MadeRule, ...]]) -> None:
        """Enrol the voices and add the rules through the two APIs, as any client of theirs would."""
        async with aiohttp.ClientSession() as session:
            voices = VoiceprintHttp(serving.http, session, credentials=lambda _: (APP_ID, secret), now=time.time)
            for name, wav in self._material.voices.items():
                await voices.register(APP_ID, APP_ID, "voices", name, wav, filename=f"{name}.wav")
            quality = QualityHttp(session, serving.http, lambda _: (APP_ID, secret))
            for name, made in rules.items():
                expressions = tuple(rule.expression for rule in made)
                await quality.add_rule(APP_ID, StoredCategory(name, f"drawn from {name}", expressions))
        count = sum(map(len, rules.values()))
        self._console.print(f"enrolled {len(self._material.voices)} voices, added {count} rules")

    def _rules(self, call: LabelledCall) -> tuple[MadeRule, ...]:
        elsewhere = [
            turn.text
            for other in self._material.calls
            if other.language == call.language and other.name != call.name
            for turn in other.turns
        ]
        return rules_for([turn.text for turn in call.turns], elsewhere, random.Random(f"{SEED}/{call.name}"))

    def _save(self, played: Played, variant: str) -> None:
        if self._keep is not None:
            self._keep.mkdir(parents=True, exist_ok=True)
            lines = [b"%.1f\t" % one.at_ms + encode(one.message) for one in played.arrived]
            (self._keep / f"{played.call.name}-{variant}.tsv").write_bytes(b"\n".join(lines) + b"\n")

    def _note_load(self, when: str) -> None:
        self.load.append(os.getloadavg())
        averages = " ".join(f"{one:.2f}" for one in self.load[-1])
        self._console.print(f"load average {when}: {averages}")
        if when == "before":
            self._console.print(str(report.environment()), highlight=False)


def _mixed(call: LabelledCall, channels: int) -> bytes:
    """The call's audio as it is, or its channels added up (halved where that would clip): s16le, interleaved."""
    pcm, _ = read_audio(call.audio, RATE_HZ, 2)
    if channels == 2:
        return pcm
    planes = np.frombuffer(pcm, "<i2").reshape(-1, 2).astype(np.int32)
    mixed = planes.sum(axis=1)
    if np.abs(mixed).max() > 32767:
        mixed = mixed // 2
    return bytes(mixed.astype("<i2").tobytes())


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), console=console
    )


if __name__ == "__main__":
    main()
