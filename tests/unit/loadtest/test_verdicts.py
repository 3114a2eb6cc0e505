"""Thresholds, comparisons and the search: what is made of figures."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from loadtest.capacity import CapacitySearch
from loadtest.figures.catalogue import FIGURES
from loadtest.figures.compare import NotComparable, compare, remarks
from loadtest.figures.result import BadResult, Machine, OverTime, Result, read_result
from loadtest.figures.slo import ALWAYS, BadSlo, parse_slo
from loadtest.scenario import Search
from loadtest.server.probe import Lags
from loadtest.sizing import TIERS, Point, settings_of, sized
from loadtest.troop import HarnessFailed


def result(figures: dict[str, float], **other: Any) -> Result:
    machine = Machine(processors=2, system="Linux", python="3.11", load_average_before=0.0)
    nothing: list[Any] = []
    over_time = OverTime(**dict.fromkeys(OverTime.__struct_fields__, nothing))
    made = Result(
        scenario={"name": "steady", "calls": 10, "about": "x"},
        sources=["en.flac"],
        processes=1,
        begun_at="2026-01-01T00:00:00+00:00",
        length_s=1.0,
        interrupted=False,
        server={},
        machine=machine,
        harness_was_late=False,
        figures=figures,
        slo=[],
        passed=True,
        failures={},
        faults=[],
        tried=[],
        distributions={},
        over_time=over_time,
    )
    return replace(made, **other)


# --- thresholds ---


def test_a_threshold_is_kept_up_to_its_value() -> None:
    slo = parse_slo("[at_most]\nack_lag_p99_ms = 250\n[at_least]\ncalls_sustained = 100", "slo.toml")
    judged = {one.figure: one.kept for one in slo.judge({"ack_lag_p99_ms": 250.0, "calls_sustained": 99.0})}
    assert judged == {"ack_lag_p99_ms": True, "calls_sustained": False}


def test_what_was_not_measured_does_not_keep_a_threshold() -> None:
    (judged,) = parse_slo("[at_most]\nalert_p99_ms = 1500", "slo.toml").judge({})
    assert not judged.kept
    assert str(judged) == "alert_p99_ms: not measured, at most 1500"


def test_nothing_may_be_lost_unless_somebody_says_so() -> None:
    figures = dict.fromkeys(ALWAYS, 1.0)
    assert not any(one.kept for one in parse_slo("", "slo.toml").judge(figures))
    lenient = "\n".join(["[at_most]", *(f"{name} = 1" for name in ALWAYS)])
    assert all(one.kept for one in parse_slo(lenient, "slo.toml").judge(figures))


def test_a_run_in_which_no_call_began_has_not_passed() -> None:
    judged = parse_slo("", "slo.toml").judge({"calls_begun": 0.0, "calls_failed": 0.0})
    assert [one.figure for one in judged if not one.kept] == ["calls_begun"]
    assert all(one.kept for one in parse_slo("", "slo.toml").judge({"calls_begun": 1.0}))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[at_most]\nack_lag_p99 = 1", r"slo\.toml: there is no figure ack_lag_p99; did you mean ack_lag_p99_ms\?"),
        ("[at_most]\nzzz = 1", r"`python -m loadtest figures` lists them"),
        ('[at_most]\nack_lag_p99_ms = "fast"', r"\$\.at_most"),
        ("[at_mots]\nack_lag_p99_ms = 1", "at_mots"),
        ("[at_most", "Expected"),
    ],
)
def test_a_wrong_threshold_is_named(text: str, fault: str) -> None:
    with pytest.raises(BadSlo, match=fault):
        parse_slo(text, "slo.toml")


@given(st.text(max_size=100))
def test_no_text_of_thresholds_fails_otherwise_than_by_a_refusal(text: str) -> None:
    with contextlib.suppress(BadSlo):
        parse_slo(text, "slo.toml")


# --- comparisons ---


@pytest.mark.parametrize(
    ("figure", "before", "after", "verdict"),
    [
        ("ack_lag_p99_ms", 100.0, 130.0, "worse"),
        ("ack_lag_p99_ms", 100.0, 109.0, "same"),
        ("ack_lag_p99_ms", 100.0, 80.0, "better"),
        ("ack_lag_p50_ms", 1.0, 2.0, "same"),  # a millisecond is noise, whatever the ratio
        ("calls_sustained", 100.0, 150.0, "better"),
        ("calls_failed", 0.0, 1.0, "worse"),
        ("calls_failed", 0.0, 0.0, "same"),
        ("frames_sent", 10.0, 20.0, ""),
    ],
)
def test_a_figure_is_better_or_worse_by_its_own_measure(figure: str, before: float, after: float, verdict: str) -> None:
    (row,) = compare(result({figure: before}), result({figure: after}), 0.1)
    assert row.verdict == verdict
    assert row.ratio == (after / before if before else None)


def test_a_figure_that_only_one_has_is_said_so() -> None:
    rows = compare(result({"calls_failed": 0.0}), result({"cuts": 3.0}), 0.1)
    assert {row.figure: row.verdict for row in rows} == {"calls_failed": "only in A", "cuts": "only in B"}


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"scenario": {"name": "steady", "calls": 20, "about": "x"}}, "calls 10 and 20"),
        ({"scenario": {"name": "burst", "calls": 10, "about": "x"}}, "name steady and burst"),
        ({"sources": ["zh.flac"]}, r"audio \['en.flac'\] and \['zh.flac'\]"),
    ],
)
def test_different_loads_are_not_compared(other: dict[str, Any], named: str) -> None:
    with pytest.raises(NotComparable, match=named):
        compare(result({}), result({}, **other), 0.1)


def test_a_late_harness_is_remarked() -> None:
    assert remarks(result({}), result({}, harness_was_late=True)) == [
        "in B the harness itself was late: its figures are not the server's"
    ]


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    kept = result({"ack_lag_p99_ms": 12.5})
    kept.write(tmp_path / "a.json")
    assert read_result(tmp_path / "a.json") == kept


def test_what_is_no_result_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text('{"schema": "earshot.loadtest.v0"}')
    with pytest.raises(BadResult, match=r"other\.json is no result"):
        read_result(path)
    with pytest.raises(BadResult, match="cannot be read"):
        read_result(tmp_path / "none.json")


def test_every_figure_names_its_unit_where_it_has_one() -> None:
    counts = ("calls_", "frames_", "samples_", "messages_", "recordings_", "watch", "cuts", "server_cpu_share")
    for name in FIGURES:
        units = ("_ms", "_share", "_us_per_frame", "_mb", "_per_core_s", "_ms_per_call_s", "_per_s")
        assert name.endswith(units) or name.startswith(counts), name


# --- the search ---


@given(st.integers(0, 3000), st.integers(1, 100), st.integers(1, 3000), st.floats(1.1, 10), st.floats(0.01, 1))
def test_a_search_finds_the_limit_as_closely_as_asked(
    limit: int, first: int, most: int, growth: float, within: float
) -> None:
    search = CapacitySearch(Search(first_calls=first, growth=growth, within=within), most)
    tried = 0
    while (calls := search.next) is not None:
        assert 1 <= calls <= most
        search.take(calls, passed=calls <= limit)
        tried += 1
        assert tried < 200
    best = min(limit, most)
    assert search.best <= best
    assert best - search.best <= max(1, within * search.best)


# --- sizing ---


def point(calls: int, cpu: float) -> Point:
    return Point(
        calls=calls,
        server_cpu_share=cpu,
        server_main_cpu_share=cpu,
        server_rss_max_mb=1.0,
        ack_lag_p99_ms=1.0,
        harness_lag_p99_ms=1.0,
        failures=0,
    )


def test_a_call_costs_what_more_of_them_take_more() -> None:
    told = sized(TIERS[0], [point(50, 0.3), point(150, 0.8)])
    assert (told.cpu_ms_per_call_s, told.fixed_cpu_share, told.calls_per_core) == (5.0, 0.05, 200.0)


def test_no_cost_is_told_where_more_calls_took_no_more() -> None:
    with pytest.raises(HarnessFailed, match=r"150 calls \(ingest\) cost no more CPU than 50"):
        sized(TIERS[0], [point(50, 0.3), point(150, 0.3)])


def test_each_tier_has_all_that_the_ones_before_it_have() -> None:
    assert [settings_of(tier, {}).get("vad") for tier in TIERS] == ["webrtc", None, None, None]
    assert [settings_of(tier, {}).get("live_text") for tier in TIERS] == ["false", "false", "false", None]
    assert [tier.enrols for tier in TIERS] == [False, False, True, True]
    assert settings_of(TIERS[0], {"vad": "silero"})["vad"] == "silero"


# --- the server's own metrics ---


def test_loop_lag_is_read_of_all_processes_and_of_a_stretch_of_time() -> None:
    page = "\n".join(
        [
            "# TYPE earshot_loop_lag_seconds histogram",
            *(
                f'earshot_loop_lag_seconds_bucket{{le="{bound}",worker="{worker}"}} {count}'
                for worker in (0, 1)
                for bound, count in (("0.01", 90), ("0.1", 99), ("+Inf", 100))
            ),
        ]
    )
    lags = Lags.of_metrics(page)
    assert lags.count == 200
    assert (lags.at_most_s(0.5), lags.at_most_s(0.99), lags.at_most_s(1)) == (0.01, 0.1, 0.1)
    later = Lags({bound: count + 50 for bound, count in lags.up_to.items()})
    assert later.since(lags).count == 50
    assert lags.since(later) == lags  # it began anew
