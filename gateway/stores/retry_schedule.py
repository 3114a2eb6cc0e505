"""When to try again, and when to give up: pure arithmetic over times in seconds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """Exponential backoff with full jitter (Brooker, Exponential Backoff and Jitter, AWS Architecture Blog, 2015)."""

    first_s: float = 1.0
    most_s: float = 300.0
    give_up_after_s: float = 24 * 3600.0
    """Since the first of an unbroken row of failures. One last try comes at that very moment."""

    def next_at(
        self,
        now: float,
        *,
        failing_since: float,
        failures: int,
        retry_after_s: float | None,
        uniform: Callable[[float, float], float],
    ) -> float | None:
        """When to try again after the `failures`th failure in a row (1 for the first); None to give up.

        `retry_after_s`, the other side's own wish, comes on top of the jitter, so that everybody who was sent
        away at once does not come back at once. `uniform(low, high)` draws a random number.
        """
        last_try_at = failing_since + self.give_up_after_s
        if now >= last_try_at:
            return None
        ceiling_s = min(self.most_s, self.first_s * 2.0 ** min(failures - 1, 64))
        delay_s = uniform(0.0, ceiling_s)
        if retry_after_s is not None and math.isfinite(retry_after_s) and retry_after_s > 0:
            delay_s += retry_after_s
        return min(now + delay_s, last_try_at)
