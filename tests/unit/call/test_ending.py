"""How a call ends: what hangup waits for, what ends the waiting, and what is said last."""

import pytest

from gateway.call.effects import ConfirmSpeech, EndCall, UploadRecording
from gateway.call.events import (
    AudioArrived,
    AudioStored,
    ClientSpoke,
    Event,
    Hit,
    HungUp,
    QcJudged,
    QcProgressed,
    QcWaitExpired,
    SettlingExpired,
    SpeechConfirmed,
)
from gateway.call.states import TRANSITIONS, State
from protocol.messages import Ack, AlertUpdate, Ended, QcResult, QcStatus, Speaker, Transcript
from protocol.messages import Warning as Warn
from protocol.rules.matcher import RuleSet
from tests.unit.call.shell import Shell
from tests.unit.call.sound import make_call, quiet, silence, voice
from tests.unit.call.states import EVENTS, in_state
from tests.unit.call.states import call_shell as shell


def test_a_call_hung_up_before_it_was_accepted_ends_at_once_and_is_not_uploaded() -> None:
    one = Shell(make_call(), accepted=False)
    (ended,) = one.tell(HungUp("lost"))
    assert ended == Ended(call_id="c1", seq=1, samples=0, duration_ms=0, reason="lost")
    assert one.done(UploadRecording) == 0
    assert one.done(EndCall) == 1


def test_the_recording_is_uploaded_at_hangup_whatever_is_still_open() -> None:
    one = shell("webrtc+silero")
    one.tell(AudioArrived(voice(1000)), HungUp("hangup"), HungUp("hangup"))
    assert one.done(UploadRecording) == 1
    assert one.is_in(State.SETTLING)


def test_a_call_is_judged_once_the_last_ack_name_and_word_are_in() -> None:
    one = shell("webrtc+silero")
    one.tell(AudioArrived(voice(3500)), HungUp("hangup"))
    one.confirm_all()
    assert one.is_in(State.SETTLING)
    one.tell(AudioStored(one.call.samples - 1))
    one.say("last words")
    assert one.is_in(State.SETTLING)
    one.know(Hit("ann", 80.0))
    assert one.is_in(State.SETTLING)
    one.tell(AudioStored(one.call.samples))
    assert one.is_in(State.JUDGING)
    kinds = [type(message) for message in one.messages]
    assert kinds.index(Speaker) < len(kinds) - 1 and kinds[-1] is Ack


def test_an_impatient_call_goes_on_without_what_is_missing() -> None:
    one = shell("webrtc+silero")
    one.tell(AudioArrived(voice(3500)), HungUp("hangup"))
    messages = one.tell(SettlingExpired())
    assert one.is_in(State.JUDGING)
    said = [message for message in messages if isinstance(message, Transcript)]
    assert [(text.final, text.text, text.begin_ms, text.end_ms) for text in said] == [(True, "", 0, 3500)]
    assert isinstance(messages[-1], Warn) and messages[-1].code == "analysis_incomplete"


def test_answers_that_come_after_patience_ended_change_nothing() -> None:
    one = shell("webrtc+silero")
    one.tell(AudioArrived(voice(3500)), HungUp("hangup"), SettlingExpired())
    before = len(one.messages)
    one.answer_all()
    assert len(one.messages) == before
    (ack,) = one.tell(AudioStored(one.call.samples))
    assert isinstance(ack, Ack)
    assert one.done(ConfirmSpeech) > 0


def test_patience_ends_once() -> None:
    one = shell()
    one.tell(AudioArrived(voice(100)), HungUp("hangup"), SettlingExpired())
    assert one.is_in(State.JUDGING)
    assert one.tell(SettlingExpired()) == []
    one.tell(QcWaitExpired())
    assert one.tell(SettlingExpired()) == []


def test_patience_that_ends_with_nothing_open_says_nothing() -> None:
    one = shell()
    one.hear(silence(1000))
    one.tell(HungUp("hangup"))
    assert one.tell(SettlingExpired(), SettlingExpired()) == []


def test_patience_with_only_the_model_missing_leaves_the_rest_to_the_gate() -> None:
    one = shell("webrtc+silero")
    one.tell(AudioArrived(quiet(50) + voice(60)), HungUp("hangup"), AudioStored(880))
    assert one.is_in(State.SETTLING)
    assert one.tell(SettlingExpired()) == []
    assert one.is_in(State.JUDGING)


def test_the_verdict_ends_the_call() -> None:
    one = in_state(State.JUDGING)
    messages = one.tell(QcProgressed("c1", 1, "执行中"), QcProgressed("c1", 1, "执行中"), QcJudged("c1", {"state": 2}))
    status, result, ended = messages
    assert isinstance(status, QcStatus) and (status.session_id, status.state, status.state_desc) == ("c1", 1, "执行中")
    assert isinstance(result, QcResult) and result.result == {"state": 2} and result.missed == []
    assert isinstance(ended, Ended) and (ended.samples, ended.duration_ms, ended.reason) == (800, 100, "hangup")
    assert one.done(EndCall) == 1


def test_a_verdict_that_will_never_come_ends_the_call_too() -> None:
    one = shell(rules=RuleSet.from_categories({"c": ["a"]}, 1, pinyin=True))
    one.tell(ClientSpoke(0, "a", 0, 10))
    one.hang_up()
    update, result, ended = one.tell(QcJudged("c1", {}, "dead letter"))
    assert isinstance(update, AlertUpdate) and update.status == "indeterminate"
    assert isinstance(result, QcResult) and isinstance(ended, Ended) and ended.reason == "qc_failed"


def test_the_clients_patience_ends_the_call_without_a_verdict() -> None:
    one = in_state(State.JUDGING)
    (ended,) = one.tell(QcWaitExpired())
    assert isinstance(ended, Ended) and ended.reason == "qc_pending"


@pytest.mark.parametrize(
    ("early", "reason"),
    [(QcWaitExpired(), "qc_pending"), (QcJudged("c1", {}), "hangup"), (QcJudged("c1", {}, "x"), "qc_failed")],
)
def test_what_comes_before_the_call_has_settled_takes_effect_then(early: Event, reason: str) -> None:
    one = in_state(State.SETTLING)
    assert one.tell(early) == []
    one.confirm_all()
    messages = one.tell(AudioStored(one.call.samples))
    assert isinstance(messages[0], Ack)
    assert isinstance(messages[-1], Ended) and messages[-1].reason == reason


def test_the_first_verdict_counts() -> None:
    one = in_state(State.SETTLING)
    one.tell(QcJudged("c1", {"n": 1}), QcJudged("c1", {"n": 2}))
    one.confirm_all()
    one.tell(AudioStored(one.call.samples))
    (result,) = one.sent(QcResult)
    assert result.result == {"n": 1}


def test_nothing_is_said_after_the_end() -> None:
    one = in_state(State.ENDED)
    for event in EVENTS:
        if State.ENDED in TRANSITIONS[type(event)] and not isinstance(event, SpeechConfirmed):
            assert one.tell(event) == []
    assert one.is_in(State.ENDED)
