import math

import pytest

from gateway.evaluation.figures import (
    AlertTime,
    FinalTimes,
    LabelTimes,
    alert_times,
    due_ms,
    final_times,
    label_times,
    label_verdict,
    labelled_segments,
    live_text,
    qc_rules,
    qc_text,
    speaker_of,
    spread,
)
from gateway.evaluation.material import Turn
from gateway.evaluation.player import Arrived
from gateway.evaluation.trace import Gathered, Trace
from protocol.messages import Alert, Evidence, Segment, ServerMessage, Speaker, Transcript


def at(ms: float, message: ServerMessage) -> Arrived:
    return Arrived(ms, message)


def speaker(segment_id: str, name: str, *, state: str = "known", net_speech_ms: int = 3000) -> Speaker:
    assert state in ("known", "unknown", "undecided", "conflict")
    return Speaker(
        segment_id=segment_id, channel=0, role="agent", state=state, name=name, score=80, margin=30,  # type: ignore[arg-type]
        net_speech_ms=net_speech_ms, stable=False, candidates=[],
    )  # fmt: skip


def closed(segment_id: str, begin_ms: int, end_ms: int, role: str = "agent") -> Segment:
    return Segment(segment_id=segment_id, channel=0, role=role, state="closed", begin_ms=begin_ms, end_ms=end_ms)


def final(segment_id: str, text: str, begin_ms: int = 0) -> Transcript:
    return Transcript(
        segment_id=segment_id, channel=0, role="agent", text=text, final=True, begin_ms=begin_ms, end_ms=begin_ms,
        language="en", words=[],
    )  # fmt: skip


def alert(alert_id: str, rule: str, *ends_ms: int, partial: bool = True) -> Alert:
    evidence = [
        Evidence(
            segment_id="s1", channel=0, text="", begin_ms=0, end_ms=end_ms, keyword="", match="exact", begin=0, end=0
        )
        for end_ms in ends_ms
    ]
    return Alert(
        alert_id=alert_id, category="c", rule=rule, rule_version=1, certainty="provisional",
        pending=["partial_text"] if partial else [], keywords=[], evidence=evidence,
    )  # fmt: skip


def test_percentiles_are_values_that_occurred() -> None:
    one = spread(range(1, 101))
    assert (one.count, one.p50, one.p95, one.most) == (100, 50, 95, 100)
    assert spread([7.5]).p95 == 7.5
    assert math.isnan(spread([]).p50)


@pytest.mark.parametrize(("position_ms", "due"), [(20, 20), (20.1, 40), (39, 40), (0, 0)])
def test_a_sound_is_spoken_when_its_packet_is_due(position_ms: float, due: float) -> None:
    assert due_ms(position_ms) == due


def test_a_label_is_timed_from_the_third_second_of_the_trace_and_only_the_first_counts() -> None:
    trace = Trace({("s1", 3000): Gathered(4000, 4120), ("s1", 8000): Gathered(9000, 9100)})
    arrived = [at(4200, speaker("s1", "ann")), at(9300, speaker("s1", "ann", net_speech_ms=8000))]
    assert label_times(arrived, trace) == ([LabelTimes("s1", 200, 120, 80)], 0)


def test_a_label_that_the_trace_lacks_is_counted_and_not_guessed() -> None:
    trace = Trace({("s1", 3000): Gathered(4000, 4120)})
    assert label_times([at(4200, speaker("s1", "ann", net_speech_ms=3020))], trace) == ([], 1)


def test_a_label_inherited_at_the_close_is_no_identification() -> None:
    trace = Trace({("s1", 3000): Gathered(4000, 4120)})
    arrived = [at(9000, speaker("s2", "ann", net_speech_ms=700)), at(9000, closed("s2", 8000, 9000))]
    assert label_times(arrived, trace) == ([], 0)
    assert labelled_segments(arrived, trace, [], ["agent"], []) == []


TURNS = [Turn("agent", "ann", 0, 5, ""), Turn("customer", "bob", 4, 12, "")]


def test_on_a_channel_of_its_own_only_that_channels_turns_count() -> None:
    assert speaker_of(3500, 12000, TURNS, "agent") == ("ann", 1.0)


def test_in_a_mix_whoever_speaks_most_of_a_segment_is_its_speaker() -> None:
    who, share = speaker_of(3000, 8000, TURNS, None)
    assert who == "bob"
    assert share == pytest.approx(4 / 6)
    assert speaker_of(20000, 21000, TURNS, None) == ("", 0.0)


def test_the_last_label_of_a_segment_is_judged_and_the_first_kept_beside_it() -> None:
    trace = Trace({("s1", 3000): Gathered(4000, 4120)})
    arrived = [at(4200, speaker("s1", "bob")), at(5100, closed("s1", 0, 5000)), at(5200, speaker("s1", "ann"))]
    [judged] = labelled_segments(arrived, trace, TURNS, ["agent"], ["ann", "bob"])
    assert (judged.truth, judged.verdict_first, judged.verdict) == ("ann", "wrong", "right")


@pytest.mark.parametrize(
    ("label", "truth", "verdict"),
    [
        (speaker("s1", "ann"), "ann", "right"),
        (speaker("s1", "bob"), "ann", "wrong"),
        (speaker("s1", "", state="undecided"), "ann", "unnamed"),
        (speaker("s1", "ann", state="conflict"), "ann", "unnamed"),
        (speaker("s1", "", state="unknown"), "stranger", "right"),
        (speaker("s1", "ann"), "stranger", "wrong"),
        (speaker("s1", "", state="undecided"), "stranger", "unnamed"),
    ],
)
def test_a_voice_nobody_enrolled_must_be_unknown_and_any_other_known(label: Speaker, truth: str, verdict: str) -> None:
    assert label_verdict(label, truth, {"ann", "bob"}) == verdict


def test_a_final_text_is_timed_from_the_close_and_from_the_end_of_the_segment() -> None:
    arrived = [at(5600, closed("s1", 0, 5000)), at(6000, final("s1", "hello"))]
    assert final_times(arrived) == [FinalTimes("s1", 400, 1000)]


def test_the_text_of_a_channel_is_in_the_order_it_was_said() -> None:
    arrived = [at(1, final("s2", "world", 900)), at(2, final("s1", "hello", 100))]
    assert live_text(arrived, 0) == "hello world"
    assert live_text(arrived, 1) == ""
    sentences = [
        {"speaker_id": 0, "begin_ms": 9, "sentence": "b"},
        {"speaker_id": 0, "begin_ms": 1, "sentence": "a"},
        {"speaker_id": 1, "begin_ms": 5, "sentence": "c"},
    ]
    assert qc_text({"asr_result": sentences}, 0) == "a b"


def test_an_alert_is_timed_from_the_word_that_completed_the_rule() -> None:
    arrived = [at(3000, alert("a1", "x&&y", 1000, 2400)), at(9000, alert("a2", "z", 8000))]
    assert alert_times(arrived, 8500, "en") == [AlertTime("x&&y", 600, on_partial=True, language="en")]


def test_a_negation_that_settles_at_the_end_has_no_latency() -> None:
    assert alert_times([at(3000, alert("a1", "!x", partial=False))], 8500, "en") == []


def test_the_rules_of_a_verdict_are_those_that_hit() -> None:
    detail = [{"content": "x", "hit": True, "keyword": ["x"]}, {"content": "y", "hit": False, "keyword": []}]
    assert qc_rules({"detection_result": [{"category": "c", "detail": detail}]}) == {"x"}
