"""From what a speech recogniser's encoder makes of any sound to a print of that sound.

A print has two halves of equal weight: the encoder's states, averaged over time, say what the sound is like to a
listener; how loud each band is, how much that varies and how fast, says what it is made of. Each half goes through a
linear map (Fisher's discriminant analysis, fitted on made-up sounds only: `python -m loadtest.fit_sounds`) that keeps
what tells sources apart and plays down what changes from one sound of a source to the next: pitch, force, length.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from gateway.ports import Embedding

HALF_DIMENSIONS = 128
SOUND_DIMENSIONS = 2 * HALF_DIMENSIONS
SOUND_SPACES = {"whisper-base": "whisper-base-sound-1"}
"""The recognisers that a map is fitted for, and the names of their sounds' embedding spaces: a new fit, a new name."""

_LOUD_WITHIN = 1.3
"""Of the spectrum's unit, 40 dB: frames quieter than the loudest band by 52 dB do not count."""
_FOLDER = Path(__file__).parent / "sound_maps"

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class LinearMap:
    """`(features - mean) @ matrix`. `mean` has shape (n,), `matrix` (n, d)."""

    mean: Matrix
    matrix: Matrix

    def apply(self, features: Matrix) -> Matrix:
        """Features of shape (n,) as a direction of shape (d,), unit length."""
        direction = (features - self.mean) @ self.matrix
        return np.asarray(direction / max(float(np.linalg.norm(direction)), 1e-12), np.float32)


@dataclass(frozen=True, slots=True)
class SoundSpace:
    """The map of each half of a print."""

    heard: LinearMap
    made_of: LinearMap

    def print_of(self, states: Matrix, spectrum: Matrix) -> Embedding:
        """The print of one sound: float32, shape (256,), unit length.

        `states` (frames, d) are the encoder's, `spectrum` (frames, 80) is what it was given: log power in units of
        40 dB. Both without the silence behind the sound.
        """
        halves = (self.heard.apply(states.mean(axis=0)), self.made_of.apply(band_statistics(spectrum)))
        return np.asarray(np.concatenate(halves) / np.sqrt(2), np.float32)

    def save(self, file: BinaryIO | Path) -> None:
        """Half precision is enough: it changes a cosine by less than 0.001."""
        arrays = {
            f"{half}_{part}": getattr(getattr(self, half), part).astype("<f2") for half in _HALVES for part in _PARTS
        }
        np.savez(file, **arrays)

    @classmethod
    def load(cls, file: BinaryIO | Path) -> SoundSpace:
        with np.load(file, allow_pickle=False) as arrays:
            maps = [[arrays[f"{half}_{part}"].astype(np.float32) for part in _PARTS] for half in _HALVES]
        return cls(*(LinearMap(*parts) for parts in maps))


_HALVES = ("heard", "made_of")
_PARTS = ("mean", "matrix")


def sound_map_path(recognizer_model: str) -> Path:
    """Where a recogniser's map is kept. Raises ValueError when none is fitted for it."""
    if recognizer_model not in SOUND_SPACES:
        raise ValueError(f"no sound prints with {recognizer_model}: expected one of {sorted(SOUND_SPACES)}")
    return _FOLDER / f"{SOUND_SPACES[recognizer_model]}.npz"


@cache
def sound_space(recognizer_model: str) -> SoundSpace:
    """The fitted map of a recogniser. Raises ValueError when none is fitted for it."""
    return SoundSpace.load(sound_map_path(recognizer_model))


def band_statistics(spectrum: Matrix) -> Matrix:
    """Level of each band against the whole, its spread, and its mean change from frame to frame: shape (3 x bands,)."""
    loud = spectrum[spectrum.max(axis=1) >= spectrum.max() - _LOUD_WITHIN]
    loud = loud - loud.mean()
    change = np.abs(np.diff(loud, axis=0)).mean(axis=0) if len(loud) > 1 else np.zeros_like(loud[0])
    return np.concatenate([loud.mean(axis=0), loud.std(axis=0), change])
