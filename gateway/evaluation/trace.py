"""The core of a call, run offline over the same audio: what it asked for, and at which sample it could.

The core is deterministic, so this says exactly which sample completed the third second of net speech in the live call,
which no message carries. That the two runs agree is checked on the segments' bounds, not assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from gateway.call.analysis import Analysis, Happened
from gateway.call.channel import Asked, Ceased, VoiceGathered
from gateway.call.settings import CallSettings, CallTerms
from gateway.ports import SpeechProbabilities

Confirm = Callable[[bytes, int, bytes | None], SpeechProbabilities]
"""The VAD's model: PCM, its rate and the state so far."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """Speech enough for an identification: complete at `spoken_ms`, asked for at `asked_ms` of the media clock."""

    spoken_ms: int
    asked_ms: int


@dataclass(slots=True)
class Trace:
    """`gathered`: by segment and net speech in ms. `closed`: begin, end, and when the close was settled."""

    gathered: dict[tuple[str, int], Gathered] = field(default_factory=dict)
    closed: dict[str, tuple[int, int, int]] = field(default_factory=dict)


def trace(pcm: bytes, terms: CallTerms, settings: CallSettings, confirm: Confirm) -> Trace:
    """Run the core's analysis over interleaved s16le PCM of the call's format."""
    analysis = Analysis(settings, terms)
    states: dict[int, bytes | None] = {}
    made = Trace()
    step = 2 * terms.audio.channels * terms.audio.rate_hz // 50

    def follow(happenings: list[Happened]) -> None:
        for happened in happenings:
            match happened.what:
                case Asked(ordinal, block, fresh):
                    state = None if fresh else states.get(happened.channel)
                    answer = confirm(block, terms.audio.rate_hz, state)
                    states[happened.channel] = answer.state
                    follow(_noted(made, analysis.answer(happened.channel, ordinal, answer.probabilities)))
                case _:
                    pass

    for at in range(0, len(pcm), step):
        follow(_noted(made, analysis.push(pcm[at : at + step])))
    list(_noted(made, analysis.finish()))
    return made


def _noted(made: Trace, happenings: Iterable[Happened]) -> list[Happened]:
    """Note at once what an utterance looks like: it changes as the call goes on."""
    noted: list[Happened] = []
    for happened in happenings:
        match happened.what:
            case VoiceGathered(utterance, _, net_speech_ms, end_ms):
                key = utterance.segment_id, net_speech_ms
                made.gathered.setdefault(key, Gathered(end_ms, happened.at_ms))
            case Ceased(utterance):
                made.closed[utterance.segment_id] = utterance.begin_ms, utterance.end_ms, happened.at_ms
        noted.append(happened)
    return noted
