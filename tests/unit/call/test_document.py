"""The call as people read it afterwards."""

import msgspec
import pytest

from gateway.call.alerts import reconcile
from gateway.call.document import CallDocument, alerts_of, holes_of
from protocol import messages
from protocol.messages import ServerMessage, Start


def evidence(keyword: str = "red") -> messages.Evidence:
    return messages.Evidence(
        segment_id="s1", channel=0, text=keyword, begin_ms=0, end_ms=1, keyword=keyword, match="exact", begin=0, end=3
    )


def alert(alert_id: str = "a1") -> messages.Alert:
    return messages.Alert(
        at_ms=700,
        alert_id=alert_id,
        category="c",
        rule="red||sky",
        rule_version=1,
        certainty="provisional",
        pending=["partial_text"],
        keywords=["red"],
        evidence=[evidence()],
    )


def segment(state: str = "opened", end_ms: int = 40) -> messages.Segment:
    return messages.Segment(segment_id="s1", channel=0, role="agent", state=state, begin_ms=0, end_ms=end_ms)  # type: ignore[arg-type]


def transcript(text: str, *, final: bool) -> messages.Transcript:
    word = messages.Word(text=text, begin_ms=0, end_ms=9)
    return messages.Transcript(
        segment_id="s1",
        channel=0,
        role="agent",
        text=text,
        final=final,
        begin_ms=0,
        end_ms=9,
        language="en",
        words=[word],
    )


def document(*told: ServerMessage) -> CallDocument:
    one = CallDocument("c1", Start(rate=8000, channels=2, metadata={"n": 1}, categories=["c"]), ("agent", "customer"))
    for message in told:
        one.apply(message)
    return one


def test_it_begins_with_the_terms_of_the_call() -> None:
    content = document().content
    assert content["call_id"] == "c1"
    assert (content["rate"], content["channels"], content["roles"]) == (8000, 2, ["agent", "customer"])
    assert (content["metadata"], content["categories"], content["qc"]) == ({"n": 1}, ["c"], None)


def test_a_segment_gathers_its_bounds_text_and_speaker() -> None:
    speaker = messages.Speaker(
        segment_id="s1",
        channel=0,
        role="agent",
        state="known",
        name="ann",
        score=80.0,
        margin=9.0,
        net_speech_ms=1,
        stable=True,
        candidates=[],
    )
    told = (segment(), transcript("hel", final=False), segment("closed", 90), speaker, transcript("hello", final=True))
    assert msgspec.json.decode(msgspec.json.encode(document(*told).content["segments"])) == [
        {
            "segment_id": "s1",
            "channel": 0,
            "role": "agent",
            "begin_ms": 0,
            "end_ms": 90,
            "state": "closed",
            "text": "hello",
            "final": True,
            "language": "en",
            "words": [{"text": "hello", "begin_ms": 0, "end_ms": 9}],
            "stable_chars": 0,
            "speaker": {"state": "known", "name": "ann", "score": 80.0, "stable": True},
        }
    ]


def test_a_sentence_of_the_client_is_a_closed_segment() -> None:
    (one,) = document(transcript("hi", final=True)).content["segments"]
    assert (one["state"], one["begin_ms"], one["end_ms"], one["text"]) == ("closed", 0, 9, "hi")


def test_an_alert_keeps_its_latest_status_and_all_its_evidence_and_keywords() -> None:
    update = messages.AlertUpdate(alert_id="a1", status="final", reason="evidence", evidence=[evidence("sky")])
    (one,) = document(alert(), update).content["alerts"]
    assert (one["status"], one["reason"], one["at_ms"]) == ("final", "evidence", 700)
    assert one["keywords"] == ["red", "sky"]
    assert [entry["keyword"] for entry in one["evidence"]] == ["red", "sky"]
    assert not {"certainty", "seq", "call_id", "type"} & one.keys()


def test_an_update_of_an_alert_that_is_not_there_changes_nothing() -> None:
    update = messages.AlertUpdate(alert_id="a9", status="final", reason="settled", evidence=[])
    assert document(update).content == document().content


def test_gaps_and_warnings_are_kept_with_their_position() -> None:
    gap = messages.Gap(at_ms=5, channel=1, from_sample=0, to_sample=9, cause="pause")
    content = document(gap, messages.Warning(at_ms=6, code="degraded", message="m")).content
    assert content["gaps"] == [{"at_ms": 5, "channel": 1, "from_sample": 0, "to_sample": 9, "cause": "pause"}]
    assert content["warnings"] == [{"at_ms": 6, "code": "degraded", "message": "m", "lag_ms": 0}]


def test_voice_qc_leaves_its_state_result_and_what_was_missed() -> None:
    missed = [messages.Missed(category="c", rule="x", keywords=["k"])]
    content = document(
        messages.QcStatus(session_id="c1", state=2, state_desc="处理成功"),
        messages.QcResult(session_id="c1", result={"asr_text": "hi"}, missed=missed),
    ).content
    assert content["qc"] == {
        "session_id": "c1",
        "state": 2,
        "state_desc": "处理成功",
        "result": {"asr_text": "hi"},
        "missed": [{"category": "c", "rule": "x", "keywords": ["k"]}],
    }


def test_the_end_leaves_length_and_reason() -> None:
    content = document(messages.Ended(samples=800, duration_ms=100, reason="hangup")).content
    assert (content["samples"], content["duration_ms"], content["reason"]) == (800, 100, "hangup")


@pytest.mark.parametrize("message", [messages.Ack(samples=1), messages.Pong(id=""), messages.Replaced()])
def test_what_says_nothing_lasting_changes_nothing(message: ServerMessage) -> None:
    assert document(message).content == document().content


def test_notes_keep_keys_and_marks() -> None:
    one = document()
    one.note("dtmf", "5", 40)
    assert one.content["notes"] == [{"kind": "dtmf", "value": "5", "at_ms": 40}]


def test_a_stored_document_gives_its_alerts_back_for_a_late_verdict() -> None:
    update = messages.AlertUpdate(alert_id="a1", status="final", reason="evidence", evidence=[evidence("sky")])
    stored = msgspec.json.decode(msgspec.json.encode(document(alert(), update, alert("a2")).content))
    first, second = alerts_of(stored)
    assert (first.alert_id, first.status, first.keywords) == ("a1", "final", ["red", "sky"])
    assert first.evidence == [evidence(), evidence("sky")]
    assert second.status == "provisional"
    updates, _ = reconcile([first, second], {"detection_result": [{"category": "c", "keyword": ["sky"]}]})
    assert [one.status for one in updates] == ["confirmed", "not_confirmed"]


def test_what_rules_in_shadow_would_have_sent_is_kept_apart() -> None:
    one = document()
    one.keep_in_shadow(alert("shadow1"))
    one.keep_in_shadow(messages.AlertUpdate(alert_id="shadow1", status="final", reason="settled", evidence=[]))
    assert one.content["alerts"] == []
    assert [(kept["alert_id"], kept["status"]) for kept in one.content["shadow_alerts"]] == [("shadow1", "final")]
    assert alerts_of(one.content) == []


def test_holes_that_may_hide_a_word_are_found_in_a_stored_document() -> None:
    gaps = [(0, 0, 800), (0, 800, 1600), (1, 8000, 24_000)]  # the first two touch, each too short by itself
    told = [messages.Gap(channel=c, from_sample=b, to_sample=e, cause="network") for c, b, e in gaps]
    holes = holes_of(document(*told).content)
    assert [(one.channel, one.role, one.begin_ms, one.end_ms) for one in holes] == [
        (0, "agent", 0, 200),
        (1, "customer", 1000, 3000),
    ]
