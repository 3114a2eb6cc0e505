"""A rate with a burst, as arithmetic on times that the caller tells."""

from __future__ import annotations


class TokenBucket:
    """Full at first; fills at `rate_per_s` up to `burst`. A rate of 0 means no limit. Times in seconds, any clock."""

    def __init__(self, rate_per_s: float, burst: float, now_s: float) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._level = burst
        self._at_s = now_s

    def take(self, amount: float, now_s: float) -> bool:
        """Take `amount` if it is there; else take nothing."""
        if self._fill(now_s) < amount:
            return False
        self._level -= amount
        return True

    def has(self, amount: float, now_s: float) -> bool:
        """Whether `amount` is there; it stays there."""
        return self._fill(now_s) >= amount

    def borrow(self, amount: float, now_s: float) -> float:
        """Take `amount` whether it is there or not; how long, in seconds, until the debt is paid."""
        self._level = self._fill(now_s) - amount
        return -self._level / self._rate_per_s if self._level < 0 else 0.0

    def _fill(self, now_s: float) -> float:
        if self._rate_per_s == 0:
            self._level = float("inf")
        else:
            # A clock that stood still or went back fills nothing.
            grown = max(0.0, now_s - self._at_s) * self._rate_per_s
            self._level = min(self._burst, self._level + grown)
        self._at_s = now_s
        return self._level
