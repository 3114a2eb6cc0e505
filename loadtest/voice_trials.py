"""Trials of voices: which scores are of one voice and which of two, and how often a threshold confuses them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
BOOTSTRAPS = 1000


@dataclass(frozen=True, slots=True)
class Rate:
    """An equal error rate (share), the score it lies at, and its 95 % interval over resampled speakers."""

    share: float
    score: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.share:.2%} ({self.low:.2%}-{self.high:.2%}) at {100 * self.score:.1f}"


@dataclass(frozen=True, slots=True)
class Trials:
    """Scores of pairs. `first`, `second`: numbers of the two speakers; the same number is the same voice."""

    scores: Array
    first: NDArray[np.int64]
    second: NDArray[np.int64]

    @property
    def same(self) -> NDArray[np.bool_]:
        return np.equal(self.first, self.second)

    @property
    def told(self) -> str:
        return f"{int(self.same.sum())} of one voice, {int((~self.same).sum())} of two"

    def equal_error(self) -> Rate:
        """Where as many pairs of one voice fall below a score as pairs of two reach it.

        The interval draws speakers with replacement: their pairs depend on one another, so that resampling pairs would
        promise too much. A pair of two voices weighs the product of how often either was drawn.
        """
        speakers = int(max(self.first.max(), self.second.max())) + 1
        share, score = _equal_error(self.scores, self.same, np.ones(len(self.scores)))
        drawn = np.random.default_rng(0).multinomial(speakers, np.full(speakers, 1 / speakers), BOOTSTRAPS)
        shares = []
        for counts in drawn:
            weights = np.where(self.same, counts[self.first], counts[self.first] * counts[self.second])
            if weights[self.same].any() and weights[~self.same].any():
                shares.append(_equal_error(self.scores, self.same, weights)[0])
        low, high = np.percentile(shares, (2.5, 97.5))
        return Rate(share, score, float(low), float(high))

    def at(self, score: float) -> tuple[float, float]:
        """Shares of pairs of one voice below `score`, and of two voices that reach it."""
        return float((self.scores[self.same] < score).mean()), float((self.scores[~self.same] >= score).mean())


def pairs(enrolled: Array, asked: Array, speakers: Sequence[str], clips: Sequence[str]) -> Trials:
    """Every window against every window of other clips. Where both sides are the same prints, each pair once."""
    numbers = _numbers(speakers)
    names = np.asarray(clips)
    fit = names[:, None] != names[None]
    if enrolled is asked:
        fit &= np.triu(np.ones_like(fit), 1)
    first, second = np.nonzero(fit)
    return Trials((enrolled @ asked.T)[fit], numbers[first], numbers[second])


def against(enrolled: Array, voices: Sequence[str], asked: Array, speakers: Sequence[str]) -> tuple[Trials, float]:
    """Every window against every enrolled voice, and the share of windows whose own voice comes first."""
    numbers = _numbers([*voices, *speakers])
    of_voice, of_window = numbers[: len(voices)], numbers[len(voices) :]
    scores = asked @ enrolled.T
    best = of_voice[scores.argmax(axis=1)]
    window, voice = np.nonzero(np.ones_like(scores, bool))
    return Trials(scores.ravel(), of_voice[voice], of_window[window]), float((best == of_window).mean())


def normalised(enrolled: Array, asked: Array, cohort: Array, top: int) -> Array:
    """AS-norm (Matejka et al. 2017): each score in deviations from both sides' `top` scores against a cohort.

    Shapes (m, d), (n, d), (c, d) -> (m, n).
    """
    scores = enrolled @ asked.T
    (mean_e, deviation_e), (mean_a, deviation_a) = _closest_of(enrolled, cohort, top), _closest_of(asked, cohort, top)
    by_enrolled = (scores - mean_e[:, None]) / deviation_e[:, None]
    by_asked = (scores - mean_a[None]) / deviation_a[None]
    return np.asarray((by_enrolled + by_asked) / 2, np.float32)


def _closest_of(prints: Array, cohort: Array, top: int) -> tuple[Array, Array]:
    scores = np.sort(prints @ cohort.T, axis=1)[:, -top:]
    return scores.mean(axis=1), np.maximum(scores.std(axis=1), 1e-3)


def _numbers(names: Sequence[str]) -> NDArray[np.int64]:
    return np.unique(np.asarray(names), return_inverse=True)[1].astype(np.int64)


def _equal_error(scores: Array, same: NDArray[np.bool_], weights: NDArray[np.float64]) -> tuple[float, float]:
    order = np.argsort(scores, kind="stable")
    of_one, of_two = np.where(same, weights, 0)[order], np.where(same, 0, weights)[order]
    missed = np.concatenate([[0], np.cumsum(of_one)]) / of_one.sum()
    let_in = 1 - np.concatenate([[0], np.cumsum(of_two)]) / of_two.sum()
    at = int(np.argmax(missed >= let_in))
    thresholds = np.concatenate([scores[order], [np.inf]])
    return float((missed[at] + let_in[at]) / 2), float(thresholds[at])
