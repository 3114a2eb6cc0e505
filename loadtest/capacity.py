"""The search for the highest number of calls that still meets an SLO: which number to try next."""

from __future__ import annotations

from loadtest.scenario import Search


class CapacitySearch:
    """Grows until a number fails, then halves the distance between the best that passed and the least that failed."""

    def __init__(self, search: Search, most: int) -> None:
        self.best = 0
        """The highest number that passed."""
        self._least_failed: int | None = None
        self._search = search
        self._most = most

    @property
    def next(self) -> int | None:
        """The number to try; None when the answer is known closely enough."""
        if self._least_failed is None:
            if self.best >= self._most:
                return None
            if not self.best:
                return min(self._search.first_calls, self._most)
            return min(max(self.best + 1, int(self.best * self._search.growth)), self._most)
        if self._least_failed - self.best <= max(1, self._search.within * self.best):
            return None
        return (self.best + self._least_failed) // 2

    def take(self, calls: int, *, passed: bool) -> None:
        """What became of trying `calls`."""
        if passed:
            self.best = max(self.best, calls)
        else:
            self._least_failed = calls if self._least_failed is None else min(calls, self._least_failed)
