"""The core of a call, run offline over the same audio: what it asked for, and at which sample it could.

The core is deterministic, so this says exactly at which sample the live call could know of the third second of net
speech, which no message carries. That the two runs agree is checked on the segments' bounds, not assumed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

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
    made = Trace()
    asked: deque[tuple[int, Asked]] = deque()
    analysis = Analysis(settings, terms, partial(_note, made, asked))
    states: dict[int, bytes | None] = {}
    step = 2 * terms.audio.channels * terms.audio.rate_hz // 50
    for at in range(0, len(pcm), step):
        analysis.push(pcm[at : at + step])
        while asked:
            channel, block = asked.popleft()
            answer = confirm(block.pcm, terms.audio.rate_hz, None if block.fresh else states.get(channel))
            states[channel] = answer.state
            analysis.answer(channel, block.ordinal, answer.probabilities)
    analysis.finish()
    return made


def _note(made: Trace, asked: deque[tuple[int, Asked]], happened: Happened) -> None:
    """Note at once what an utterance looks like: it changes as the call goes on."""
    match happened.what:
        case Asked():
            asked.append((happened.channel, happened.what))
        case VoiceGathered(utterance, _, net_speech_ms, end_ms):
            key = utterance.segment_id, net_speech_ms
            made.gathered.setdefault(key, Gathered(end_ms, happened.at_ms))
        case Ceased(utterance):
            made.closed[utterance.segment_id] = utterance.begin_ms, utterance.end_ms, happened.at_ms
