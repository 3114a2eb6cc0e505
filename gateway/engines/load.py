"""How loaded an engine is, as a level that calls adapt to: from how late its jobs begin."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.engines.pool import Pool

TICK_S = 1.0


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """Lateness is seconds from a job's deadline to its begin; a tick is a second."""

    highest: int = 6
    late_s: float = 0.0
    """Work is late when a tenth of the jobs begin later than this ..."""
    calm_s: float = -0.25
    """... and in time when nine tenths of them begin before this."""
    rise_ticks: int = 2
    """So long work is late before the level rises, and before it rises again."""
    fall_ticks: int = 10
    """So long it is in time before the level falls, at first."""
    longest_fall_ticks: int = 160
    relapse_ticks: int = 20
    """A level that must be taken again within this was given up too early: wait twice as long the next time."""
    idle_share: float = 0.6
    """Less of the engine's time than this was used in every one of those ticks."""


class LoadLevel:
    """Rises quickly while jobs begin late, falls slowly, and learns not to swing. Told the time by its ticks."""

    def __init__(self, settings: LoadSettings | None = None) -> None:
        self._settings = settings or LoadSettings()
        self.level = 0
        self._late_s: list[float] = []
        self._late_ticks = 0
        self._calm_ticks = 0
        self._fall_ticks = self._settings.fall_ticks
        self._since_fall = 0
        self._fell = False
        """Whether the level's latest change was downwards."""

    def note(self, late_s: float) -> None:
        """A job began so late; below zero, so early."""
        self._late_s.append(late_s)

    def tick(self, overdue_s: float, busy_share: float) -> int:
        """The level for the next second.

        `overdue_s`: lateness of the job that waits longest, minus infinity for none. `busy_share`: of the engine's time
        (0-1), since the last tick.
        """
        settings = self._settings
        worst = sorted(self._late_s)
        late_s = max(overdue_s, worst[(9 * len(worst)) // 10] if worst else overdue_s)
        self._late_s.clear()
        self._since_fall += 1
        self._late_ticks = self._late_ticks + 1 if late_s > settings.late_s else 0
        calm = late_s < settings.calm_s and busy_share < settings.idle_share
        self._calm_ticks = self._calm_ticks + 1 if calm else 0
        if self._late_ticks >= settings.rise_ticks and self.level < settings.highest:
            self._rise()
        elif self._calm_ticks >= self._fall_ticks and self.level > 0:
            self.level -= 1
            self._calm_ticks = self._since_fall = 0
            self._fell = True
        return self.level

    def _rise(self) -> None:
        settings = self._settings
        if self._fell and self._since_fall <= settings.relapse_ticks:
            self._fall_ticks = min(2 * self._fall_ticks, settings.longest_fall_ticks)
        elif self._since_fall > settings.longest_fall_ticks:
            self._fall_ticks = settings.fall_ticks
        self.level += 1
        self._late_ticks = 0
        self._fell = False


class PoolLoad:
    """The load level of one pool; `tick` wants to be called every `TICK_S`."""

    def __init__(self, pool: Pool, settings: LoadSettings | None = None) -> None:
        self._pool = pool
        self._level = LoadLevel(settings)
        self._busy_s = 0.0
        pool.on_begun = self._level.note

    @property
    def level(self) -> int:
        return self._level.level

    def tick(self) -> int:
        """The level for the next second."""
        pool, spent_s = self._pool, self._pool.busy_s - self._busy_s
        self._busy_s = pool.busy_s
        return self._level.tick(pool.overdue_s, spent_s / (TICK_S * pool.processes))
