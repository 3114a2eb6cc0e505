"""When calls look at what has come."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from gateway.doors.sweep import AT_A_TIME, BETWEEN_BREATHS, BREATH_S, MOST_WAIT_S, Sweep


class Loop:
    """Says what was asked of the event loop, and tells the time it is given."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.waits_s: list[float] = []
        self.due: list[object] = []

    def time(self) -> float:
        return self.now_s

    def call_soon(self, work: object) -> None:
        self.call_later(0.0, work)

    def call_later(self, wait_s: float, work: object) -> None:
        self.waits_s.append(wait_s)
        self.due.append(work)

    def run_due(self) -> None:
        due, self.due = self.due, []
        for work in due:
            work()  # type: ignore[operator]  # what `call_soon` got


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    loop = Loop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    return loop


def a_while(loop: Loop, one: Sweep, packets_per_s: int) -> None:
    """A quarter of a second."""
    for _ in range(packets_per_s // 4):
        one.enter(partial(one.note, 1))
    loop.now_s += 0.25
    while loop.due:
        loop.run_due()


def test_what_comes_on_a_quiet_server_is_looked_at_at_once(loop: Loop) -> None:
    one = Sweep()
    a_while(loop, one, 12)
    a_while(loop, one, 12)
    assert set(loop.waits_s) == {0.0}


def test_where_much_comes_it_waits_for_more_and_never_longer_than_it_may(loop: Loop) -> None:
    one = Sweep()
    for packets_per_s in (10_000, 10_000, 50_000, 50_000):
        a_while(loop, one, packets_per_s)
    waits_s = [wait_s for wait_s in loop.waits_s if wait_s not in (0.0, BREATH_S)]
    assert waits_s == pytest.approx([MOST_WAIT_S / 4, MOST_WAIT_S / 4, MOST_WAIT_S], rel=0.01)
    a_while(loop, one, 50)
    loop.waits_s.clear()
    a_while(loop, one, 50)
    assert set(loop.waits_s) <= {0.0, BREATH_S}


def test_after_some_calls_there_is_a_pause_for_all_else(loop: Loop) -> None:
    one = Sweep()
    looked: list[int] = []
    for number in range(BETWEEN_BREATHS + 1):
        one.enter(partial(looked.append, number))
    for _ in range(BETWEEN_BREATHS // AT_A_TIME):
        assert loop.waits_s.pop() == 0.0
        loop.run_due()
    assert looked == list(range(BETWEEN_BREATHS))
    assert loop.waits_s.pop() == BREATH_S
    loop.run_due()
    assert len(looked) == BETWEEN_BREATHS + 1


def test_sockets_are_read_between_so_many_calls(loop: Loop) -> None:
    one = Sweep()
    looked: list[int] = []
    for number in range(AT_A_TIME + 1):
        one.enter(partial(looked.append, number))
    loop.run_due()
    assert looked == list(range(AT_A_TIME))
    loop.run_due()
    assert len(looked) == AT_A_TIME + 1


def test_who_enters_while_others_look_has_his_turn(loop: Loop) -> None:
    one, looked = Sweep(), []
    one.enter(lambda: one.enter(lambda: looked.append("again")))
    loop.run_due()
    loop.run_due()
    assert looked == ["again"]


def test_a_look_that_fails_costs_no_other_call_its_turn(loop: Loop) -> None:
    one = Sweep()
    looked: list[str] = []

    def fail() -> None:
        raise KeyError("of this call alone")

    one.enter(partial(looked.append, "before"))
    one.enter(fail)
    one.enter(partial(looked.append, "behind"))
    loop.run_due()
    one.enter(partial(looked.append, "later"))
    loop.run_due()
    assert looked == ["before", "behind", "later"]
