"""Labelled calls to play, and the clips that their speakers are enrolled from."""

from __future__ import annotations

import csv
import io
import wave
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec

from gateway.demo import material as demo
from gateway.terminal.softphone import read_audio
from protocol.rules.text import is_han

RATE_HZ: Literal[16000] = 16000
PAUSE_BETWEEN_CLIPS_S = 0.3
AUDIO_SUFFIXES = (".flac", ".wav", ".mp3", ".ogg", ".opus", ".m4a")


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

    def only(self, names: Collection[str], limit: int | None) -> Material:
        """The calls of these names (all if there are none), at most `limit` of them. Raises NoMaterial."""
        known = {call.name for call in self.calls}
        for name in names:
            if name not in known:
                raise NoMaterial(f"there is no call {name}; there are {', '.join(sorted(known))}")
        return replace(self, calls=tuple(call for call in self.calls if not names or call.name in names)[:limit])


class NoMaterial(Exception):
    """There is nothing to play where it was looked for."""


def labelled(calls: Path, enrolments: Sequence[Path]) -> Material:
    """Calls of a folder and the voices of others.

    `calls` holds NAME.json (turns: channel, speaker, start_s, end_s, text; optionally language) beside NAME.flac or
    another audio file. A folder of `enrolments` holds one audio file a voice, or a transcripts.tsv whose rows with
    the role `enrol` name a file and its speaker. Raises NoMaterial, saying which file is at fault.
    """
    found = tuple(_call(path) for path in sorted(calls.glob("*.json")))
    if not found:
        raise NoMaterial(f"{calls} holds no NAME.json with NAME.flac (or .wav, .mp3, .ogg, ...) beside it")
    clips: dict[str, list[Path]] = {}
    for folder in enrolments:
        for name, path in _clips(folder):
            clips.setdefault(name, []).append(path)
    return Material(found, {name: _joined(paths) for name, paths in clips.items()})


def _clips(folder: Path) -> Iterator[tuple[str, Path]]:
    table = folder / "transcripts.tsv"
    if not table.exists():
        found = [path for path in sorted(folder.iterdir()) if path.suffix in AUDIO_SUFFIXES]
        if not found:
            raise NoMaterial(f"{folder} holds neither audio files to enrol nor a transcripts.tsv that names some")
        yield from ((path.stem, path) for path in found)
        return
    with table.open(encoding="utf-8", newline="") as rows:
        for number, row in enumerate(csv.DictReader(rows, delimiter="\t"), 2):
            try:
                if row["role"] == "enrol":
                    yield row["speaker"], folder / row["file"]
            except KeyError as missing:
                raise NoMaterial(f"{table}, line {number}: no column {missing}; expected role, speaker, file") from None


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
    return Material(calls, voices)


class _Reference(msgspec.Struct):
    turns: tuple[Turn, ...]
    language: Literal["zh", "en"] | None = None


def _call(path: Path) -> LabelledCall:
    try:
        reference = msgspec.json.decode(path.read_bytes(), type=_Reference)
    except (msgspec.MsgspecError, UnicodeDecodeError) as fault:
        raise NoMaterial(f"{path}: {fault}; expected turns of channel, speaker, start_s, end_s and text") from fault
    audio = next((one for suffix in AUDIO_SUFFIXES if (one := path.with_suffix(suffix)).exists()), None)
    if audio is None:
        raise NoMaterial(f"{path} has no audio beside it; expected {path.stem}.flac, .wav, .mp3, .ogg, .opus or .m4a")
    chinese = any(is_han(char) for turn in reference.turns for char in turn.text)
    in_order = tuple(sorted(reference.turns, key=lambda turn: turn.start_s))
    return LabelledCall(path.stem, audio, reference.language or ("zh" if chinese else "en"), in_order)


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
