"""Plays labelled calls into real servers and scores what comes back: the work behind `earshot eval`."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import aiohttp
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from gateway.call.settings import CallSettings, CallTerms
from gateway.clients.quality_http import QualityHttp
from gateway.clients.voiceprint_http import VoiceprintHttp
from gateway.engines.manifest import SILERO
from gateway.engines.models import model_folder
from gateway.engines.silero import Silero
from gateway.engines.webrtc import WebrtcGate
from gateway.evaluation.accounting import cpu_times
from gateway.evaluation.material import RATE_HZ, LabelledCall, Material, NoMaterial
from gateway.evaluation.player import Played, play, start_of
from gateway.evaluation.report import environment
from gateway.evaluation.rulemaking import MadeRule, judged_by_reference, rules_for
from gateway.evaluation.scoring import Scored, score
from gateway.evaluation.trace import trace
from gateway.ports import StoredCategory
from gateway.session.settings import call_settings
from gateway.settings import load
from gateway.stores.serving import Serving
from gateway.terminal.serving import served
from gateway.terminal.softphone import read_audio
from protocol.codec import encode

APP_ID = "evaluation"
SEED = 20240220
Playing = Literal["stereo", "mono"]
CHANNELS: dict[Playing, int] = {"stereo": 2, "mono": 1}


@dataclass(frozen=True, slots=True)
class Variant:
    """One way of playing all the calls: with these settings of the server, in stereo or as a mono downmix."""

    playing: Playing
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return " ".join([self.playing, *(f"{name}={value}" for name, value in self.settings.items())])


@dataclass(frozen=True, slots=True)
class Plan:
    """What is played, and how. `categories`: rules of the operator's by category; without any, rules are drawn."""

    variants: Sequence[Variant]
    speed: float = 1.0
    at_once: int = 1
    categories: Mapping[str, Sequence[str]] = field(default_factory=dict)
    apart: frozenset[str] = frozenset()
    """Speakers whose text is counted on its own."""
    keep: Path | None = None
    """Folder for every call's messages."""


class Evaluation:
    """Plays a plan's variants one after another, each group of equal settings on a server of its own."""

    def __init__(self, material: Material, plan: Plan, console: Console) -> None:
        self._material = material
        self._plan = plan
        self._console = console
        self._secret = secrets.token_hex(16)
        self._rules = {call.name: self._rules_of(call) for call in material.calls}
        self.load: list[tuple[float, float, float]] = []
        """Load averages (1, 5, 15 minutes) before and after."""

    async def run(self) -> dict[str, Scored]:
        """Figures by variant.

        Raises NotServing, NotAudio, NoMaterial, ModelMissing, SettingsError, CallRefused, CallLost.
        """
        self._note_load("before")
        scored: dict[str, Scored] = {}
        groups: dict[tuple[tuple[str, str], ...], list[Variant]] = {}
        for variant in self._plan.variants:
            groups.setdefault(tuple(variant.settings.items()), []).append(variant)
        for settings, variants in groups.items():
            scored |= await self._group(dict(settings), variants)
        self._note_load("after")
        return scored

    async def _group(self, overrides: Mapping[str, str], variants: Sequence[Variant]) -> dict[str, Scored]:
        settings = load(None, overrides=overrides).settings
        core = call_settings(settings, WebrtcGate)
        silero = Silero(model_folder(settings.models_path, SILERO.name) / SILERO.files[0].name)
        sums = {}
        with tempfile.TemporaryDirectory(prefix="earshot-eval-") as folder:
            async with served(Path(folder), f"{APP_ID}:{self._secret}", self._console, overrides) as serving:
                await self._prepare(serving)
                for variant in variants:
                    sums[variant.name] = await self._variant(variant, serving, core, silero)
        return sums

    async def _variant(self, variant: Variant, serving: Serving, core: CallSettings, silero: Silero) -> Scored:
        total = Scored()
        free = asyncio.Semaphore(self._plan.at_once)
        began = cpu_times(serving.pid)

        async def one(call: LabelledCall) -> None:
            async with free:
                pcm = _mixed(call, CHANNELS[variant.playing])
                played = await self._play(call, pcm, variant, serving, progress)
            self._save(played, variant)
            terms = CallTerms.of("offline", start_of(call, played.channels))
            traced = await asyncio.to_thread(trace, pcm, terms, core, silero.confirm)
            enrolled = frozenset(self._material.voices)
            total.add(score(played, traced, self._rules[call.name], enrolled, self._plan.apart))

        with _progress(self._console) as progress:
            try:
                async with asyncio.TaskGroup() as group:
                    for call in self._material.calls:
                        group.create_task(one(call))
            except ExceptionGroup as faults:
                raise faults.exceptions[0] from None
        if self._plan.at_once > 1:  # whose call and which phase it was spent on cannot be told apart
            spent = cpu_times(serving.pid).since(began)
            total.live_cpu, total.qc_cpu = dict(spent.parts), {}
            total.others_s, total.own_s = spent.others_s, spent.own_s
        return total

    async def _play(
        self, call: LabelledCall, pcm: bytes, variant: Variant, serving: Serving, progress: Progress
    ) -> Played:
        channels = CHANNELS[variant.playing]
        bar = progress.add_task(f"{call.name} {variant.name}", total=len(pcm) / (2 * channels * RATE_HZ))
        return await play(
            call,
            pcm,
            channels,
            serving,
            (APP_ID, self._secret),
            tuple(self._plan.categories) or (call.name,),
            self._plan.speed,
            lambda at_s: progress.update(bar, completed=at_s),
        )

    async def _prepare(self, serving: Serving) -> None:
        """Enrol the voices and add the rules through the two APIs, as any client of theirs would."""
        credentials = (APP_ID, self._secret)
        async with aiohttp.ClientSession() as session:
            voices = VoiceprintHttp(serving.http, session, credentials=lambda _: credentials, now=time.time)
            for name, wav in self._material.voices.items():
                await voices.register(APP_ID, APP_ID, "voices", name, wav, filename=f"{name}.wav")
            quality = QualityHttp(session, serving.http, lambda _: credentials)
            drawn = {name: [rule.expression for rule in made] for name, made in self._rules.items()}
            for name, expressions in (self._plan.categories or drawn).items():
                if expressions:
                    await quality.add_rule(APP_ID, StoredCategory(name, "to be evaluated", tuple(expressions)))
        self._console.print(f"enrolled {len(self._material.voices)} voices, added {self._count} rules")

    @property
    def _count(self) -> int:
        return sum(map(len, self._plan.categories.values() or self._rules.values()))

    def _rules_of(self, call: LabelledCall) -> tuple[MadeRule, ...]:
        sentences = [turn.text for turn in call.turns]
        if self._plan.categories:
            given = [expression for expressions in self._plan.categories.values() for expression in expressions]
            return judged_by_reference(dict.fromkeys(given, "given"), sentences)
        elsewhere = [
            turn.text
            for other in self._material.calls
            if other.language == call.language and other.name != call.name
            for turn in other.turns
        ]
        return rules_for(sentences, elsewhere, random.Random(f"{SEED}/{call.name}"))

    def _save(self, played: Played, variant: Variant) -> None:
        if self._plan.keep is not None:
            self._plan.keep.mkdir(parents=True, exist_ok=True)
            lines = [b"%.1f\t" % one.at_ms + encode(one.message) for one in played.arrived]
            path = self._plan.keep / f"{played.call.name} {variant.name}.tsv".replace("/", "_")
            path.write_bytes(b"\n".join(lines) + b"\n")

    def _note_load(self, when: str) -> None:
        self.load.append(os.getloadavg())
        averages = " ".join(f"{one:.2f}" for one in self.load[-1])
        self._console.print(f"load average {when}: {averages}")
        if when == "before":
            self._console.print(str(environment()), highlight=False)


def _mixed(call: LabelledCall, channels: int) -> bytes:
    """The call's audio as it is, or its channels added up (halved where that would clip): s16le, interleaved."""
    pcm, recorded = read_audio(call.audio, RATE_HZ, None)
    if recorded < channels:
        raise NoMaterial(f"{call.audio} has one channel: play it with --play mono")
    if recorded == channels:
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
