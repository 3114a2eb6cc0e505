"""What people see while they wait."""

import io

import pytest
from rich.console import Console

from loadtest.gathering import Moment
from loadtest.live import Progress


def moment(at_s: float) -> Moment:
    return Moment(
        at_s=at_s,
        calls=7,
        calls_open=7,
        frames=350,
        frames_acked=350,
        failures=0,
        ack_lag_p99_ms=90.0,
        harness_lag_p99_ms=1.0,
        harness_cpu_s=(0.1,),
        server=None,
    )


@pytest.mark.parametrize("length_s", [20.0, None])
def test_a_load_has_a_bar_and_what_goes_before_and_after_it_is_told(length_s: float | None) -> None:
    drawn = io.StringIO()
    with Progress(Console(file=drawn, force_terminal=True, width=160), "steady", length_s) as progress:
        progress.say("starting the server")
        progress.show(moment(10.0), "7 calls")
    text = drawn.getvalue()
    assert "steady: starting the server" in text
    assert "━" in text
    assert "350" in text
    assert "90 ms" in text


def test_nothing_is_drawn_where_nobody_looks() -> None:
    drawn = io.StringIO()
    with Progress(Console(file=drawn), "steady", 20.0) as progress:
        progress.show(moment(10.0), "7 calls")
    assert drawn.getvalue().strip() == ""
