"""Latencies by the million in a few kilobytes: counts in logarithmic buckets, as HdrHistogram keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

_SUB: Final = 64
"""Buckets to an octave: a value is told to within 1/64 of itself."""
_OCTAVES: Final = 32
BUCKETS: Final = _SUB * (_OCTAVES + 1)
"""Of whole microseconds: each one up to 64, then coarser, up to 38 hours."""
_MOST_US: Final = 2 ** (_OCTAVES + 5) - 1


class Histogram:
    """Counts of times in seconds. Negative ones (something came before it was due) count as 0."""

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros(BUCKETS, np.int64)
        self.max_s = 0.0
        self.sum_s = 0.0

    @property
    def count(self) -> int:
        return int(self.counts.sum())

    def add(self, values_s: Sequence[float] | NDArray[np.float64]) -> None:
        """Count each of `values_s`."""
        if len(values_s) == 0:
            return
        values = np.maximum(np.asarray(values_s, np.float64), 0.0)
        self.counts += np.bincount(bucket_of(values), minlength=BUCKETS)
        self.max_s = max(self.max_s, float(values.max()))
        self.sum_s += float(values.sum())

    def merge(self, other: Histogram) -> None:
        self.counts += other.counts
        self.max_s = max(self.max_s, other.max_s)
        self.sum_s += other.sum_s

    def percentile_s(self, share: float) -> float:
        """The value that a `share` (0 to 1) of all do not exceed, to within a bucket; 0 where there is nothing."""
        total = self.count
        if not total:
            return 0.0
        if share >= 1:
            return self.max_s
        rank = max(1, int(np.ceil(share * total - 1e-9)))
        bucket = int(np.searchsorted(np.cumsum(self.counts), rank))
        return min(_upper_s(bucket), self.max_s)

    def sparse(self) -> dict[int, int]:
        """The counts that are not 0, by bucket: what travels and is kept."""
        return {int(at): int(self.counts[at]) for at in np.flatnonzero(self.counts)}

    @classmethod
    def of(cls, sparse: Mapping[int, int], max_s: float, sum_s: float) -> Histogram:
        made = cls()
        for at, count in sparse.items():
            made.counts[at] = count
        made.max_s, made.sum_s = max_s, sum_s
        return made


def bucket_of(values_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bucket of each value in seconds, not negative."""
    values_us = np.minimum(np.rint(values_s * 1e6), _MOST_US).astype(np.int64)
    octave = np.maximum(np.frexp(values_us.astype(np.float64))[1] - 6, 1) - 1
    return np.where(values_us < _SUB, values_us, octave * _SUB + (values_us >> octave))


def _upper_s(bucket: int) -> float:
    """The largest value that falls into a bucket."""
    if bucket < 2 * _SUB:
        return bucket / 1e6
    octave = bucket // _SUB - 1
    return float((((bucket - octave * _SUB) + 1) << octave) - 1) / 1e6


def percentiles(values: Sequence[float]) -> tuple[float, float, float, float]:
    """p50, p95 and p99 by nearest rank and the largest, of values few enough to keep; zeros where there is nothing."""
    ordered = sorted(values)
    if not ordered:
        return 0.0, 0.0, 0.0, 0.0
    p50, p95, p99 = (ordered[-(-len(ordered) * percent // 100) - 1] for percent in (50, 95, 99))
    return p50, p95, p99, ordered[-1]
