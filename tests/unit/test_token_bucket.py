"""Rates as arithmetic."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.token_bucket import TokenBucket


def test_a_burst_is_taken_and_then_the_rate() -> None:
    bucket = TokenBucket(rate_per_s=8, burst=3, now_s=100)
    assert [bucket.take(1, 100) for _ in range(5)] == [True, True, True, False, False]
    assert bucket.take(1, 100.125)
    assert not bucket.take(1, 100.125)


def test_what_was_saved_never_exceeds_the_burst() -> None:
    bucket = TokenBucket(rate_per_s=10, burst=3, now_s=0)
    assert [bucket.take(1, 1e6) for _ in range(5)].count(True) == 3


def test_a_debt_tells_how_long_it_takes_to_pay() -> None:
    bucket = TokenBucket(rate_per_s=20, burst=30, now_s=0)
    assert bucket.borrow(30, 0) == 0
    assert bucket.borrow(20, 0) == 1
    assert bucket.borrow(20, 1) == 1
    assert bucket.borrow(0, 3) == 0


def test_a_rate_of_nought_is_no_limit() -> None:
    bucket = TokenBucket(rate_per_s=0, burst=0, now_s=0)
    assert all(bucket.take(1e9, 0) for _ in range(3))
    assert bucket.borrow(1e9, 0) == 0


def test_a_clock_that_goes_back_fills_nothing() -> None:
    bucket = TokenBucket(rate_per_s=10, burst=1, now_s=100)
    assert bucket.take(1, 100)
    assert not bucket.take(1, 50)


@given(
    st.floats(0.1, 1000),
    st.floats(1, 1000),
    st.lists(st.tuples(st.floats(0, 10), st.floats(0, 100)), max_size=40),
)
def test_never_more_is_taken_than_burst_and_rate_allow(
    rate: float, burst: float, steps: list[tuple[float, float]]
) -> None:
    bucket = TokenBucket(rate, burst, now_s=0)
    now_s = taken = 0.0
    for wait_s, amount in steps:
        now_s += wait_s
        if bucket.take(amount, now_s):
            taken += amount
        assert taken <= (burst + rate * now_s) * (1 + 1e-9)
