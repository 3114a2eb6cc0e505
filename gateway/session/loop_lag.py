"""How late the event loop runs: what every call feels when there is too much to do."""

from __future__ import annotations

import asyncio
from collections import deque

from gateway.ports import Clock
from gateway.telemetry import Metrics

INTERVAL_S = 0.1
WINDOW_S = 2.0
"""One long stall is no overload: lateness is judged over this long."""


class LoopLag:
    """Sleeps a little, again and again, and notes by how much it overslept."""

    def __init__(self, clock: Clock, metrics: Metrics, *, most_ms: float) -> None:
        """Over `most_ms` new calls had better not begin; 0: never."""
        self._most_ms = most_ms
        self._clock = clock
        self._metrics = metrics
        self._late: deque[tuple[float, float]] = deque()

    @property
    def late_ms(self) -> float:
        """By how much the loop was late on average, over the last 2 s."""
        return 1000 * sum(late_s for _, late_s in self._late) / len(self._late) if self._late else 0.0

    @property
    def refusal(self) -> str:
        """Why no new call should begin; nothing while the loop keeps time."""
        late_ms = self.late_ms
        return f"the server runs {late_ms:.0f} ms late" if 0 < self._most_ms < late_ms else ""

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            begun_s = self._clock.monotonic()
            await asyncio.sleep(INTERVAL_S)
            now_s = self._clock.monotonic()
            self.note(now_s, max(0.0, now_s - begun_s - INTERVAL_S))

    def note(self, now_s: float, late_s: float) -> None:
        """Take one measurement, made at `now_s` of any clock."""
        self._metrics.loop_lag_s.observe(late_s)
        self._late.append((now_s, late_s))
        while self._late[0][0] < now_s - WINDOW_S:
            self._late.popleft()
