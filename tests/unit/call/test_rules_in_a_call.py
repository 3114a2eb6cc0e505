"""What a running call tells its rules: who speaks when, what is settled, and what rules in shadow would say."""

import pytest

from gateway.call.effects import KeepInShadow
from gateway.call.events import AudioArrived, Continued, Hit, Paused
from gateway.call.settings import CallSettings
from gateway.call.vad import VadSettings
from protocol.messages import Alert, Gap
from protocol.rules import Content
from tests.unit.call.conversation import rules_named
from tests.unit.call.shell import Shell
from tests.unit.call.sound import LoudnessGate, make_call, silence, stereo, voice


def call(*contents: str | Content, channels: int = 1) -> Shell:
    settings = CallSettings(gate=LoudnessGate, vad=VadSettings("webrtc"))
    return Shell(make_call(rules_named({"c": contents}), settings, channels=channels))


def told(shell: Shell) -> list[tuple[int, str, str, int]]:
    return [(one.at_ms, one.rule, one.certainty, one.heard_ms) for one in shell.sent(Alert)]


@pytest.mark.parametrize("packet_ms", [20, 50, 170, 500])
def test_silence_alerts_at_the_same_place_whatever_the_packets(packet_ms: int) -> None:
    one = call(Content(expression="silence>5s"))
    audio = voice(2000) + silence(11_000) + voice(1000) + silence(2000)
    for begin in range(0, len(audio), packet_ms * 16):
        one.hear(audio[begin : begin + packet_ms * 16])
        while one.transcribes:
            one.say("", kind=one.transcribes[0].kind)
    (alert,) = told(one)
    assert alert[0] % 1000 == 0
    assert 7000 < alert[0] <= 9000
    assert alert[1:3] == ("silence>5s", "final")


def test_the_first_seconds_settle_once_all_that_began_in_them_has_its_text() -> None:
    one = call(Content(expression="!recorded", first_s=2))
    one.hear(voice(1500) + silence(8000))
    assert told(one) == [], "the text of what was said is still to come"
    one.say("hello")
    one.hear(silence(1000))
    assert [alert[1:3] for alert in told(one)] == [("!recorded", "final")]


def test_nothing_settles_in_a_pause_and_it_is_no_silence() -> None:
    one = call(Content(expression="!recorded", first_s=5), Content(expression="silence>6s"))
    one.hear(silence(2000))
    one.tell(Paused())
    one.hear(silence(20_000))
    assert told(one) == []
    one.tell(Continued())
    one.hear(silence(4000))
    assert (len(one.sent(Gap)), told(one)) == (1, [])
    one.hear(silence(5000))
    assert [alert[1] for alert in told(one)] == ["silence>6s"]


def test_a_rule_about_a_role_hears_that_channel_only() -> None:
    one = call(Content(expression="refund", role="customer"), channels=2)
    one.hear(stereo(voice(1500), silence(1500)) + stereo(silence(2000), silence(2000)))
    one.say("refund")
    one.hear(stereo(silence(1500), voice(1500)) + stereo(silence(2000), silence(2000)))
    one.say("refund")
    (alert,) = one.sent(Alert)
    assert (alert.evidence[0].channel, alert.options) == (1, {"role": "customer"})
    assert alert.heard_ms <= alert.text_ms <= alert.at_ms


def test_a_rule_about_a_speaker_waits_for_the_stable_label_and_evidence_names_it() -> None:
    one = call(Content(expression="refund", speaker="Ann"), "refund", channels=2)
    speech = stereo(voice(16_000), silence(16_000)) + stereo(silence(2000), silence(2000))
    one.hear(speech)
    one.say("refund")
    while one.identifies:
        one.know(Hit("Ann", 95.0), Hit("Bob", 10.0))
    by_name, anyone = sorted(one.sent(Alert), key=lambda alert: alert.options is None)
    assert by_name.evidence[0].speaker == "Ann"
    assert (anyone.options, anyone.evidence[0].speaker) == (None, "")


def test_what_a_rule_in_shadow_would_say_is_an_effect_and_no_message() -> None:
    one = call(Content(expression="silence>3s", shadow=True))
    one.tell(AudioArrived(silence(9000)))
    (kept,) = [effect.message for effect in one.effects if isinstance(effect, KeepInShadow)]
    assert (kept.call_id, kept.seq, kept.alert_id) == ("c1", 0, "shadow1")
    assert told(one) == []
