"""A call in each of its states, and one event of every kind."""

from typing import Any

from gateway.call.events import (
    AudioArrived,
    AudioLost,
    AudioStored,
    ClientSpoke,
    Continued,
    Event,
    HungUp,
    Identified,
    LoadChanged,
    Noted,
    NumbersSkipped,
    Paused,
    QcJudged,
    QcProgressed,
    QcWaitExpired,
    RulesChanged,
    SettlingExpired,
    SpeechConfirmed,
    Transcribed,
    Updated,
    Warned,
)
from gateway.call.settings import CallSettings
from gateway.call.states import State
from gateway.call.vad import VadSettings
from protocol.rules.matcher import RuleSet
from tests.unit.call.shell import ACCEPTED, Shell
from tests.unit.call.sound import LoudnessGate, make_call, silence, voice

EVENTS: list[Event] = [
    ACCEPTED,
    AudioArrived(silence(20)),
    AudioLost(0, 0, 160, "network"),
    AudioStored(0),
    SpeechConfirmed(0, 1, None),
    Identified(0, 99, ()),
    Transcribed("s9", 99),
    ClientSpoke(0, "hello", 0, 20),
    LoadChanged(2),
    Updated(),
    Noted("mark", "m"),
    NumbersSkipped(0),
    RulesChanged(2, "digest"),
    Paused(),
    Continued(),
    Warned("code", "message"),
    HungUp("hangup"),
    SettlingExpired(),
    QcProgressed("c1", 1, ""),
    QcJudged("c1", {}),
    QcWaitExpired(),
]


def call_shell(mode: Any = "webrtc", rules: RuleSet | None = None, **start: object) -> Shell:
    return Shell(make_call(rules, CallSettings(gate=LoudnessGate, vad=VadSettings(mode)), **start))


def in_state(state: State) -> Shell:
    """A call that came to a state on the usual way; one question of the VAD is open in LIVE, PAUSED and SETTLING."""
    if state is State.NEW:
        return Shell(make_call(), accepted=False)
    one = call_shell("webrtc+silero")
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
