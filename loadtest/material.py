"""Labelled calls to play, and the clips that their speakers are enrolled from."""

from __future__ import annotations

import csv
import io
import wave
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from gateway.demo import material as demo
from gateway.terminal.softphone import read_audio

RATE_HZ: Literal[16000] = 16000
PAUSE_BETWEEN_CLIPS_S = 0.3


class Turn(msgspec.Struct, frozen=True):
    """One turn of the reference; its bounds may hold a little silence at both ends."""

    channel: str
    speaker: str
    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True, slots=True)
class LabelledCall:
    name: str
    audio: Path
    language: Literal["zh", "en"]
    turns: tuple[Turn, ...]
    """In order of time."""

    def speakers(self, role: str) -> tuple[str, ...]:
        """Who speaks on a channel, each once."""
        return tuple(dict.fromkeys(turn.speaker for turn in self.turns if turn.channel == role))


@dataclass(frozen=True, slots=True)
class Material:
    """`voices`: what to enrol, a WAV file by name."""

    calls: tuple[LabelledCall, ...]
    voices: dict[str, bytes]
    synthetic: bool


class NoMaterial(Exception):
    """There is nothing to play where it was looked for."""


def labelled(calls: Path, enrolments: Sequence[Path]) -> Material:
    """`calls` holds NAME.flac beside NAME.json; each folder of `enrolments` a transcripts.tsv with a column `role`.

    Raises NoMaterial.
    """
    found = tuple(_call(path) for path in sorted(calls.glob("*.json")))
    if not found:
        raise NoMaterial(f"{calls} holds no NAME.json with NAME.flac beside it")
    clips: dict[str, list[Path]] = {}
    for folder in enrolments:
        with (folder / "transcripts.tsv").open(encoding="utf-8", newline="") as table:
            for row in csv.DictReader(table, delimiter="\t"):
                if row["role"] == "enrol":
                    clips.setdefault(row["speaker"], []).append(folder / row["file"])
    return Material(found, {name: _joined(paths) for name, paths in clips.items()}, synthetic=False)


def demo_material() -> Material:
    """The demo's calls: synthetic voices, of which only the agents' are enrolled."""
    loaded = [(language, demo.demo_call(language)) for language in demo.LANGUAGES]
    calls = tuple(
        LabelledCall(
            f"demo-{language}",
            call.audio,
            call.language,
            tuple(Turn(turn.channel, turn.speaker, turn.start_s, turn.end_s, turn.text) for turn in call.turns),
        )
        for language, call in loaded
    )
    # The reference names the agent's voice, the enrolment the agent.
    voices = {call.speakers("agent")[0]: _joined([one.enrolment]) for call, (_, one) in zip(calls, loaded, strict=True)}
    return Material(calls, voices, synthetic=True)


def _call(path: Path) -> LabelledCall:
    reference: dict[str, Any] = msgspec.json.decode(path.read_bytes())
    turns = msgspec.convert(reference["turns"], tuple[Turn, ...])
    chinese = any("\u4e00" <= char <= "\u9fff" for turn in turns for char in turn.text)
    in_order = tuple(sorted(turns, key=lambda turn: turn.start_s))
    return LabelledCall(path.stem, path.with_suffix(".flac"), "zh" if chinese else "en", in_order)


def _joined(clips: Iterable[Path]) -> bytes:
    """Clips of one voice as one mono WAV file: a service enrols one file a name."""
    pause = bytes(2 * round(PAUSE_BETWEEN_CLIPS_S * RATE_HZ))
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE_HZ)
        out.writeframes(pause.join(read_audio(clip, RATE_HZ, 1)[0] for clip in clips))
    return file.getvalue()
