"""What softphones say: audio files as frames that are made once and sent by every call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Final

from gateway.demo.material import demo_call
from gateway.terminal.softphone import NotAudio, read_audio
from loadtest.scenario import Phones
from loadtest.softphones.frames import BINARY, client_frame
from protocol.audio import AudioFormat, compress

SUFFIXES: Final = frozenset({".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac", ".mp4", ".webm", ".mkv"})
MOST_S: Final = 1200
"""So much audio is taken of a folder, for each kind of softphone: it is kept in memory, as frames."""


@dataclass(frozen=True, slots=True)
class Script:
    """One file as one kind of softphone plays it, over and over."""

    audio: AudioFormat
    frames: tuple[bytes, ...]
    """Whole WebSocket frames."""
    payloads: tuple[bytes, ...]
    """Their audio in the call's encoding."""
    sizes: tuple[int, ...]
    """Their sampling instants."""
    pcm: bytes
    """All of it as a recording holds it: s16le, interleaved."""

    def recording(self, first_frame: int, samples: int) -> bytes:
        """What the recording of a call must hold that began with `first_frame` and sent so many instants."""
        width = 2 * self.audio.channels
        begin, wanted = sum(self.sizes[:first_frame]) * width, samples * width
        turns = (begin + wanted) // len(self.pcm) + 1
        return (self.pcm * turns)[begin : begin + wanted]


def sources(file: Path | None, folder: Path | None) -> list[Path]:
    """The audio files to play: one, a folder's, or the demo's call. Raises NotAudio."""
    if folder is not None:
        found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES) if folder.is_dir() else []
        if not found:
            raise NotAudio(f"{folder} holds no audio; expected a folder with files such as call.wav or call.flac")
        return found
    return [file or demo_call("en").audio]


def scripts(paths: Sequence[Path], phones: Phones) -> list[Script]:
    """Each of the files as such softphones play it, until `MOST_S` are reached. Raises NotAudio."""
    made: list[Script] = []
    length_s = 0.0
    for path in paths:
        pcm, _ = read_audio(path, phones.rate_hz, phones.channels)
        made.append(script(pcm, phones, str(path)))
        length_s += len(pcm) / (2 * phones.channels * phones.rate_hz)
        if length_s > MOST_S:
            break
    return made


def script(pcm: bytes, phones: Phones, name: str = "the audio") -> Script:
    """PCM (s16le, interleaved) cut into frames; what is left over at the end and makes no whole frame is not played.

    Raises NotAudio when it is shorter than one round of the frame sizes.
    """
    audio = AudioFormat(phones.encoding, phones.rate_hz, phones.channels)
    width = 2 * phones.channels
    whole = len(pcm) // width
    sizes: list[int] = []
    cut = 0
    for frame_ms in cycle(phones.frame_ms):
        size = audio.ms_to_samples(frame_ms)
        if cut + size > whole:
            break
        sizes.append(size)
        cut += size
    if len(sizes) < len(phones.frame_ms):
        raise NotAudio(f"{name} is shorter than {sum(phones.frame_ms)} ms, which is what its frames take")
    payloads, at = [], 0
    for size in sizes:
        payloads.append(compress(phones.encoding, pcm[at * width : (at + size) * width]))
        at += size
    return Script(
        audio,
        tuple(client_frame(BINARY, payload) for payload in payloads),
        tuple(payloads),
        tuple(sizes),
        audio.to_pcm(b"".join(payloads)),
    )
