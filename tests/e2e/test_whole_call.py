"""A call made at test time, played in real time into a real server: the whole message log against the script."""

import io
import wave
from typing import Any

import msgspec
import pytest

from protocol.messages import (
    Ack,
    Alert,
    Ended,
    Error,
    Evidence,
    Gap,
    QcResult,
    QcStatus,
    Segment,
    ServerMessage,
    Speaker,
    Start,
    Started,
    Transcript,
)
from tests.client import Account, CallLog, play
from tests.e2e.script import (
    AGENT,
    COLD,
    ESCALATION,
    LATE_RULE,
    LEAVING,
    LEGAL,
    NOTICE,
    REFUND,
    RULES,
    VISIT,
    Recital,
    prepare,
)
from tests.e2e.words import word_error_rate

pytestmark = [pytest.mark.models, pytest.mark.timeout(400)]

SLACK_MS = 450
"""Silence that a segment holds around its words: 300 ms before, 200 ms after, and the gate's doubt."""
EARLY = {REFUND, ESCALATION, VISIT, LEAVING}
"""Rules that come true while the call runs."""
CATEGORY_OF = {rule: one.category for one in (*RULES, LATE_RULE) for rule in one.contents}


@pytest.mark.parametrize("app", ["en"], indirect=True)
async def test_a_call_goes_from_its_first_word_to_the_verdict_as_the_script_says(app: Account, script: Recital) -> None:
    await prepare(app, script, RULES)
    third = script.turns[2]
    added: list[bool] = []

    async def add_the_late_rule(message: ServerMessage) -> None:
        over = isinstance(message, Transcript) and message.final and message.begin_ms > third.begin_ms - SLACK_MS
        if over and not added:
            added.append(True)
            await app.quality.add_rule(app.app_id, LATE_RULE)

    start = Start(rate=16000, channels=2, language="en", metadata={"agent": AGENT})
    log = await play(app, start, script.samples.tobytes(), on_message=add_the_late_rule)

    the_log_is_in_order(log)
    every_sample_is_acknowledged(log, len(script.samples))
    segments_follow_the_turns(log, script)
    words_follow_the_script(log, script)
    the_agent_is_known_and_the_customer_is_not(log)
    alerts_live_as_they_should(log, script)
    evidence_points_at_the_words(log, script)
    the_verdict_settles_everything(log)
    stored = await the_call(app, log.call_id)
    the_stored_call_agrees(stored, log)
    await the_recording_is_what_was_sent(app, log, rate_hz=16000, channels=2)


def the_log_is_in_order(log: CallLog) -> None:
    assert isinstance(log.messages[0], Started)
    assert isinstance(log.messages[-1], Ended)
    assert [message.seq for message in log.messages] == list(range(1, len(log.messages) + 1))
    assert {message.call_id for message in log.messages} == {log.call_id}
    assert not log.of(Error)
    assert not log.of(Gap)
    positions = [message.at_ms for message in log.messages if isinstance(message, Segment)]
    assert positions == sorted(positions)
    ended = log.one(Ended)
    assert ended.reason == "hangup"
    assert ended.duration_ms == ended.samples * 1000 // log.one(Started).rate


def every_sample_is_acknowledged(log: CallLog, sent_samples: int) -> None:
    acked = [ack.samples for ack in log.of(Ack)]
    assert acked == sorted(set(acked))
    assert acked[-1] == sent_samples == log.one(Ended).samples


def segments_follow_the_turns(log: CallLog, script: Recital) -> None:
    """Each closed segment lies within one turn of its channel, and each turn is covered."""
    opened = {one.segment_id: one for one in log.of(Segment) if one.state == "opened"}
    closed = {one.segment_id: one for one in log.of(Segment) if one.state == "closed"}
    assert set(opened) == set(closed)
    heard = []
    for one in closed.values():
        turn = script.turn_of(one.channel, (one.begin_ms + one.end_ms) // 2)
        assert turn.begin_ms - SLACK_MS <= one.begin_ms < one.end_ms <= turn.end_ms + SLACK_MS
        assert one.begin_ms == opened[one.segment_id].begin_ms
        assert one.role == ("agent", "customer")[one.channel]
        heard.append(turn)
    assert set(heard) == set(script.turns)


def words_follow_the_script(log: CallLog, script: Recital) -> None:
    finals = [one for one in log.of(Transcript) if one.final]
    assert {one.segment_id for one in finals} == {one.segment_id for one in log.of(Segment)}
    assert len(finals) == len({one.segment_id for one in finals}), "a segment has one final text"
    bounds = {one.segment_id: one for one in log.of(Segment) if one.state == "closed"}
    for one in finals:
        assert one.language == "en"
        assert "".join(word.text for word in one.words).strip() == one.text
        segment = bounds[one.segment_id]
        times = [at for word in one.words for at in (word.begin_ms, word.end_ms)]
        assert times == sorted(times)
        assert segment.begin_ms <= times[0] <= times[-1] <= segment.end_ms
    for channel in (0, 1):
        said = " ".join(turn.text for turn in script.turns if turn.channel == channel)
        assert word_error_rate(said, log.said_by(channel)) < 0.15


def the_agent_is_known_and_the_customer_is_not(log: CallLog) -> None:
    labels = log.of(Speaker)
    agent = [one for one in labels if one.channel == 0]
    customer = [one for one in labels if one.channel == 1]
    assert {one.name for one in agent if one.state == "known"} == {AGENT}
    assert agent[-1].state == "known"
    assert not any(one.name for one in customer)
    assert customer[-1].state == "unknown"
    assert {one.state for one in labels} <= {"known", "unknown", "undecided"}
    known = agent[-1]
    assert known.candidates[0].name == AGENT
    assert known.score >= 55


def alerts_live_as_they_should(log: CallLog, script: Recital) -> None:
    before_hangup = [one for one in log.messages[: log.before_hangup] if isinstance(one, Alert)]
    assert {one.rule for one in before_hangup} == EARLY
    # In the order in which their turns are said; within one turn, one text may raise several.
    raised_in = [
        max(script.turn_of(word.channel, word.begin_ms, SLACK_MS).begin_ms for word in one.evidence)
        for one in before_hangup
    ]
    assert raised_in == sorted(raised_in)
    # A raw partial may be corrected, so a rule may alert twice.
    assert {one.rule for one in log.of(Alert)} == EARLY | {NOTICE}
    for alert in log.of(Alert):
        assert (alert.certainty == "provisional") == bool(alert.pending)
        assert alert.category == CATEGORY_OF[alert.rule]
    for rule in EARLY - {LEAVING}:
        *withdrawn, last = log.alerts_of(rule)
        assert all(log.statuses_of(one) == ["provisional", "retracted"] for one in withdrawn)
        assert set(last.pending) <= {"partial_text"}
        assert log.statuses_of(last) in (["provisional", "final", "confirmed"], ["final", "confirmed"])
    leaving = log.alerts_of(LEAVING)
    for alert in leaving:
        assert "negation" in alert.pending
        assert log.statuses_of(alert) == ["provisional", "retracted"]
    assert log.updates_of(leaving[-1])[-1].reason == "forbidden_keyword"
    (notice,) = log.alerts_of(NOTICE)
    assert log.messages.index(notice) >= log.before_hangup
    assert (notice.keywords, notice.evidence, notice.certainty) == ([], [], "final")
    assert log.statuses_of(notice) == ["final", "confirmed"]


def evidence_points_at_the_words(log: CallLog, script: Recital) -> None:
    expected = {
        REFUND: {"refund"},
        ESCALATION: {"manager"},
        VISIT: {"heating", "engineer"},
        LEAVING: {"cancel"},
    }
    for rule, keywords in expected.items():
        alert = log.alerts_of(rule)[-1]
        evidence = [*alert.evidence, *(one for update in log.updates_of(alert) for one in update.evidence)]
        assert {one.keyword for one in evidence} == keywords
        for one in evidence:
            evidence_is_sound(one, log, script)


def evidence_is_sound(one: Evidence, log: CallLog, script: Recital) -> None:
    turn = script.turn_of(one.channel, (one.begin_ms + one.end_ms) // 2, SLACK_MS)
    assert one.keyword in turn.text
    assert one.match == "exact"
    assert one.text[one.begin : one.end].lower() == one.keyword
    # What is matched of a partial text is its settled beginning.
    texts = (text.text for text in log.of(Transcript) if text.segment_id == one.segment_id)
    assert any(text.startswith(one.text) for text in texts)
    assert turn.begin_ms - SLACK_MS <= one.begin_ms < one.end_ms <= turn.end_ms + SLACK_MS


def the_verdict_settles_everything(log: CallLog) -> None:
    assert [status.state for status in log.of(QcStatus)][-1] == 2
    result = log.one(QcResult)
    assert result.session_id == log.call_id
    assert log.hits == {CATEGORY_OF[rule] for rule in (REFUND, ESCALATION, VISIT, NOTICE, COLD)}
    assert CATEGORY_OF[LEGAL] not in log.hits
    (missed,) = result.missed
    assert (missed.category, missed.rule, missed.keywords) == (LATE_RULE.category, COLD, [COLD])
    assert result.result["pass_detection"] == "failed"
    for alert in log.of(Alert):
        assert log.statuses_of(alert)[-1] in ("confirmed", "retracted")
    # Nothing but the verdict's consequences and `ended` comes after it is known.
    assert log.messages.index(result) == len(log.messages) - 2


async def the_call(app: Account, call_id: str) -> dict[str, Any]:
    status, body = await app.get(f"/v1/calls/{call_id}")
    assert status == 200
    document: dict[str, Any] = msgspec.json.decode(body)
    return document


def the_stored_call_agrees(stored: dict[str, Any], log: CallLog) -> None:
    ended = log.one(Ended)
    assert stored["state"] == "judged"
    assert (stored["samples"], stored["duration_ms"], stored["reason"]) == (
        ended.samples,
        ended.duration_ms,
        ended.reason,
    )
    assert stored["roles"] == ["agent", "customer"]
    assert stored["metadata"] == {"agent": AGENT}
    closed = {one.segment_id: one for one in log.of(Segment) if one.state == "closed"}
    assert {one["segment_id"] for one in stored["segments"]} == set(closed)
    texts = {one.segment_id: one for one in log.of(Transcript) if one.final}
    labels = {one.segment_id: one for one in log.of(Speaker)}
    for segment in stored["segments"]:
        its = closed[segment["segment_id"]]
        assert (segment["begin_ms"], segment["end_ms"], segment["channel"]) == (its.begin_ms, its.end_ms, its.channel)
        assert segment["text"] == texts[its.segment_id].text
        assert segment["final"] is True
        assert segment["speaker"]["state"] == labels[its.segment_id].state
    alerts = {alert["alert_id"]: alert for alert in stored["alerts"]}
    assert list(alerts) == [alert.alert_id for alert in log.of(Alert)]
    for alert in log.of(Alert):
        kept = alerts[alert.alert_id]
        assert kept["status"] == log.statuses_of(alert)[-1]
        added = [one for update in log.updates_of(alert) for one in update.evidence]
        assert msgspec.convert(kept["evidence"], list[Evidence]) == [*alert.evidence, *added]
    result = log.one(QcResult)
    assert stored["qc"]["result"] == result.result
    assert stored["qc"]["missed"] == msgspec.to_builtins(result.missed)


async def the_recording_is_what_was_sent(app: Account, log: CallLog, *, rate_hz: int, channels: int) -> None:
    status, body = await app.get(f"/v1/calls/{log.call_id}/recording")
    assert status == 200
    with wave.open(io.BytesIO(body)) as wav:
        assert (wav.getframerate(), wav.getnchannels(), wav.getsampwidth()) == (rate_hz, channels, 2)
        assert wav.readframes(wav.getnframes()) == log.pcm
