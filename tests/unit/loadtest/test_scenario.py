"""Scenarios are closed types: what is wrong is refused, and the refusal names the field."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.scenario import BadScenario, Phones, load, names, overridden, parse

ABOUT = 'about = "A load."\n'


@pytest.mark.parametrize("name", names())
def test_every_scenario_that_comes_along_is_valid(name: str) -> None:
    scenario = load(name)
    assert scenario.name == name
    assert scenario.about.endswith(".")


def test_the_scenarios_that_were_asked_for_are_there() -> None:
    assert set(names()) >= {"steady", "ramp-to-failure", "burst", "flaky", "slow-readers", "watchers", "mixed"}


def test_mixed_has_every_encoding_rate_and_number_of_channels() -> None:
    phones = load("mixed").phones
    assert {kind.encoding for kind in phones} == {"pcm_s16le", "pcmu", "pcma"}
    assert {kind.rate_hz for kind in phones} == {8000, 16000, 48000}
    assert {kind.channels for kind in phones} == {1, 2}
    assert {10, 500} <= {frame_ms for kind in phones for frame_ms in kind.frame_ms}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("calls = 3", "about"),
        (ABOUT + "cals = 3", "cals"),
        (ABOUT + "calls = 0", r"\$\.calls"),
        (ABOUT + 'calls = "many"', r"\$\.calls"),
        (ABOUT + 'name = "other"', r"\$\.name"),
        (ABOUT + "[[phones]]\nframe_ms = [20, 501]", r"\$\.phones\[0\]\.frame_ms\[1\]"),
        (ABOUT + '[[phones]]\nencoding = "opus"', r"\$\.phones\[0\]\.encoding"),
        (ABOUT + "[network]\nstall_every_s = 1", "stall_s"),
        (ABOUT + 'hang_up = "replaced"', "call_s"),
        (ABOUT + 'hang_up = "replaced"\ncall_s = [5, 2]', "shortest, longest"),
        (ABOUT + "[search]", r"\$\.slo"),
        (ABOUT + "[slo.at_most]\nack_lag_p98_ms = 3", "did you mean ack_lag_p9"),
        (ABOUT + "[network]\n[slow_readers]\nshare = 0.5\npause_s = 1\nevery_s = 2", "cannot go together"),
        ("about =", "Invalid"),
    ],
)
def test_a_fault_is_named(text: str, fault: str) -> None:
    with pytest.raises(BadScenario, match=fault):
        parse(text, "s")


def test_a_name_that_is_none_is_answered_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(BadScenario, match=r"'stedy'; expected one of burst, .*steady"):
        load("stedy")
    with pytest.raises(BadScenario, match="cannot be read"):
        load(str(tmp_path / "none.toml"))


def test_a_file_of_ones_own_is_named_in_its_faults(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(ABOUT + "calls = -1")
    with pytest.raises(BadScenario, match=r"mine\.toml: .*\$\.calls"):
        load(str(path))


@given(st.text(max_size=200))
def test_no_text_fails_otherwise_than_by_a_refusal(text: str) -> None:
    with contextlib.suppress(BadScenario):
        parse(text, "s")


@given(st.lists(st.floats(min_value=0.1, max_value=100), min_size=1, max_size=6))
def test_every_kind_of_phone_has_its_share_of_any_stretch_of_calls(shares: list[float]) -> None:
    kinds = ", ".join(f"{{share = {share}}}" for share in shares)
    scenario = parse(f"{ABOUT}phones = [{kinds}]", "s")
    chosen = [scenario.phones_of(place) for place in range(300)]
    for kind, share in enumerate(shares):
        assert abs(chosen.count(kind) - 300 * share / sum(shares)) <= len(shares)


def test_slow_readers_have_their_share() -> None:
    scenario = load("slow-readers")
    assert sum(scenario.reads_slowly(place) for place in range(100)) == 20


def test_slow_readers_among_too_few_calls_are_refused_rather_than_left_out() -> None:
    with pytest.raises(BadScenario, match=r"slow_readers: 0\.2 of 4 calls is nobody; take at least 5"):
        overridden(load("slow-readers"), 4, None, None)
    assert overridden(load("slow-readers"), 5, None, None).calls == 5


def test_the_command_line_overrides_what_it_says_and_nothing_else() -> None:
    scenario = overridden(load("steady"), 7, None, 2.5)
    assert (scenario.calls, scenario.ramp_s, scenario.duration_s) == (7, load("steady").ramp_s, 2.5)
    assert scenario.phones == (Phones(),)
