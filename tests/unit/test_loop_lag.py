"""How late is too late."""

from gateway.session.loop_lag import LoopLag
from gateway.telemetry import Metrics


class NoClock:
    def monotonic(self) -> float:
        raise AssertionError("times are told")

    wall = monotonic


def lag(most_ms: float = 250) -> LoopLag:
    return LoopLag(NoClock(), Metrics(), most_ms=most_ms)


def test_a_loop_that_keeps_time_refuses_nothing() -> None:
    one = lag()
    assert one.refusal == ""
    for tick in range(100):
        one.note(tick / 10, 0.01)
    assert one.refusal == ""
    assert round(one.late_ms) == 10


def test_a_loop_that_stays_late_refuses_new_calls() -> None:
    one = lag()
    for tick in range(10):
        one.note(tick * 0.4, 0.3)
    assert one.refusal == "the server runs 300 ms late"


def test_one_long_stall_is_forgotten_soon() -> None:
    one = lag()
    one.note(10.0, 2.5)
    assert one.refusal
    for tick in range(1, 12):
        one.note(10 + tick / 10, 0.0)
    assert one.refusal == ""


def test_no_limit_means_no_refusal() -> None:
    one = lag(most_ms=0)
    one.note(0, 99)
    assert one.refusal == ""
