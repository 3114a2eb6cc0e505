"""How much may be asked of a service at once: after a failure one thing at a time, then more with each answer."""

from __future__ import annotations

from collections.abc import Callable

from gateway.stores.retry_schedule import RetrySchedule

LONGEST_WISH_S = 3600.0
"""A Retry-After beyond this keeps its own task away; that the service is well again is noticed within this."""


class Pace:
    """A circuit breaker that opens slowly. Pure: times are monotonic seconds that the caller hands in.

    While a service fails, everybody waits and one attempt probes it, with the backoff of `schedule`. With each success
    one more may run, up to `most`: a service that comes back to thousands of waiting tasks meets them one by one. It
    begins as narrow as after a failure. Outcomes of attempts begun before the latest failure tell nothing new.
    """

    def __init__(self, most: int, schedule: RetrySchedule, uniform: Callable[[float, float], float]) -> None:
        self._most = most
        self._schedule = schedule
        self._uniform = uniform
        self._width = 1
        self._failures = 0
        self._resumes_at = float("-inf")
        self.era = 0
        """To be handed back with the outcome of an attempt begun now."""

    def slots(self, now: float, running: int) -> int:
        """How many attempts may begin."""
        return 0 if now < self._resumes_at else max(0, self._width - running)

    def pause_s(self, now: float) -> float:
        """How long nothing may begin yet."""
        return max(0.0, self._resumes_at - now)

    def succeeded(self, era: int) -> None:
        """The service answered, be it with a refusal."""
        if era == self.era:
            self._failures = 0
            self._width = min(self._most, self._width + 1)

    def failed(self, era: int, now: float, retry_after_s: float | None) -> None:
        """The service could not answer."""
        if era != self.era:
            return
        self.era += 1
        self._failures += 1
        self._width = 1
        wish_s = None if retry_after_s is None else min(retry_after_s, LONGEST_WISH_S)
        resumes_at = self._schedule.next_at(
            now, failing_since=now, failures=self._failures, retry_after_s=wish_s, uniform=self._uniform
        )
        self._resumes_at = now if resumes_at is None else resumes_at
