"""Windows of real speech, the lines and noises they are put through, and the prints that come of them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gateway.engines.campplus import Campplus
from gateway.engines.ge2e import Ge2e
from gateway.engines.models import installed, model_folder
from gateway.ports import Embedding
from gateway.terminal.softphone import read_audio
from gateway.voiceprint.bands import over_a_line
from loadtest.voice_trials import Array

RATE_HZ, LINE_HZ = 16000, 8000
WINDOW_S = 3
_BABBLERS = 6

Samples = NDArray[np.float64]


class Engine(Protocol):
    def embed(self, pcm: bytes, rate_hz: int) -> Embedding: ...


@dataclass(frozen=True, slots=True)
class Window:
    """Three seconds of a labelled clip; clips do not overlap, nor do their windows."""

    speaker: str
    clip: str
    enrols: bool
    """Whether the clip is one of those marked for enrolment."""
    pcm: bytes


def windows(folder: Path) -> list[Window]:
    """Every whole 3 s of every clip in a folder with a transcripts.tsv (columns file, speaker, role)."""
    size = 2 * RATE_HZ * WINDOW_S
    found = []
    with (folder / "transcripts.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            pcm, _ = read_audio(folder / row["file"], RATE_HZ, 1)
            whole = range(0, len(pcm) - size + 1, size)
            found += [Window(row["speaker"], row["file"], row["role"] == "enrol", pcm[at : at + size]) for at in whole]
    return found


def engines(models_dir: Path) -> dict[str, Engine]:
    """The speaker models that are on this machine."""
    made: dict[str, Callable[[Path], Engine]] = {"campplus": Campplus, "ge2e": Ge2e}
    return {
        name: make(model_folder(models_dir, name) / f"{name}.onnx")
        for name, make in made.items()
        if installed(models_dir, name)
    }


def wide_prints(engine: Engine, found: Sequence[Window]) -> Array:
    return np.stack([engine.embed(window.pcm, RATE_HZ) for window in found])


def line_prints(engine: Engine, found: Sequence[Window]) -> Array:
    """Of the windows as an 8 kHz line with G.711 carries them."""
    return np.stack([engine.embed(over_a_line(window.pcm), LINE_HZ) for window in found])


def combined(prints: Array) -> Array:
    """Several prints of one voice as one."""
    mean = prints.mean(axis=0)
    return np.asarray(mean / np.linalg.norm(mean), np.float32)


def noisy(pcm: bytes, noise: Samples, snr_db: float) -> bytes:
    """Speech under so much of a noise; turned down where it would clip."""
    speech = np.frombuffer(pcm, "<i2").astype(np.float64)
    power = np.mean(np.square(speech)) / np.mean(np.square(noise)) / 10 ** (snr_db / 10)
    mixed = speech + noise * np.sqrt(power)
    mixed *= min(1.0, 32000 / np.abs(mixed).max())
    return bytes(np.rint(mixed).astype("<i2").tobytes())


def noises(others: Sequence[Window]) -> Mapping[str, Callable[[int, int], Samples]]:
    """By name, what makes so many samples of a noise from a seed. Babble is six windows of `others` at once."""

    def white(size: int, seed: int) -> Samples:
        return np.random.default_rng(seed).standard_normal(size)

    def pink(size: int, seed: int) -> Samples:
        spectrum = np.fft.rfft(white(size, seed))
        return np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), size)

    def babble(size: int, seed: int) -> Samples:
        mixed = np.zeros(size)
        for at in np.random.default_rng(seed).choice(len(others), _BABBLERS, replace=False):
            voice = np.resize(np.frombuffer(others[at].pcm, "<i2").astype(np.float64), size)
            mixed += voice / np.sqrt(np.mean(np.square(voice)) + 1)
        return mixed

    def hum(size: int, seed: int) -> Samples:
        chance, t = np.random.default_rng(seed), np.arange(size) / RATE_HZ
        mains = sum(np.sin(2 * np.pi * (50 * k * t + chance.random())) / k for k in range(1, 20))
        return mains + 0.5 * np.sin(2 * np.pi * chance.uniform(800, 1500) * t)

    return {"white": white, "pink": pink, "babble": babble, "hum": hum}
