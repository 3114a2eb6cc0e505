"""In a pause, the text that the segment will have if nothing more is said."""

from gateway.call.effects import ConfirmSpeech, Effect, Transcribe
from gateway.call.events import Accepted, AudioArrived, Transcribed
from gateway.call.machine import Call
from protocol.messages import Transcript
from tests.unit.call.sound import confirmed, make_call, sent, silence, voice


def heard(call: Call, pcm: bytes) -> list[Effect]:
    """Every effect of the audio, the model's answers included."""
    effects: list[Effect] = []
    for at in range(0, len(pcm), 320):
        todo = call.receive(AudioArrived(pcm[at : at + 320]))
        while todo:
            effects += todo
            todo = [
                after
                for effect in todo
                if isinstance(effect, ConfirmSpeech)
                for after in call.receive(confirmed(effect))
            ]
    return effects


def texts(effects: list[Effect]) -> list[Transcribe]:
    return [effect for effect in effects if isinstance(effect, Transcribe)]


def live_call() -> Call:
    call = make_call()
    call.receive(Accepted("token", 60, {}))
    return call


def test_what_is_foreseen_in_a_pause_is_what_the_final_asks_for() -> None:
    wanted = texts(heard(live_call(), silence(500) + voice(1500) + silence(1200)))
    [foreseen] = [one for one in wanted if one.foreseen]
    [final] = [one for one in wanted if one.kind == "final"]
    assert foreseen.kind == "partial"
    assert foreseen.pcm == final.pcm


def test_each_pause_is_foreseen_once_and_speech_after_it_makes_another() -> None:
    wanted = texts(heard(live_call(), silence(500) + voice(1000) + silence(460) + voice(1000) + silence(1200)))
    foreseen = [one for one in wanted if one.foreseen]
    [final] = [one for one in wanted if one.kind == "final"]
    assert [one.pcm == final.pcm for one in foreseen] == [False, True]


def test_a_partial_under_way_does_not_hold_the_foreseen_text_up() -> None:
    # Nothing is ever answered here: no second partial is asked for, but the foreseen text is.
    wanted = texts(heard(live_call(), silence(500) + voice(3000) + silence(1200)))
    assert [(one.kind, one.foreseen) for one in wanted] == [("partial", False), ("partial", True), ("final", False)]


def test_a_long_segment_is_not_transcribed_whole_at_every_pause() -> None:
    wanted = texts(heard(live_call(), silence(500) + voice(13_000) + silence(1200)))
    assert not any(one.foreseen for one in wanted)


def test_a_partial_that_comes_after_a_later_one_changes_nothing() -> None:
    call = live_call()
    early, late = texts(heard(call, silence(500) + voice(3000) + silence(400)))
    shown = sent(call.receive(Transcribed(late.segment_id, late.ordinal, "the whole of it", "en")))
    assert [message.text for message in shown if isinstance(message, Transcript)] == ["the whole of it"]
    assert call.receive(Transcribed(early.segment_id, early.ordinal, "the", "en")) == []
