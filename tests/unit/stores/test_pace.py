"""How a service that failed is met again."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.stores.pace import LONGEST_WISH_S, Pace
from gateway.stores.retry_schedule import RetrySchedule

MOST = 4


def pace() -> Pace:
    """It draws the longest wait each time."""
    return Pace(MOST, RetrySchedule(), lambda low, high: high)


def widened() -> Pace:
    one = pace()
    for _ in range(10):
        one.succeeded(one.era)
    return one


def test_each_answer_lets_one_more_run_up_to_the_most() -> None:
    one, widths = pace(), []
    for _ in range(6):
        widths.append(one.slots(0.0, 0))
        one.succeeded(one.era)
    assert widths == [1, 2, 3, 4, 4, 4]
    assert one.slots(0.0, 3) == 1


def test_a_failure_stops_everybody_then_lets_one_alone_try() -> None:
    one = widened()
    one.failed(one.era, 100.0, None)
    assert one.slots(100.5, 0) == 0
    assert one.pause_s(100.5) == 0.5
    assert one.slots(101.0, 0) == 1
    assert one.slots(101.0, 1) == 0


def test_failures_in_a_row_are_met_later_and_later_and_a_success_forgives_them() -> None:
    one, pauses = pace(), []
    for _ in range(12):
        one.failed(one.era, 0.0, None)
        pauses.append(one.pause_s(0.0))
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    one.succeeded(one.era)
    one.failed(one.era, 0.0, None)
    assert one.pause_s(0.0) == 1


def test_those_that_were_under_way_when_one_failed_tell_nothing_new() -> None:
    one = widened()
    era = one.era
    for _ in range(MOST):
        one.failed(era, 0.0, None)
    assert one.pause_s(0.0) == 1, "four at once are one failure"
    one.succeeded(era)
    assert one.slots(1.0, 0) == 1


def test_a_wish_to_be_left_alone_is_heeded_up_to_an_hour() -> None:
    one = pace()
    one.failed(one.era, 0.0, 60.0)
    assert one.pause_s(0.0) == 61
    one.failed(one.era, 0.0, 1e9)
    assert one.pause_s(0.0) == LONGEST_WISH_S + 2


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 400)), max_size=60))
def test_whatever_happens_the_bound_holds_and_it_is_tried_again(history: list[tuple[bool, int]]) -> None:
    one, now = pace(), 0.0
    for answered, waited_s in history:
        now += waited_s
        if answered:
            one.succeeded(one.era)
        else:
            one.failed(one.era, now, None)
        assert 0 <= one.slots(now, 0) <= MOST
        assert one.slots(now + 300, 0) >= 1
