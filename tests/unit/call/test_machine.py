"""The states of a call: its table, what each event brings, and how it ends."""

from typing import Any

import pytest

from gateway.call.effects import ConfirmSpeech, EndCall, StoreAudio, Transcribe, UploadRecording
from gateway.call.events import (
    AudioArrived,
    AudioLost,
    AudioStored,
    ClientSpoke,
    Continued,
    Event,
    Hit,
    HungUp,
    Identified,
    Paused,
    QcJudged,
    QcProgressed,
    QcWaitExpired,
    SettlingExpired,
    SpeechConfirmed,
    Transcribed,
    Updated,
    Warned,
)
from gateway.call.machine import TRANSITIONS, IllegalEvent, State
from gateway.call.settings import CallSettings
from gateway.call.vad import VadSettings
from protocol.messages import Ack, AlertUpdate, Ended, Gap, QcResult, QcStatus, Segment, Speaker, Started, Transcript
from protocol.messages import Warning as Warn
from protocol.rules.matcher import RuleSet
from tests.unit.call.shell import ACCEPTED, Shell
from tests.unit.call.sound import LoudnessGate, make_call, quiet, silence, stereo, voice

EVENTS: list[Event] = [
    ACCEPTED,
    AudioArrived(silence(20)),
    AudioLost(0, 0, 160, "network"),
    AudioStored(0),
    SpeechConfirmed(0, 1, None),
    Identified(0, 99, ()),
    Transcribed("s9", 99),
    ClientSpoke(0, "hello", 0, 20),
    Updated(),
    Paused(),
    Continued(),
    Warned("code", "message"),
    HungUp("hangup"),
    SettlingExpired(),
    QcProgressed("c1", 1, ""),
    QcJudged("c1", {}),
    QcWaitExpired(),
]


def shell(mode: Any = "webrtc", rules: RuleSet | None = None, **start: object) -> Shell:
    return Shell(make_call(rules, CallSettings(gate=LoudnessGate, vad=VadSettings(mode)), **start))


def in_state(state: State) -> Shell:
    """A call that came to a state on the usual way; one question of the VAD is open in LIVE, PAUSED and SETTLING."""
    if state is State.NEW:
        return Shell(make_call(), accepted=False)
    one = shell("webrtc+silero")
    one.tell(AudioArrived(voice(100)))
    if state is State.PAUSED:
        one.tell(Paused())
    if state in (State.SETTLING, State.JUDGING, State.ENDED):
        one.tell(HungUp("hangup"))
    if state in (State.JUDGING, State.ENDED):
        one.confirm_all()
        one.tell(AudioStored(one.call.samples))
    if state is State.ENDED:
        one.tell(QcJudged("c1", {}))
    assert one.is_in(state)
    return one


def test_the_table_knows_every_event() -> None:
    assert {type(event) for event in EVENTS} == set(TRANSITIONS)
    assert len(EVENTS) == len(TRANSITIONS)


@pytest.mark.parametrize("state", State)
def test_a_hangup_is_taken_in_every_state(state: State) -> None:
    one = in_state(state)
    one.tell(HungUp("again"))
    assert one.call.state is TRANSITIONS[HungUp][state]


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_that_the_table_does_not_list_is_refused_and_changes_nothing(state: State, event: Event) -> None:
    one = in_state(state)
    call, effects, messages = one.call, list(one.effects), len(one.messages)
    if state in TRANSITIONS[type(event)]:
        one.tell(event)
        return
    samples, seq = call.samples, call._seq
    with pytest.raises(IllegalEvent, match=f"{type(event).__name__} cannot happen while the call is {state.value}"):
        one.tell(event)
    assert (call.state, call.samples, call._seq) == (state, samples, seq)
    assert one.effects == effects
    assert len(one.messages) == messages


def test_started_is_the_first_message_and_tells_the_terms() -> None:
    (started,) = shell(channels=2).messages
    assert started == Started(
        call_id="c1",
        seq=1,
        at_ms=0,
        resume_token="token",
        resume_window_s=60.0,
        rate=8000,
        channels=2,
        limits={"max_call_s": 14_400},
    )


def test_audio_is_stored_as_it_comes() -> None:
    one = shell(channels=2)
    one.tell(AudioArrived(bytes(range(40))), AudioArrived(bytes(range(4))))
    assert one.effects[1:] == [StoreAudio(0, bytes(range(40))), StoreAudio(10, bytes(range(4)))]
    assert one.call.samples == 11


def test_an_ack_follows_what_was_stored() -> None:
    one = shell()
    one.tell(AudioArrived(silence(100)))
    (ack,) = one.tell(AudioStored(400))
    assert isinstance(ack, Ack) and ack.samples == 400 and ack.at_ms == 100


def test_messages_about_audio_carry_the_position_of_the_frame_that_brought_them() -> None:
    one = shell()
    one.hear(silence(1000) + voice(1000) + silence(2000))
    opened, closed = one.sent(Segment)
    assert (opened.begin_ms, opened.at_ms) == (700, 1200)
    assert (closed.begin_ms, closed.end_ms, closed.at_ms) == (700, 2200, 2600)


def test_segments_of_both_channels_are_numbered_in_the_order_they_open() -> None:
    one = shell(channels=2)
    one.hear(stereo(silence(500) + voice(1500) + silence(1000), voice(400) + silence(2600)))
    opened = [segment for segment in one.sent(Segment) if segment.state == "opened"]
    assert [(segment.segment_id, segment.channel, segment.role) for segment in opened] == [
        ("s1", 1, "customer"),
        ("s2", 0, "agent"),
    ]


# --- pause and loss ---


def test_a_pause_keeps_the_timeline_and_records_silence() -> None:
    one = shell(channels=2)
    one.hear(stereo(voice(100), voice(100)))
    one.tell(Paused())
    one.hear(stereo(voice(2000), voice(2000)))
    gaps = one.tell(Continued())
    assert one.call.samples == 16_800
    assert one.effects[-4] == silence_stored(one, 32_000)
    assert [(gap.channel, gap.from_sample, gap.to_sample, gap.cause) for gap in gaps if isinstance(gap, Gap)] == [
        (0, 800, 16_800, "pause"),
        (1, 800, 16_800, "pause"),
    ]
    assert one.sent(Segment) == []


def silence_stored(one: Shell, pcm_bytes: int) -> StoreAudio:
    return StoreAudio(one.call.samples - pcm_bytes // 2, bytes(2 * pcm_bytes))


def test_a_pause_closes_what_was_open_like_any_silence() -> None:
    one = shell()
    one.hear(voice(1000))
    one.tell(Paused())
    one.hear(voice(1000))
    assert [segment.state for segment in one.sent(Segment)] == ["opened", "closed"]
    (final,) = [wanted for wanted in one.transcribes if wanted.kind == "final"]
    assert final.pcm == voice(1000) + silence(200)


def test_a_pause_without_audio_leaves_no_gap() -> None:
    one = shell()
    assert one.tell(Paused(), Continued()) == []


def test_a_hangup_within_a_pause_declares_the_gap() -> None:
    one = shell()
    one.tell(Paused())
    one.hear(voice(100))
    (gap,) = [message for message in one.tell(HungUp("hangup")) if isinstance(message, Gap)]
    assert (gap.from_sample, gap.to_sample, gap.cause) == (0, 800, "pause")


def test_no_sentence_of_the_client_is_taken_within_a_pause() -> None:
    one = shell()
    one.tell(Paused())
    with pytest.raises(IllegalEvent):
        one.tell(ClientSpoke(0, "4111 1111", 0, 10))


def test_lost_audio_is_told_as_a_gap() -> None:
    one = shell(channels=2)
    (gap,) = one.tell(AudioLost(1, 100, 260, "node"))
    assert isinstance(gap, Gap)
    assert (gap.channel, gap.from_sample, gap.to_sample, gap.cause) == (1, 100, 260, "node")


# --- words and terms ---


def test_a_sentence_of_the_client_is_final_text_of_its_own_segment() -> None:
    one = shell(channels=2, language="zh")
    (said,) = one.tell(ClientSpoke(1, "你好", 40, 900))
    assert isinstance(said, Transcript)
    assert (said.segment_id, said.channel, said.role, said.final) == ("s1", 1, "customer", True)
    assert (said.text, said.begin_ms, said.end_ms, said.language, said.words) == ("你好", 40, 900, "zh", [])


def test_an_update_holds_from_there_on() -> None:
    one = shell(channels=2)
    one.tell(Updated(language="en", roles=("left", "right"), metadata={"agent": "ann"}, categories=("c",)))
    one.hear(stereo(voice(1000), silence(1000)) + stereo(silence(1000), silence(1000)))
    assert {segment.role for segment in one.sent(Segment)} == {"left"}
    assert {effect.language for effect in one.effects if isinstance(effect, Transcribe)} == {"en"}
    one.hang_up()
    assert [effect for effect in one.effects if isinstance(effect, UploadRecording)] == [UploadRecording(("c",), "en")]


def test_an_update_of_nothing_changes_nothing() -> None:
    one = shell(language="zh", categories=["c"])
    assert one.tell(Updated()) == []
    one.tell(HungUp("hangup"))
    assert [effect for effect in one.effects if isinstance(effect, UploadRecording)] == [UploadRecording(("c",), "zh")]


def test_roles_for_another_number_of_channels_are_not_taken() -> None:
    one = shell(channels=2)
    one.tell(Updated(roles=("all",)))
    (said,) = one.tell(ClientSpoke(1, "hi", 0, 1))
    assert isinstance(said, Transcript) and said.role == "customer"


def test_a_final_text_that_failed_is_told_as_nothing_heard() -> None:
    one = shell()
    one.hear(voice(1000) + silence(1000))
    (wanted,) = [one for one in one.transcribes if one.kind == "final"]
    (said,) = one.tell(Transcribed(wanted.segment_id, wanted.ordinal, failed="out of memory"))
    assert isinstance(said, Transcript) and said.final and said.text == ""


def test_a_partial_text_that_comes_after_the_final_one_is_dropped() -> None:
    one = shell()
    one.hear(voice(1000) + silence(1000))
    one.say("done")
    assert one.say("do", kind="partial") == []


def test_a_superseded_partial_text_lets_the_segment_ask_again() -> None:
    one = shell()
    one.hear(voice(1000))
    (first,) = one.transcribes
    assert one.tell(Transcribed(first.segment_id, first.ordinal, superseded=True)) == []
    one.hear(voice(1000))
    assert len(one.transcribes) == 2


def test_a_warning_of_the_shell_reaches_the_client() -> None:
    (warning,) = shell().tell(Warned("analysis_lagging", "late", 2500))
    assert isinstance(warning, Warn)
    assert (warning.code, warning.message, warning.lag_ms) == ("analysis_lagging", "late", 2500)


# --- room ---


def test_audio_waits_when_the_disk_is_10_s_behind() -> None:
    one = shell()
    one.tell(AudioArrived(silence(9980)))
    assert one.call.has_room(ahead_of_time=False)
    one.tell(AudioArrived(silence(20)))
    assert not one.call.has_room(ahead_of_time=False)
    one.tell(AudioStored(160))
    assert one.call.has_room(ahead_of_time=False)


def test_audio_that_waits_for_the_model_counts_too() -> None:
    one = shell("webrtc+silero")
    one.tell(AudioArrived(voice(6000)), AudioStored(8000))
    assert not one.call.has_room(ahead_of_time=False)
    one.confirm_all()
    assert one.call.has_room(ahead_of_time=False)


def test_only_who_is_ahead_of_time_waits_for_final_texts() -> None:
    one = shell()
    for _ in range(3):
        assert one.call.has_room(ahead_of_time=True)
        one.hear(voice(300) + silence(1000))
    assert not one.call.has_room(ahead_of_time=True)
    assert one.call.has_room(ahead_of_time=False)
    one.say("something")
    assert one.call.has_room(ahead_of_time=True)


# --- the end ---


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
