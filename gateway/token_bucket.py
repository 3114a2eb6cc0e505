"""A rate with a burst, as arithmetic on times that the caller tells."""

from __future__ import annotations

from math import inf


class TokenBucket:
    """Full at first; fills at `rate_per_s` up to `burst`. A rate of 0 means no limit. Times in seconds, any clock."""

    def __init__(self, rate_per_s: float, burst: float, now_s: float) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._level = burst
        self._at_s = now_s

    def take(self, amount: float, now_s: float) -> bool:
        """Take `amount` if it is there; else take nothing."""
        level = self._fill(now_s)
        if level < amount:
            return False
        self._level = level - amount
        return True

    def has(self, amount: float, now_s: float) -> bool:
        """Whether `amount` is there; it stays there."""
        return self._fill(now_s) >= amount

    def borrow(self, amount: float, now_s: float) -> float:
        """Take `amount` whether it is there or not; how long, in seconds, until the debt is paid."""
        self._level = self._fill(now_s) - amount
        return -self._level / self._rate_per_s if self._level < 0 else 0.0

    def _fill(self, now_s: float) -> float:
        elapsed_s, self._at_s = now_s - self._at_s, now_s
        if self._rate_per_s == 0:
            self._level = inf
        elif elapsed_s > 0:  # a clock that stood still or went back fills nothing
            level = self._level + elapsed_s * self._rate_per_s
            self._level = level if level < self._burst else self._burst
        return self._level
