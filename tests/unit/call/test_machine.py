"""The states of a call: its table, and what each event brings while it goes on."""

import pytest

from gateway.call.effects import StoreAudio, Transcribe, UploadRecording
from gateway.call.events import (
    AudioArrived,
    AudioLost,
    AudioStored,
    ClientSpoke,
    Continued,
    Event,
    HungUp,
    Paused,
    Transcribed,
    Updated,
    Warned,
)
from gateway.call.states import TRANSITIONS, IllegalEvent, State
from protocol.messages import Ack, Gap, Segment, Started, Transcript
from protocol.messages import Warning as Warn
from tests.unit.call.shell import Shell
from tests.unit.call.sound import silence, stereo, voice
from tests.unit.call.states import EVENTS, in_state
from tests.unit.call.states import call_shell as shell


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
