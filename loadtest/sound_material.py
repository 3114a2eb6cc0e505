"""Real sounds to measure prints with, from Debian packages where they are installed.

Sampled instruments through a synthesiser (`fluidsynth` with `fluid-soundfont-gm` and `timgm6mb-soundfont`), and
recordings of animals, instruments and things that two programs for children bring (`tuxpaint-stamps-default`,
`gcompris-qt-data`).
"""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

RATE_HZ = 16000
PACKAGES = (
    "fluidsynth",
    "fluid-soundfont-gm",
    "timgm6mb-soundfont",
    "tuxpaint-stamps-default",
    "gcompris-qt-data",
)
FLUID_FONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
TIM_FONT = Path("/usr/share/sounds/sf2/TimGM6mb.sf2")
STAMPS = Path("/usr/share/tuxpaint/stamps")
GCOMPRIS = Path("/usr/share/gcompris-qt/rcc")

NOTE_MS, REST_MS = 1000, 600
ENROLLED_PLACES = (0.05, 0.3, 0.55, 0.8)
HELD_OUT_PLACES = (0.17, 0.42, 0.67, 0.93)
"""Where in an instrument's range its notes lie (0-1)."""
ENROLLED_FORCE, HELD_OUT_FORCES = 100, (64, 115)

Samples = NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Instrument:
    """A program of General MIDI, and keys that players of the real one reach."""

    name: str
    program: int
    lowest: int
    highest: int

    def keys(self, places: Sequence[float]) -> list[int]:
        return [self.lowest + round((self.highest - self.lowest) * place) for place in places]


INSTRUMENTS = tuple(
    Instrument(name, program, lowest, highest)
    for name, program, lowest, highest in (
        ("piano", 0, 36, 84),
        ("harpsichord", 6, 41, 77),
        ("celesta", 8, 60, 96),
        ("glockenspiel", 9, 72, 100),
        ("vibraphone", 11, 53, 89),
        ("marimba", 12, 48, 84),
        ("xylophone", 13, 65, 96),
        ("tubular bells", 14, 60, 77),
        ("dulcimer", 15, 48, 76),
        ("organ", 16, 41, 77),
        ("church organ", 19, 41, 77),
        ("accordion", 21, 53, 84),
        ("harmonica", 22, 60, 84),
        ("nylon guitar", 24, 40, 76),
        ("clean guitar", 27, 40, 76),
        ("distorted guitar", 30, 40, 76),
        ("bass", 33, 28, 52),
        ("slapped bass", 36, 28, 52),
        ("violin", 40, 55, 91),
        ("viola", 41, 48, 81),
        ("cello", 42, 36, 69),
        ("double bass", 43, 28, 55),
        ("harp", 46, 36, 84),
        ("timpani", 47, 40, 57),
        ("strings", 48, 40, 84),
        ("choir", 52, 48, 76),
        ("trumpet", 56, 54, 79),
        ("trombone", 57, 40, 70),
        ("tuba", 58, 28, 53),
        ("french horn", 60, 41, 74),
        ("soprano saxophone", 64, 56, 84),
        ("tenor saxophone", 66, 44, 73),
        ("oboe", 68, 58, 86),
        ("english horn", 69, 52, 79),
        ("bassoon", 70, 34, 67),
        ("clarinet", 71, 50, 86),
        ("piccolo", 72, 74, 98),
        ("flute", 73, 60, 91),
        ("pan flute", 75, 60, 86),
        ("sitar", 104, 48, 76),
        ("banjo", 105, 48, 79),
        ("shamisen", 106, 50, 77),
        ("koto", 107, 48, 79),
        ("kalimba", 108, 53, 84),
        ("bagpipe", 109, 48, 70),
        ("steel drums", 114, 53, 79),
    )
)

RECORDED_INSTRUMENTS = {
    "accordion": ("accordion",),
    "banjo": ("banjo",),
    "cello": ("cello",),
    "clarinet": ("clarinet",),
    "electric_guitar": ("clean guitar", "distorted guitar"),
    "flute_traversiere": ("flute", "piccolo"),
    "guitar": ("nylon guitar",),
    "harmonica": ("harmonica",),
    "harp": ("harp",),
    "horn": ("french horn",),
    "organ": ("organ", "church organ"),
    "piano": ("piano",),
    "saxophone": ("soprano saxophone", "tenor saxophone"),
    "timpani": ("timpani",),
    "trombone": ("trombone",),
    "trumpet": ("trumpet",),
    "tuba": ("tuba",),
    "violin": ("violin", "viola"),
}
"""Recordings of real instruments, and what they should be taken for."""

OTHER_RECORDINGS = {
    "pig": ("pig",),
    "cow": ("cow", "cow_white", "bull"),
    "dog": ("dog",),
    "duck": ("duck", "drake"),
    "horse": ("horse",),
    "owl": ("owl",),
    "sheep": ("sheep", "sheep_lamb"),
    "chickens": ("hen", "rooster"),
}
"""Animals that both programs have, recorded by different people."""


def missing() -> list[str]:
    """What is not installed."""
    there = (shutil.which("fluidsynth"), FLUID_FONT.exists(), TIM_FONT.exists(), STAMPS.exists(), GCOMPRIS.exists())
    return [package for package, found in zip(PACKAGES, there, strict=True) if not found]


def notes(font: Path, instrument: Instrument, keys_and_forces: Sequence[tuple[int, int]]) -> list[Samples]:
    """Each note by itself, 1 s held and 0.6 s to fade: mono at 16 kHz, without reverb."""
    step = (NOTE_MS + REST_MS) * RATE_HZ // 1000
    with tempfile.TemporaryDirectory() as folder:
        score, played = Path(folder) / "score.mid", Path(folder) / "played.wav"
        score.write_bytes(_score(instrument.program, keys_and_forces))
        quietly = ("-n", "-i", "-q", "-R", "0", "-C", "0", "-g", "0.8", "-O", "s16", "-r", str(RATE_HZ))
        command = ["fluidsynth", *quietly, "-F", str(played), str(font), str(score)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        samples = read(played.read_bytes())
    samples = np.pad(samples, (0, max(0, step * len(keys_and_forces) - len(samples))))
    return [samples[step * i : step * (i + 1)] for i in range(len(keys_and_forces))]


def enrolled_and_held_out(font: Path, instrument: Instrument) -> tuple[Samples, list[Samples]]:
    """Four notes in one recording, and eight others one by one: at other keys, softer and harder."""
    enrolled = [(key, ENROLLED_FORCE) for key in instrument.keys(ENROLLED_PLACES)]
    others = [(key, force) for key in instrument.keys(HELD_OUT_PLACES) for force in HELD_OUT_FORCES]
    return np.concatenate(notes(font, instrument, enrolled)), notes(font, instrument, others)


def recordings() -> dict[str, Samples]:
    """Every recording that sounds for 0.2 s or more, by program and name; twins once; 20 s of each."""
    found: dict[str, Samples] = {}
    seen: set[bytes] = set()
    for name, data in [*_stamps(), *_gcompris()]:
        samples = read(data)[: 20 * RATE_HZ]
        silent = len(samples) < RATE_HZ // 5 or int(np.abs(samples.astype(np.int32)).max()) < 200
        if not silent and samples.tobytes() not in seen:
            seen.add(samples.tobytes())
            found[name] = samples
    return found


def read(data: bytes) -> Samples:
    """Any audio file as mono at 16 kHz."""
    resampler = av.AudioResampler("s16", "mono", RATE_HZ)
    with av.open(io.BytesIO(data)) as container:
        frames = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
    return np.concatenate([part.to_ndarray()[0] for part in [*frames, *resampler.resample(None)]])


def _stamps() -> Iterator[tuple[str, bytes]]:
    for path in sorted(STAMPS.rglob("*.ogg")):
        if "_desc" not in path.name and path.parts[5] not in ("symbols", "seasonal", "town", "food", "military"):
            yield f"stamps/{path.stem}", path.read_bytes()


def _gcompris() -> Iterator[tuple[str, bytes]]:
    for archive in sorted(GCOMPRIS.glob("*.rcc")):
        for path, data in _resources(archive.read_bytes()):
            if path.endswith((".ogg", ".wav")) and "/activities/" in path:
                yield f"gcompris/{archive.stem}/{Path(path).stem}", data


def _resources(archive: bytes) -> Iterator[tuple[str, bytes]]:
    """Path and content of every uncompressed file in a binary resource file of Qt.

    Source: Qt's documentation of its resource system and the reader in qresource.cpp, format versions 1 to 3: a header
    names three sections, a tree of nodes (22 bytes each from version 2 on), file contents, and names in UTF-16.
    """
    version, tree, contents, names = struct.unpack_from(">IIII", archive, 4)
    node_bytes = 14 if version == 1 else 22

    def walk(node: int, above: str) -> Iterator[tuple[str, bytes]]:
        at = tree + node * node_bytes
        name_at, flags = struct.unpack_from(">IH", archive, at)
        length = struct.unpack_from(">H", archive, names + name_at)[0] if node else 0
        name = archive[names + name_at + 6 : names + name_at + 6 + 2 * length].decode("utf-16-be")
        if flags & 2:
            count, first = struct.unpack_from(">II", archive, at + 6)
            for child in range(first, first + count):
                yield from walk(child, f"{above}/{name}")
        elif not flags & 5:
            begin = contents + struct.unpack_from(">I", archive, at + 10)[0] + 4
            size = struct.unpack_from(">I", archive, begin - 4)[0]
            yield f"{above}/{name}", archive[begin : begin + size]

    yield from walk(0, "")


def _score(program: int, keys_and_forces: Sequence[tuple[int, int]]) -> bytes:
    """A MIDI file of one track whose ticks are milliseconds: 500 to a quarter, at 120 quarters a minute."""
    track, wait_ms = b"\0" + bytes([0xC0, program]), 0
    for key, force in keys_and_forces:
        track += _length(wait_ms) + bytes([0x90, key, force]) + _length(NOTE_MS) + bytes([0x80, key, 64])
        wait_ms = REST_MS
    track += _length(wait_ms) + b"\xff\x2f\0"
    return b"MThd" + struct.pack(">IHHH", 6, 0, 1, 500) + b"MTrk" + struct.pack(">I", len(track)) + track


def _length(ticks: int) -> bytes:
    """Seven bits a byte, the most significant first; all but the last have the eighth set."""
    sevens = [ticks & 0x7F]
    while ticks := ticks >> 7:
        sevens.append(ticks & 0x7F | 0x80)
    return bytes(reversed(sevens))
