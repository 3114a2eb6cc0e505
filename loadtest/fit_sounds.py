"""Fits the linear map behind the prints of sounds: `python -m loadtest.fit_sounds`.

Made-up sources only (`loadtest.made_sounds`), so every recording is held out. Writes the map into the engines' folder;
a map that differs needs a new name in `SOUND_SPACES`, because prints of two maps cannot be compared.
"""

from __future__ import annotations

import argparse

import numpy as np
import platformdirs
from numpy.typing import NDArray

from gateway.engines.models import model_folder
from gateway.engines.sound_space import HALF_DIMENSIONS, LinearMap, SoundSpace, band_statistics, sound_map_path
from gateway.engines.whisper import Whisper
from loadtest.made_sounds import sounds

MODEL = "whisper-base"
SOURCES, EACH, SEED = 700, 6, 2
SHRINKAGE = 0.3
"""Added to the spread within sources, as a share of its mean, so that no rare direction gets a great weight."""

Matrix = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", type=int, default=SOURCES)
    arguments = parser.parse_args()
    whisper = Whisper(model_folder(platformdirs.user_cache_path("earshot") / "models", MODEL))
    numbers, heard, made_of = [], [], []
    for number, samples in sounds(arguments.sources, EACH, SEED):
        states, spectrum = whisper.hear_sound(samples)
        numbers.append(number)
        heard.append(states.mean(axis=0))
        made_of.append(band_statistics(spectrum))
    sources = np.array(numbers)
    path = sound_map_path(MODEL)
    path.parent.mkdir(exist_ok=True)
    SoundSpace(discriminant(np.array(heard), sources), discriminant(np.array(made_of), sources)).save(path)
    print(f"{len(numbers)} sounds of {arguments.sources} sources -> {path}, {path.stat().st_size} bytes")


def discriminant(features: NDArray[np.float32], sources: NDArray[np.int_]) -> LinearMap:
    """Fisher's: spread within sources made equal in all directions, those with most spread between sources kept.

    `features` has shape (sounds, n); `sources` says whose each is. A direction weighs as much as it is likely to tell
    sources apart, b / (1 + b) of its spread b between them.
    """
    mean, scale = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64) + 1e-6
    scaled: Matrix = (features - mean) / scale
    centres = np.stack([scaled[sources == source].mean(axis=0) for source in np.unique(sources)])
    within = scaled - centres[np.unique(sources, return_inverse=True)[1]]
    spread = within.T @ within / len(within)
    spread += SHRINKAGE * np.trace(spread) / len(spread) * np.eye(len(spread))
    values, vectors = np.linalg.eigh(spread)
    whitening = vectors / np.sqrt(values)
    between, directions = np.linalg.eigh(np.cov((centres @ whitening).T, bias=True))
    kept = np.argsort(-between)[:HALF_DIMENSIONS]
    weights = np.sqrt(np.maximum(between[kept], 0) / (1 + np.maximum(between[kept], 0)))
    matrix = (whitening @ directions[:, kept]) * weights / scale[:, None]
    return LinearMap(np.asarray(mean, np.float32), np.asarray(matrix / np.abs(matrix).max(), np.float32))


if __name__ == "__main__":
    main()
