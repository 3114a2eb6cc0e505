"""Which samples of a call are there: a set of half-open ranges, pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right


class Coverage:
    """The samples kept so far. What came first stays: a later overlap adds only what was missing."""

    def __init__(self) -> None:
        self._begins: list[int] = []
        self._ends: list[int] = []

    def add(self, begin_sample: int, end_sample: int) -> list[tuple[int, int]]:
        """Take in [begin, end) and return, in order, the parts of it that were not there yet."""
        if end_sample <= begin_sample:
            return []
        first = bisect_left(self._ends, begin_sample)
        last = bisect_right(self._begins, end_sample)
        missing = []
        cursor = begin_sample
        for held_begin, held_end in zip(self._begins[first:last], self._ends[first:last], strict=True):
            if held_begin > cursor:
                missing.append((cursor, held_begin))
            cursor = max(cursor, held_end)
        if cursor < end_sample:
            missing.append((cursor, end_sample))
        # Touching ranges become one, so that a call without holes is a single range however long it lasts.
        begin, end = begin_sample, end_sample
        if first < last:
            begin, end = min(begin, self._begins[first]), max(end, self._ends[last - 1])
        self._begins[first:last] = [begin]
        self._ends[first:last] = [end]
        return missing

    @property
    def contiguous_samples(self) -> int:
        """How many samples are there from the call's start on without a hole."""
        return self._ends[0] if self._begins and self._begins[0] == 0 else 0

    @property
    def end_sample(self) -> int:
        """One past the last sample that is there."""
        return self._ends[-1] if self._ends else 0

    def gaps(self) -> tuple[tuple[int, int], ...]:
        """The missing ranges before the last sample that is there."""
        edges = [0, *self._ends]
        return tuple((end, begin) for end, begin in zip(edges, self._begins, strict=False) if begin > end)
