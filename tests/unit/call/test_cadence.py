"""What a call gives up while the recogniser is loaded, and in which order."""

import pytest

from gateway.call.cadence import HIGHEST_LEVEL, Cadence, cadence
from gateway.call.channel import AnalysisSettings
from gateway.call.effects import Transcribe
from gateway.call.events import HeardWord, LoadChanged, Transcribed
from protocol.rules.matcher import RuleSet
from tests.unit.call.shell import Shell
from tests.unit.call.sound import make_call, silence, voice

RULES = RuleSet.from_categories({"c": ["red"]}, 1, pinyin=True)
SETTINGS = AnalysisSettings()


def at(level: int, *, judged: bool = True) -> Cadence:
    return cadence(SETTINGS, level, judged=judged)


def test_the_order_of_what_is_given_up_is_the_measured_one() -> None:
    assert at(0) == Cadence(hop_ms=700, window_ms=8000, tail_ms=None, at_pauses=True, hurried=False)
    assert at(1) == Cadence(hop_ms=1400, window_ms=8000, tail_ms=None, at_pauses=True, hurried=False)
    assert at(2) == Cadence(hop_ms=1400, window_ms=6000, tail_ms=4000, at_pauses=True, hurried=False)
    assert at(3) == at(2)
    assert at(3, judged=False) == Cadence(hop_ms=None, window_ms=6000, tail_ms=4000, at_pauses=True, hurried=False)
    assert at(4) == at(4, judged=False) == at(3, judged=False)
    assert at(5) == Cadence(hop_ms=None, window_ms=6000, tail_ms=4000, at_pauses=True, hurried=True)
    assert at(6) == Cadence(hop_ms=None, window_ms=6000, tail_ms=4000, at_pauses=False, hurried=True)


def test_levels_beyond_the_ends_are_the_ends() -> None:
    assert at(-1) == at(0)
    assert at(HIGHEST_LEVEL + 1) == at(HIGHEST_LEVEL)


def asked_for(level: int, *sounds: bytes, rules: RuleSet = RULES) -> list[Transcribe]:
    """Every request of a call at a load level; each is answered at once."""
    shell = Shell(make_call(rules))
    shell.tell(LoadChanged(level))
    asked: list[Transcribe] = []
    for pcm in sounds:
        for begin in range(0, len(pcm), 320):
            shell.hear(pcm[begin : begin + 320])
            while shell.transcribes:
                asked.append(shell.transcribes[0])
                shell.say("", kind=shell.transcribes[0].kind)
    return asked


SPEECH = (silence(500), voice(3000), silence(1200))


@pytest.mark.parametrize(("level", "partials"), [(0, 5), (1, 2), (3, 2), (4, 0), (6, 0)])
def test_partials_thin_out_first(level: int, partials: int) -> None:
    asked = asked_for(level, *SPEECH)
    assert sum(one.kind == "partial" and not one.foreseen for one in asked) == partials


def test_a_call_that_no_rule_looks_at_goes_without_partials_sooner() -> None:
    nobody_looks = asked_for(3, *SPEECH, rules=RuleSet([], pinyin=True))
    assert [(one.kind, one.foreseen) for one in nobody_looks] == [("partial", True), ("final", False)]


def test_finals_are_hurried_and_then_the_only_ones() -> None:
    assert [(one.kind, one.foreseen, one.hurried) for one in asked_for(5, *SPEECH)] == [
        ("partial", True, True),
        ("final", False, True),
    ]
    assert [(one.kind, one.hurried) for one in asked_for(6, *SPEECH)] == [("final", True)]


@pytest.mark.parametrize("level", range(HIGHEST_LEVEL + 1))
def test_no_level_costs_a_final_text(level: int) -> None:
    asked = asked_for(level, *SPEECH, *SPEECH)
    assert [one.segment_id for one in asked if one.kind == "final"] == ["s1", "s2"]


def test_a_change_counts_from_the_next_request_on() -> None:
    shell = Shell(make_call(RULES))
    shell.hear(voice(800))
    shell.tell(LoadChanged(4))
    shell.say("", kind="partial")
    shell.hear(voice(3000))
    assert shell.transcribes == []
    shell.tell(LoadChanged(0))
    shell.hear(voice(40))
    assert [one.kind for one in shell.transcribes] == ["partial"]


def test_under_load_a_partial_leaves_out_what_was_agreed_on_long_enough_ago() -> None:
    def window_ms(level: int) -> int:
        shell = Shell(make_call(RULES))
        shell.tell(LoadChanged(level))
        words = tuple(HeardWord(f" w{nth}", 500 * nth, 500 * nth + 500) for nth in range(4))
        for ms in (1500, 1500, 3500):
            shell.hear(voice(ms))
            last = shell.transcribes.pop()
            shell.tell(Transcribed(last.segment_id, last.ordinal, " w0 w1 w2 w3", "en", words))
        shell.hear(voice(40))
        return len(shell.transcribes.pop().pcm) // 16

    assert window_ms(1) > 6000
    assert 4000 <= window_ms(2) < 4600
