"""Each stage of the demo's check fails when its thing is missing, and only then."""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import pytest

from gateway.demo.check import stages
from gateway.demo.material import Agent, DemoCall, Expectation, Turn
from protocol.messages import (
    Ack,
    Alert,
    AlertUpdate,
    Ended,
    Missed,
    QcResult,
    Segment,
    ServerMessage,
    Speaker,
    Started,
    Transcript,
)

M = TypeVar("M")
SAMPLES = 16000
REFUND = Expectation(
    category="Refund", rule="refund", early="final", retracted=False, at_hangup="final", qc="confirmed"
)
LEAVING = Expectation(
    category="Leaving", rule="cancel&&!offer", early="provisional", retracted=True, at_hangup="retracted", qc="no_hit"
)
NOTICE = Expectation(
    category="Notice", rule="!recorded", early="none", retracted=False, at_hangup="final", qc="confirmed"
)
SILENT = Expectation(category="Threat", rule="lawyer", early="none", retracted=False, at_hangup="none", qc="no_hit")
CALL = DemoCall(
    language="en",
    agent=Agent("Emma", "en-agent.flac"),
    turns=(Turn("agent", "Emma", 0.0, 0.4, "Hello."), Turn("customer", "unknown", 0.5, 0.9, "A refund or I cancel.")),
    expect=(REFUND, LEAVING, NOTICE, SILENT),
)


def segment(segment_id: str, channel: int, state: str) -> Segment:
    fields = {"segment_id": segment_id, "channel": channel, "role": ("agent", "customer")[channel], "state": state}
    return msgspec.convert({**fields, "begin_ms": 0, "end_ms": 400, "type": "segment"}, Segment)


def transcript(segment_id: str, channel: int, text: str) -> Transcript:
    role = ("agent", "customer")[channel]
    return Transcript(
        segment_id=segment_id,
        channel=channel,
        role=role,
        text=text,
        final=True,
        begin_ms=0,
        end_ms=400,
        language="en",
        words=[],
    )


def speaker(segment_id: str, channel: int, state: Any, name: str) -> Speaker:
    return Speaker(
        segment_id=segment_id,
        channel=channel,
        role=("agent", "customer")[channel],
        state=state,
        name=name,
        score=80,
        margin=60,
        net_speech_ms=3000,
        stable=True,
        candidates=[],
    )


def alert(alert_id: str, of: Expectation, certainty: Any) -> Alert:
    return Alert(
        alert_id=alert_id,
        category=of.category,
        rule=of.rule,
        rule_version=1,
        certainty=certainty,
        pending=[],
        keywords=[],
        evidence=[],
    )


def became(alert_id: str, status: Any) -> AlertUpdate:
    return AlertUpdate(alert_id=alert_id, status=status, reason="", evidence=[])


BEFORE_HANGUP: list[ServerMessage] = [
    Started(resume_token="t", resume_window_s=60, rate=16000, channels=2, limits={}),
    segment("s1", 0, "opened"),
    segment("s1", 0, "closed"),
    transcript("s1", 0, "Hello."),
    speaker("s1", 0, "known", "Emma"),
    segment("s2", 1, "opened"),
    segment("s2", 1, "closed"),
    transcript("s2", 1, "A refund or I cancel."),
    speaker("s2", 1, "unknown", ""),
    alert("a1", REFUND, "provisional"),
    became("a1", "final"),
    alert("a2", LEAVING, "provisional"),
    became("a2", "retracted"),
]
AFTER_HANGUP: list[ServerMessage] = [
    Ack(samples=SAMPLES),
    alert("a3", NOTICE, "final"),
    became("a1", "confirmed"),
    became("a3", "confirmed"),
    QcResult(session_id="c1", result={"asr_text": "Hello. A refund or I cancel."}, missed=[]),
    Ended(samples=SAMPLES, duration_ms=1000, reason="hangup"),
]


def faults(messages: list[ServerMessage], hangup_at: int = len(BEFORE_HANGUP)) -> dict[str, str]:
    """What is wrong, by stage, with these messages once they are numbered."""
    numbered = [msgspec.structs.replace(one, seq=number, call_id="c1") for number, one in enumerate(messages, 1)]
    return {stage.name: stage.fault for stage in stages(CALL, numbered, SAMPLES, hangup_at) if stage.fault}


HEALTHY = [*BEFORE_HANGUP, *AFTER_HANGUP]


def without(unwanted: Callable[[ServerMessage], bool]) -> list[ServerMessage]:
    return [one for one in HEALTHY if not unwanted(one)]


def altered(kind: type[M], wanted: Callable[[M], bool], **changes: Any) -> list[ServerMessage]:
    return [
        msgspec.structs.replace(one, **changes) if isinstance(one, kind) and wanted(one) else one for one in HEALTHY
    ]


def test_a_healthy_call_passes_every_stage() -> None:
    assert faults(HEALTHY) == {}
    assert len(stages(CALL, HEALTHY, SAMPLES, 0)) == 11


@pytest.mark.parametrize(
    ("stage", "fault", "messages"),
    [
        (
            "audio acknowledged",
            "15999 of 16000 samples were acknowledged",
            altered(Ack, lambda _: True, samples=SAMPLES - 1),
        ),
        ("audio acknowledged", "0 of 16000 samples were acknowledged", without(lambda one: isinstance(one, Ack))),
        (
            "utterances found on both channels",
            "no utterance of the customer",
            without(lambda one: isinstance(one, Segment) and one.role == "customer" and one.state == "closed"),
        ),
        (
            "utterances found on both channels",
            "no utterance of the agent or the customer",
            without(lambda one: isinstance(one, Segment)),
        ),
        (
            "words transcribed on both channels",
            "no words of the agent",
            altered(Transcript, lambda one: one.channel == 0, text=""),
        ),
        (
            "words transcribed on both channels",
            "no words of the customer",
            altered(Transcript, lambda one: one.channel == 1, final=False),
        ),
        (
            "the agent recognised by voice",
            "the agent's channel was never labelled Emma",
            altered(Speaker, lambda one: one.channel == 0, state="undecided", name=""),
        ),
        (
            "the agent recognised by voice",
            "the agent's channel was never labelled Emma",
            altered(Speaker, lambda one: one.channel == 0, name="Another"),
        ),
        (
            "the customer not taken for anyone enrolled",
            "the customer was taken for Emma",
            altered(Speaker, lambda one: one.channel == 1, state="conflict", name="Emma"),
        ),
        (
            "the customer not taken for anyone enrolled",
            "the customer was never compared with anyone",
            altered(Speaker, lambda one: one.channel == 1, state="undecided"),
        ),
        (
            "voice QC's verdict received",
            "the verdict holds no transcript",
            altered(QcResult, lambda _: True, result={"asr_text": ""}),
        ),
        ("voice QC's verdict received", "no verdict came", without(lambda one: isinstance(one, QcResult))),
        ("call ended in order", "no `ended`", without(lambda one: isinstance(one, Ended))),
    ],
)
def test_a_stage_fails_alone_when_its_thing_is_missing(stage: str, fault: str, messages: list[ServerMessage]) -> None:
    assert faults(messages) == {stage: fault}


def test_an_alert_that_came_only_after_hangup_was_not_early() -> None:
    at_hangup = HEALTHY.index(alert("a1", REFUND, "provisional"))
    found = faults(HEALTHY, at_hangup)
    assert found == {
        "alerts pushed before hangup": "no alert before hangup for Leaving (cancel&&!offer), Refund (refund)"
    }


def test_a_provisional_alert_that_stands_is_no_withdrawal() -> None:
    found = faults(without(lambda one: isinstance(one, AlertUpdate) and one.alert_id == "a2"))
    assert found["a provisional alert withdrawn"] == "not withdrawn: Leaving (cancel&&!offer)"
    assert found["every alert confirmed or withdrawn"] == "still open: a2"


@pytest.mark.parametrize("status", ["provisional", "final", "indeterminate"])
def test_an_alert_without_a_verdict_is_still_open(status: str) -> None:
    found = faults(altered(AlertUpdate, lambda one: one.alert_id == "a3", status=status))
    assert found["every alert confirmed or withdrawn"] == "still open: a3"


@pytest.mark.parametrize(
    ("messages", "fault"),
    [
        (
            altered(
                AlertUpdate, lambda one: one.status == "confirmed" and one.alert_id == "a1", status="not_confirmed"
            ),
            "Refund (refund): not_confirmed where confirmed was expected",
        ),
        (
            altered(QcResult, lambda _: True, missed=[Missed(category="Threat", rule="lawyer", keywords=["lawyer"])]),
            "Threat (lawyer): missed where no_hit was expected",
        ),
        (
            [*BEFORE_HANGUP, alert("a4", SILENT, "final"), became("a4", "confirmed"), *AFTER_HANGUP],
            "Threat (lawyer): confirmed where no_hit was expected",
        ),
        (
            without(lambda one: getattr(one, "alert_id", "") == "a3"),
            "Notice (!recorded): no_hit where confirmed was expected",
        ),
    ],
)
def test_a_rule_that_was_judged_otherwise_is_named(messages: list[ServerMessage], fault: str) -> None:
    assert faults(messages)["every rule judged as the script says"] == fault


def test_a_call_without_alerts_settled_none() -> None:
    found = faults(without(lambda one: isinstance(one, Alert | AlertUpdate)))
    assert found["every alert confirmed or withdrawn"] == "there was no alert"


def test_message_numbers_with_holes_are_no_order() -> None:
    numbered = [msgspec.structs.replace(one, seq=number) for number, one in enumerate(HEALTHY, 1)]
    del numbered[5]
    found = {stage.name: stage.fault for stage in stages(CALL, numbered, SAMPLES, len(BEFORE_HANGUP)) if stage.fault}
    assert found == {"call ended in order": "message numbers have holes"}


def test_nothing_heard_fails_every_stage_that_asks_for_something() -> None:
    found = {stage.name for stage in stages(CALL, [], SAMPLES, 0) if stage.fault}
    assert found == {stage.name for stage in stages(CALL, [], SAMPLES, 0)}
