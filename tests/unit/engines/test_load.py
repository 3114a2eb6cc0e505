"""The load level: up when work begins late, down when it has long been in time, and no swinging."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import cast

import pytest

from gateway.engines.load import LoadLevel, LoadSettings, PoolLoad
from gateway.engines.pool import Pool


class Engine:
    """A level, driven second by second."""

    def __init__(self) -> None:
        self.load = LoadLevel(LoadSettings())

    def seconds(self, count: int, late_s: float | None = None, *, busy: float = 0.1, overdue_s: float = -inf) -> int:
        for _ in range(count):
            if late_s is not None:
                self.load.note(late_s)
            self.load.tick(overdue_s, busy)
        return self.load.level


def test_one_late_second_is_an_accident() -> None:
    engine = Engine()
    assert engine.seconds(1, 3.0) == 0
    assert engine.seconds(1, -0.4) == 0
    assert engine.seconds(1, 3.0) == 0


def test_late_work_raises_the_level_step_by_step_and_no_further_than_the_last() -> None:
    engine = Engine()
    assert [engine.seconds(2, 0.3, busy=1.0) for _ in range(8)] == [1, 2, 3, 4, 5, 6, 6, 6]


def test_work_that_waits_and_never_begins_is_late_too() -> None:
    assert Engine().seconds(4, busy=1.0, overdue_s=0.7) == 2


def test_a_few_late_jobs_among_many_in_time_are_no_reason() -> None:
    engine = Engine()
    for _ in range(10):
        for late_s in [-0.4] * 29 + [1.0]:
            engine.load.note(late_s)
        engine.load.tick(-0.4, 0.5)
    assert engine.load.level == 0


def test_a_level_falls_after_ten_seconds_in_time_one_step_at_a_time() -> None:
    engine = Engine()
    engine.seconds(4, 0.3, busy=1.0)
    assert engine.seconds(9, -0.4) == 2
    assert engine.seconds(1, -0.4) == 1
    assert engine.seconds(10) == 0


@pytest.mark.parametrize(("late_s", "busy"), [(-0.1, 0.1), (-0.4, 0.9)])
def test_a_level_stays_where_there_is_no_room_to_do_more(late_s: float, busy: float) -> None:
    engine = Engine()
    engine.seconds(4, 0.3, busy=1.0)
    assert engine.seconds(100, late_s, busy=busy) == 2


def test_a_level_that_was_given_up_too_early_is_kept_longer_each_time() -> None:
    engine = Engine()
    engine.seconds(2, 0.3, busy=1.0)
    kept = []
    for _ in range(6):
        seconds = 0
        while engine.load.level:
            engine.seconds(1, -0.4)
            seconds += 1
        kept.append(seconds)
        engine.seconds(2, 0.3, busy=1.0)
    assert kept == [10, 20, 40, 80, 160, 160]


def test_after_long_calm_the_level_may_fall_quickly_again() -> None:
    engine = Engine()
    for _ in range(2):
        engine.seconds(2, 0.3, busy=1.0)
        engine.seconds(20, -0.4)
    assert engine.load.level == 0
    engine.seconds(200, -0.4)
    engine.seconds(2, 0.3, busy=1.0)
    assert engine.seconds(10, -0.4) == 0


class Counted:
    """Stands for a pool of two processes."""

    def __init__(self) -> None:
        self.processes, self.busy_s, self.overdue_s = 2, 0.0, -inf
        self.on_begun: Callable[[float], None] = lambda _: None


def test_a_pool_is_loaded_when_its_jobs_begin_late_and_idle_when_its_processes_are() -> None:
    pool = Counted()
    load = PoolLoad(cast(Pool, pool))
    for _ in range(2):
        pool.on_begun(0.4)
        pool.busy_s += 2.0
        load.tick()
    assert load.level == 1
    for _ in range(20):
        pool.busy_s += 1.5  # three quarters of two processes: no room for more
        load.tick()
    assert load.level == 1
    for _ in range(10):
        pool.busy_s += 1.0
        load.tick()
    assert load.level == 0
