import math

from hypothesis import given
from hypothesis import strategies as st

from gateway.stores.retry_schedule import RetrySchedule

SCHEDULE = RetrySchedule()


def longest(low: float, high: float) -> float:
    return high


def test_the_longest_delays_double_from_one_second_to_five_minutes() -> None:
    delays = [
        SCHEDULE.next_at(0, failing_since=0, failures=n, retry_after_s=None, uniform=longest) for n in range(1, 12)
    ]
    assert delays == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


def test_jitter_is_full_so_the_shortest_delay_is_none() -> None:
    assert SCHEDULE.next_at(5, failing_since=0, failures=9, retry_after_s=None, uniform=lambda low, high: low) == 5


def test_a_wish_of_the_other_side_comes_on_top_of_the_jitter() -> None:
    assert SCHEDULE.next_at(0, failing_since=0, failures=3, retry_after_s=60, uniform=longest) == 64
    for nonsense in (math.nan, math.inf, -5.0):
        assert SCHEDULE.next_at(0, failing_since=0, failures=1, retry_after_s=nonsense, uniform=longest) == 1


def test_the_last_try_comes_after_a_day_and_then_it_is_over() -> None:
    day = 24 * 3600
    assert SCHEDULE.next_at(day - 10, failing_since=0, failures=99, retry_after_s=None, uniform=longest) == day
    assert SCHEDULE.next_at(day, failing_since=0, failures=100, retry_after_s=None, uniform=longest) is None


@given(
    now=st.floats(0, 1e6), failures=st.integers(1, 10**6), retry_after_s=st.none() | st.floats(), jitter=st.floats(0, 1)
)
def test_the_next_try_is_never_in_the_past_nor_past_the_last(
    now: float, failures: int, retry_after_s: float | None, jitter: float
) -> None:
    next_at = SCHEDULE.next_at(
        now,
        failing_since=0,
        failures=failures,
        retry_after_s=retry_after_s,
        uniform=lambda low, high: low + jitter * (high - low),
    )
    assert next_at is None or now <= next_at <= SCHEDULE.give_up_after_s
