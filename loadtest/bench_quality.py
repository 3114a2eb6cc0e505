"""What voice QC's transcripts are worth and what they cost: `python -m loadtest.bench_quality --help`.

Labelled calls go through the transcriber of voice QC with the real models in this process, one thread each: the CPU
time of the process is that of one core, whatever else the machine does. Each call is judged in stereo, a channel a
speaker, and as a mono downmix whose speakers are told apart.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from gateway.engines.campplus import Campplus
from gateway.engines.manifest import CAMPPLUS, SILERO, WHISPER_BASE, WHISPER_TINY_EN
from gateway.engines.models import installed, model_folder
from gateway.engines.silero import Silero
from gateway.engines.whisper import Whisper
from gateway.evaluation.attribution import AttributedEdits, attributed_edits
from gateway.evaluation.diarization import SpeechErrors, voice_errors
from gateway.evaluation.material import RATE_HZ, LabelledCall, demo_material, labelled
from gateway.evaluation.wording import Edits, edits
from gateway.ports import Embedding, SpeechProbabilities, TranscribeRequest, Transcription
from gateway.quality.diarizer import Diarizer
from gateway.quality.speech import MARGIN_MS
from gateway.quality.transcribe import Channels, Transcriber, Transcript
from gateway.settings import load
from gateway.terminal.softphone import read_audio
from loadtest.corpus import CORPUS

PLAYS = ("stereo", "mono")


@dataclass(slots=True)
class Engines:
    """The models behind the ports that a transcript asks; `cpu_s` of each."""

    whisper: Whisper
    campplus: Campplus
    silero: Silero
    dimensions: int = 192
    cpu_s: dict[str, float] = field(default_factory=dict)

    async def transcribe(self, request: TranscribeRequest) -> Transcription:
        with self._timed("recognition"):
            return self.whisper.transcribe(request.pcm, request.rate_hz, request.language, request.kind)

    async def embed_window(self, pcm: bytes, rate_hz: int) -> Embedding:
        with self._timed("prints"):
            return self.campplus.embed(pcm, rate_hz)

    async def confirm(self, pcm: bytes, rate_hz: int, state: bytes | None) -> SpeechProbabilities:
        with self._timed("speech"):
            return self.silero.confirm(pcm, rate_hz, state)

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        begun = time.process_time()
        yield
        self.cpu_s[part] = self.cpu_s.get(part, 0.0) + time.process_time() - begun


class _Now:
    def monotonic(self) -> float:
        return 0.0

    def wall(self) -> float:
        return 0.0


@dataclass(slots=True)
class Sum:
    """Figures over calls, of one model and play."""

    audio_s: float = 0.0
    cpu_s: float = 0.0
    parts_s: dict[str, float] = field(default_factory=dict)
    sides: dict[str, Edits] = field(default_factory=dict)
    """By language, and by speaker where that is counted on its own."""
    speakers: dict[str, AttributedEdits] = field(default_factory=dict)
    """By language: the words of each speaker held against the text of one `speaker_id`."""
    found: SpeechErrors = field(default_factory=SpeechErrors)
    """Turns of speech with the margin that a recogniser is given."""
    answered: SpeechErrors = field(default_factory=SpeechErrors)
    """What callers get: sentences with their times and `speaker_id`."""
    answered_overlaps: SpeechErrors = field(default_factory=SpeechErrors)
    counts: dict[str, int] = field(default_factory=dict)
    """How many speakers were found, by call."""


@click.command()
@click.option("--calls", type=click.Path(path_type=Path, file_okay=False), help="NAME.flac beside NAME.json.")
@click.option("--name", "names", multiple=True, help="Only the call of this name; may be given again.")
@click.option("--model", "models", multiple=True, help="Default: whisper-base, and whisper-tiny.en if it is there.")
@click.option("--play", "plays", multiple=True, type=click.Choice(PLAYS), default=PLAYS, show_default=True)
@click.option("--apart", multiple=True, help="A speaker whose text is counted on its own; may be given again.")
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures here.")
def main(
    calls: Path | None,
    names: tuple[str, ...],
    models: tuple[str, ...],
    plays: tuple[str, ...],
    apart: tuple[str, ...],
    json_path: Path | None,
) -> None:
    """Without --calls, the labelled corpus beside the repository, if it is there; else the demo's synthetic calls."""
    folder = calls or CORPUS / "calls"
    material = (labelled(folder, []) if folder.is_dir() else demo_material()).only(names, None)
    models_path = load(None).settings.models_path
    known = [WHISPER_BASE.name, *([WHISPER_TINY_EN.name] if installed(models_path, WHISPER_TINY_EN.name) else [])]
    sums: dict[tuple[str, str], Sum] = {}
    for model in models or known:
        engines = Engines(
            Whisper(model_folder(models_path, model)),
            Campplus(model_folder(models_path, CAMPPLUS.name) / CAMPPLUS.files[0].name),
            Silero(model_folder(models_path, SILERO.name) / SILERO.files[0].name),
        )
        for play in plays:
            one = sums.setdefault((model, play), Sum())
            for call in material.calls:
                if call.language == "en" or not model.endswith(".en"):
                    _measure(one, call, play, engines, frozenset(apart))
    Console(width=160).print(_table(sums))
    if json_path is not None:
        figures = [{"model": model, "play": play, **asdict(one)} for (model, play), one in sums.items()]
        json_path.write_text(json.dumps(figures, indent=1))


def _measure(sums: Sum, call: LabelledCall, play: str, engines: Engines, apart: frozenset[str]) -> None:
    pcm, _ = read_audio(call.audio, RATE_HZ, 2)
    both = np.frombuffer(pcm, "<i2").reshape(-1, 2)
    mono = both.mean(axis=1, dtype=np.float32).round().astype(np.int16)
    parties = (mono,) if play == "mono" else tuple(np.ascontiguousarray(both[:, channel]) for channel in range(2))
    channels = Channels(parties, RATE_HZ)
    engines.cpu_s = {}
    begun = time.process_time()
    transcript = asyncio.run(_transcript(channels, call, engines, tell_apart=play == "mono"))
    sums.cpu_s += time.process_time() - begun
    sums.audio_s += channels.duration_ms / 1000
    for part, spent_s in engines.cpu_s.items():
        sums.parts_s[part] = sums.parts_s.get(part, 0.0) + spent_s
    _score_text(sums, call, play, transcript, apart)
    _score_turns(sums, call, play, transcript, channels.duration_ms)


async def _transcript(channels: Channels, call: LabelledCall, engines: Engines, *, tell_apart: bool) -> Transcript:
    async def progressed(percent: int) -> None:
        """Nobody watches."""

    transcriber = Transcriber(engines, engines, _Now(), diarizer=Diarizer(engines))
    return await transcriber.transcribe(channels, call.language, call.name, progressed, tell_apart=tell_apart)


def _score_text(sums: Sum, call: LabelledCall, play: str, transcript: Transcript, apart: frozenset[str]) -> None:
    sides = ("agent", "customer") if play == "stereo" else ("mixed",)
    for channel, side in enumerate(sides):
        turns = [turn for turn in call.turns if side in ("mixed", turn.channel)]
        special = sorted({turn.speaker for turn in turns} & apart) if side != "mixed" else []
        key = " ".join([call.language, *special])
        text = _joined(transcript, lambda one, channel=channel: one.channel == channel, call.language)
        reference = " ".join(turn.text for turn in turns)
        sums.sides[key] = sums.sides.get(key, Edits()) + edits(reference, text, call.language)
    numbers = sorted({one.speaker_id for one in transcript.utterances})
    texts = {
        number: _joined(transcript, lambda one, number=number: one.speaker_id == number, call.language)
        for number in numbers
    }
    told = attributed_edits(call.turns, texts, call.language)
    sums.speakers[call.language] = sums.speakers.get(call.language, AttributedEdits()) + told
    sums.counts[call.name] = len(numbers)


def _joined(transcript: Transcript, wanted: Any, language: str) -> str:
    return (" " if language == "en" else "").join(one.text for one in transcript.utterances if wanted(one))


def _score_turns(sums: Sum, call: LabelledCall, play: str, transcript: Transcript, duration_ms: int) -> None:
    said = [(one.begin_ms, one.end_ms, one.speaker_id) for one in transcript.utterances]
    sums.answered += voice_errors(call.turns, said, duration_ms, overlaps=False)
    sums.answered_overlaps += voice_errors(call.turns, said, duration_ms, overlaps=True)
    turns = [(one.begin_ms, one.end_ms, one.speaker) for one in transcript.turns] or [
        (span.begin_ms, span.end_ms, channel) for channel, spans in enumerate(transcript.speech) for span in spans
    ]
    widened = [(begin_ms - MARGIN_MS, end_ms + MARGIN_MS, number) for begin_ms, end_ms, number in turns]
    sums.found += voice_errors(call.turns, widened, duration_ms, overlaps=False)


def _table(sums: dict[tuple[str, str], Sum]) -> Table:
    table = Table("figure", *(f"{model} {play}" for model, play in sums), title="Voice QC on labelled calls")
    columns = [dict(_figures(one)) for one in sums.values()]
    for name in dict.fromkeys(name for column in columns for name in column):
        table.add_row(name, *(column.get(name, "") for column in columns))
    return table


def _figures(one: Sum) -> Iterator[tuple[str, str]]:
    yield "calls, minutes", f"{len(one.counts)}, {one.audio_s / 60:.1f}"
    for key, counted in sorted(one.sides.items()):
        yield f"{'CER' if key.startswith('zh') else 'WER'} {key}", f"{counted.rate:.3f} ({counted.length})"
    for language, told in sorted(one.speakers.items()):
        kind = "CER" if language == "zh" else "WER"
        yield f"{kind} {language} by speaker", f"{told.total.rate:.3f} ({told.total.length})"
        yield f"  {language} outside overlaps", f"{told.alone.rate:.3f} ({told.alone.length})"
        yield f"  {language} inside overlaps", f"{told.overlapped.rate:.3f} ({told.overlapped.length})"
    for name, errors in (
        ("DER of sentences", one.answered),
        ("  overlaps scored", one.answered_overlaps),
        ("DER of turns", one.found),
    ):
        parts = f"{errors.missed_ms / 1000:.1f}, {errors.false_ms / 1000:.1f}, {errors.confused_ms / 1000:.1f}"
        yield name, f"{errors.rate:.3f} ({parts} of {errors.spoken_ms / 1000:.0f} s)"
    yield "speakers found", " ".join(str(count) for count in one.counts.values())
    yield "CPU s a second of call", f"{one.cpu_s / one.audio_s:.3f}"
    for part, spent_s in sorted(one.parts_s.items()):
        yield f"  {part}", f"{spent_s / one.audio_s:.3f}"


if __name__ == "__main__":
    main()
