"""The wheel calls everybody in time, by a clock that the test turns."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from loadtest.softphones.schedule import delays_s, mine
from loadtest.softphones.wheel import TICK_S, Wheel


@dataclass
class Every:
    """Due every `step_s`; notes when it was called."""

    step_s: float
    due_s: float
    called_s: list[float] = field(default_factory=list)

    def act(self, now_s: float) -> float:
        self.called_s.append(now_s)
        while self.due_s <= now_s:
            self.due_s += self.step_s
        return self.due_s


@given(st.lists(st.tuples(st.integers(5, 500), st.integers(0, 900)), min_size=1, max_size=20))
def test_each_is_called_at_its_time_and_not_before(members: list[tuple[int, int]]) -> None:
    wheel = Wheel(100.0)
    paced = [Every(step_ms / 1000, 100.0 + first_ms / 1000) for step_ms, first_ms in members]
    firsts = [member.due_s for member in paced]
    for member in paced:
        wheel.add(member, member.due_s)
    for tick in range(1500):
        wheel.turn(100.0 + tick * TICK_S)
    for member, first_s, (step_ms, _) in zip(paced, firsts, members, strict=True):
        assert 0 <= member.called_s[0] - first_s <= 2 * TICK_S
        expected = int((101.499 - first_s) / (step_ms / 1000)) + 1
        assert abs(len(member.called_s) - expected) <= 1  # sums of floats fall on either side of a tick


def test_after_a_stall_everybody_is_called_once_and_then_in_time_again() -> None:
    wheel = Wheel(0.0)
    members = [Every(0.02, 0.02 + at / 1000) for at in range(20)]
    for member in members:
        wheel.add(member, member.due_s)
    wheel.turn(5.0)
    assert all(member.called_s == [5.0] for member in members)
    for tick in range(40):
        wheel.turn(5.0 + (tick + 1) * TICK_S)
    assert all(len(member.called_s) in (2, 3) for member in members)


def test_one_that_is_over_is_not_called_again() -> None:
    class Once:
        calls = 0

        def act(self, now_s: float) -> float:
            self.calls += 1
            return 0.0

    once, wheel = Once(), Wheel(0.0)
    wheel.add(once, 0.01)
    for tick in range(3000):
        wheel.turn(tick * TICK_S)
    assert once.calls == 1


def test_one_due_in_minutes_is_called_then() -> None:
    later, wheel = Every(1000.0, 3.0), Wheel(0.0)
    wheel.add(later, 3.0)
    for tick in range(2999):
        wheel.turn(tick * TICK_S)
    assert all(called_s < 3.0 for called_s in later.called_s)  # looked at, and nothing was due
    wheel.turn(3.002)
    assert later.called_s[-1] == 3.002


@given(st.integers(1, 500), st.integers(1, 8), st.just(0.0) | st.floats(0.001, 60))
def test_the_changes_of_all_processes_are_spread_evenly(calls: int, processes: int, over_s: float) -> None:
    due = []
    for process in range(processes):
        ours = sum(mine(number, process, processes) for number in range(calls))
        due += delays_s(ours, over_s, process, processes)
    assert len(due) == calls
    assert all(0 <= one < over_s or over_s == 0 for one in due)
    if calls % processes == 0:
        gaps = [after - before for before, after in zip(sorted(due), sorted(due)[1:], strict=False)]
        assert all(abs(gap - over_s / calls) < 1e-6 for gap in gaps)
