"""Made-up voice prints that lie as those of real speakers do, and how far apart those lie.

`python -m loadtest.simulated_voices FOLDER` measures the spread again on clips named SPEAKER-*.flac.
"""

from __future__ import annotations

import sys
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

DIMENSIONS = 192
WITHIN_COSINE, WITHIN_SPREAD = 0.677, 0.068
"""Mean and standard deviation of the cosine of two 3 s clips of one speaker, from two recordings: CAM++, 460 pairs of
78 clips of 6 LibriSpeech speakers (the English corpus of BENCHMARKS.md) at 16 kHz."""
BETWEEN_COSINE, BETWEEN_SPREAD = 0.063, 0.110
"""The same for two clips of two speakers: 2,506 pairs. What makes search hard is how many directions voices differ in:
192 that matter alike would give a spread of 0.07, one of 0.11 says that it is some 70."""
RATE_HZ = 16_000
PIECE_BYTES = 2 * 3 * RATE_HZ


class SimulatedVoices:
    """A common part, a speaker's own and a clip's own, all in the same few of many directions."""

    def __init__(self, seed: int = 0) -> None:
        self._dice = np.random.default_rng(seed)
        rotation, _ = np.linalg.qr(self._dice.standard_normal((DIMENSIONS, DIMENSIONS)))
        directions = ((1 - BETWEEN_COSINE) / BETWEEN_SPREAD) ** 2
        weights = np.sqrt(_powers(directions))[:, np.newaxis] * rotation
        self._speaker = (np.sqrt(WITHIN_COSINE - BETWEEN_COSINE) * weights).astype(np.float32)
        self._clip = (np.sqrt(1 - WITHIN_COSINE) * weights).astype(np.float32)
        common = self._dice.standard_normal(DIMENSIONS)
        self._common = (common * np.sqrt(BETWEEN_COSINE) / np.linalg.norm(common)).astype(np.float32)

    def speakers(self, count: int) -> Vectors:
        """So many new speakers, shape (count, d): for `clips`, no prints yet."""
        drawn: Vectors = self._common + self._normal(count) @ self._speaker
        return drawn

    def clips(self, speakers: Vectors) -> Vectors:
        """A print of a clip of each, of unit length."""
        return _unit(speakers + self._normal(len(speakers)) @ self._clip)

    def enrolled(self, speakers: Vectors, clips: int = 2) -> Vectors:
        """The print of each as it is searched: the mean of several clips', of unit length."""
        total = np.zeros_like(speakers)
        for _ in range(clips):
            total += self.clips(speakers)
        return _unit(total)

    def _normal(self, count: int) -> Vectors:
        drawn: Vectors = self._dice.standard_normal((count, DIMENSIONS), dtype=np.float32)
        return drawn


def _powers(directions: float) -> NDArray[np.float64]:
    """Shares of 192 directions that fall off as a power, and spread cosines as `directions` equal ones would."""
    numbers = np.arange(1, DIMENSIONS + 1)
    low, high = 0.0, 5.0
    for _ in range(60):
        middle = (low + high) / 2
        shares: NDArray[np.float64] = numbers**-middle / np.sum(numbers**-middle)
        if 1 / np.sum(np.square(shares)) > directions:
            low = middle
        else:
            high = middle
    return shares


def _unit(vectors: Vectors) -> Vectors:
    scaled: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


def _measure(folder: Path) -> None:
    from gateway.engines.campplus import Campplus
    from gateway.engines.manifest import CAMPPLUS
    from gateway.engines.models import model_folder
    from gateway.settings import Settings
    from gateway.terminal.softphone import read_audio

    model = Campplus(model_folder(Settings().models_path, CAMPPLUS.name) / CAMPPLUS.files[0].name)
    prints: list[tuple[str, str, Vectors]] = []
    for path in sorted(folder.glob("*.flac")):
        pcm, _ = read_audio(path, RATE_HZ, 1)
        for begin in range(0, len(pcm) - PIECE_BYTES + 1, PIECE_BYTES):
            vector = model.embed(pcm[begin : begin + PIECE_BYTES], RATE_HZ)
            prints.append((path.name.split("-")[0], path.name, vector))
    pairs = list(combinations(prints, 2))
    within = [float(a @ b) for (who, file, a), (other, elsewhere, b) in pairs if who == other and file != elsewhere]
    between = [float(a @ b) for (who, _, a), (other, _, b) in pairs if who != other]
    for name, cosines in (("within", within), ("between", between)):
        print(f"{name}: mean {np.mean(cosines):.3f}, standard deviation {np.std(cosines):.3f}, {len(cosines)} pairs")


if __name__ == "__main__":
    _measure(Path(sys.argv[1]))
