"""From what is kept to what a report shows: who, when, what it hit, and for how long nobody spoke."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.report.sources import of_call, of_result
from gateway.report.timeline import MOST_ROWS, ROW_WIDTH, rows_of
from gateway.report.view import Party, Report, Stretch, marked
from tests.unit.report.test_page import call_saying, result_saying


def call_with(**changes: Any) -> Report:
    return of_call({**call_saying("plain"), **changes})


def segment(channel: int, begin_ms: int, end_ms: int, text: str = "", name: str = "") -> dict[str, Any]:
    speaker = {"state": "known", "name": name} if name else {"state": "unknown", "name": ""}
    return {"channel": channel, "begin_ms": begin_ms, "end_ms": end_ms, "text": text, "speaker": speaker}


def result_of(*sentences: tuple[int, int, int, str]) -> dict[str, Any]:
    keys = ("speaker_id", "begin_ms", "end_ms", "sentence")
    return {"pass_detection": "success", "asr_result": [dict(zip(keys, one, strict=True)) for one in sentences]}


@pytest.mark.parametrize(
    ("state", "qc", "expected"),
    [
        ("live", None, "live"),
        ("judging", None, "judging"),
        ("judged", {"result": {"pass_detection": "success"}}, "passed"),
        ("judged", {"result": {"pass_detection": "failed"}}, "failed"),
        ("failed", {"result": {}, "failure": "it is down"}, "no_verdict"),
    ],
)
def test_a_verdict_is_what_voice_qc_said_or_why_it_did_not(state: str, qc: Any, expected: str) -> None:
    report = call_with(state=state, qc=qc)
    assert report.verdict == expected
    assert report.verdict_note == ((qc or {}).get("failure") or "")


def test_without_a_transcript_of_voice_qc_the_live_text_is_shown() -> None:
    report = call_with(qc=None, segments=[segment(1, 2000, 3000, "second"), segment(0, 0, 1000, "first", "Emma")])
    assert not report.from_qc
    assert [(one.text, one.party, one.who) for one in report.lines] == [("first", 0, "Emma"), ("second", 1, "")]


def test_lanes_are_channels_with_their_roles_and_names() -> None:
    parties = call_with(
        roles=["agent", "customer"],
        segments=[segment(0, 0, 1000, name="Emma"), segment(0, 900, 3000, name="Emma"), segment(1, 4000, 4500)],
    ).parties
    assert parties == (
        Party("agent", "Emma", (Stretch(0, 3000),)),
        Party("customer", "", (Stretch(4000, 4500),)),
    )


def test_voices_told_apart_in_one_channel_have_lanes_of_their_own_and_names_of_the_time() -> None:
    result = result_of((0, 0, 1000, "hello"), (1, 1000, 2000, "hi"), (0, 3000, 4000, "bye"))
    report = call_with(
        channels=1,
        roles=["mixed"],
        qc={"result": result},
        segments=[segment(0, 0, 900, name="Emma"), segment(0, 950, 2500), segment(0, 2900, 4000, name="Emma")],
    )
    assert [(one.role, one.name) for one in report.parties] == [("", "Emma"), ("", "")]
    assert report.parties[0].speech == (Stretch(0, 1000), Stretch(3000, 4000))


def test_a_vendors_times_in_seconds_and_in_ms_are_told_apart() -> None:
    seconds = of_result(result_saying("plain"))
    assert [(one.begin_ms, one.end_ms) for one in seconds.lines] == [(1000, 3000), (2000, 9000)]
    in_ms = result_saying("plain")
    for one in in_ms["asr_result"]:
        one["begin_time"], one["end_time"] = one["begin_time"] * 1000, one["end_time"] * 1000
    assert of_result(in_ms).lines == seconds.lines


def test_hits_name_expressions_and_where_their_keywords_were_said() -> None:
    result = result_of((0, 0, 1000, "hello"), (1, 5000, 6000, "a Refund, please"), (1, 7000, 8000, "refund!"))
    detail = [{"content": "refund", "keyword": ["refund"]}, {"content": "!sorry", "keyword": []}]
    result |= {"state": 2, "detection_result": [{"category": "Money", "keyword": ["refund"], "detail": detail}]}
    first, second = of_result(result).findings
    assert (first.kind, first.category, first.rule) == ("hit", "Money", "refund")
    assert [(place.at_ms, place.line) for place in first.places] == [(5000, 2), (7000, 3)]
    assert (second.rule, second.places) == ("!sorry", ())


def test_alerts_lie_where_their_evidence_is_and_missed_hits_where_their_words_are() -> None:
    report = call_with(
        qc={
            "result": result_of((0, 0, 1000, "a refund"), (1, 500, 2500, "what refund")),
            "missed": [{"category": "M", "rule": "what", "keywords": ["what"]}],
        },
        alerts=[
            {"category": "A", "rule": "refund", "status": "final", "keywords": ["refund"], "at_ms": 900,
             "evidence": [{"channel": 1, "begin_ms": 700}, {"channel": 0, "begin_ms": 9999}]},
            {"category": "B", "rule": "!x", "status": "retracted", "keywords": [], "at_ms": 1200, "evidence": []},
        ],
    )  # fmt: skip
    first, second, missed = report.findings
    assert (first.kind, [(one.at_ms, one.line) for one in first.places]) == ("open", [(700, 2), (9999, None)])
    assert (second.kind, [(one.at_ms, one.line) for one in second.places]) == ("retracted", [(1200, 2)])
    assert (missed.kind, [(one.at_ms, one.line) for one in missed.places]) == ("missed", [(500, 2)])


def test_a_task_that_is_not_done_says_where_it_stands() -> None:
    report = of_result({"session_id": "s", "state": 1, "state_desc": "执行中", "progress": 40})
    assert (report.verdict, report.verdict_note, report.lines) == ("no_verdict", "执行中", ())


def test_times_far_from_any_call_make_no_endless_page() -> None:
    report = of_result({"state": 2, "asr_result": [{"sentence": "x", "begin_ms": -(10**30), "end_ms": 10**30}]})
    assert len(rows_of(report)) < 100


# --- arithmetic --------------------------------------------------------------------------------------------------

STRETCHES = st.lists(
    st.tuples(st.integers(0, 400), st.integers(1, 100)).map(lambda one: (one[0], one[0] + one[1])), max_size=8
)


def brute(spans: list[tuple[int, int]]) -> set[int]:
    return {at for begin, end in spans for at in range(begin, end)}


@given(STRETCHES, STRETCHES, st.integers(0, 200))
def test_silence_and_talk_over_add_up_ms_by_ms(
    first: list[tuple[int, int]], second: list[tuple[int, int]], rest_ms: int
) -> None:
    end_ms = max([end for _, end in first + second], default=0) + rest_ms
    report = call_with(
        duration_ms=end_ms,
        segments=[segment(channel, *one) for channel, spans in enumerate((first, second)) for one in spans],
        qc=None,
    )
    spoken = brute(first) | brute(second)
    assert report.duration_ms == end_ms
    assert report.silence_ms == end_ms - len(spoken)
    assert sum(one.duration_ms for one in report.talkovers) == len(brute(first) & brute(second))
    assert all(one.begin_ms not in spoken for one in report.silences)


@given(st.integers(0, 12 * 3_600_000), STRETCHES)
def test_every_ms_of_a_call_is_drawn_in_one_of_a_few_rows(duration_ms: int, spans: list[tuple[int, int]]) -> None:
    segments = [segment(0, begin * 100, end * 100) for begin, end in spans]
    report = call_with(duration_ms=duration_ms, segments=segments, qc=None, channels=1)
    rows = rows_of(report)
    assert 1 <= len(rows) <= MOST_ROWS
    assert rows[0].begin_ms == 0
    assert all(before.end_ms == after.begin_ms for before, after in itertools.pairwise(rows))
    assert rows[-1].end_ms >= report.duration_ms
    for row in rows:
        assert 1 <= len(row.ticks) <= 20
        for bar in (*row.silences, *(bar for lane in row.lanes for bar in lane.speech)):
            assert 0 <= bar.x <= ROW_WIDTH
            assert bar.x + bar.width <= ROW_WIDTH + 2
    ends = max((end * 100 for _, end in spans), default=0)
    drawn = sum(bar.width for row in rows for lane in row.lanes for bar in lane.speech)
    assert (drawn > 0) == (ends > 0)


@given(st.text("aA 退款ab", max_size=30), st.lists(st.sampled_from(["a", "退", "款", "退款", "ab", ""]), max_size=4))
def test_marking_loses_and_adds_nothing(text: str, keywords: list[str]) -> None:
    pieces = marked(text, keywords)
    assert "".join(piece.text for piece in pieces) == text
    assert all(piece.text for piece in pieces)
