"""One call through the core and the real recogniser by a simulated clock: no waiting, and nobody else's load.

The engine is one process that takes as long as a decode took CPU. It serves finals first, then what was asked first.
What comes back is what a client would have seen, and when, on an engine that has nothing else to do.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.call.effects import ConfirmSpeech, Effect, Identify, Send, Transcribe
from gateway.call.events import (
    Accepted,
    AudioArrived,
    AudioStored,
    Event,
    HeardWord,
    HungUp,
    Identified,
    LoadChanged,
    SpeechConfirmed,
    Transcribed,
)
from gateway.call.machine import Call
from gateway.call.settings import CallSettings, CallTerms
from gateway.evaluation.player import Arrived
from gateway.ports import Language, SpeechProbabilities, Transcription
from protocol.rules.matcher import RuleSet

PACKET_MS = 20
Transcriber = Callable[[bytes, int, Language, str], Transcription]
Confirm = Callable[[bytes, int, bytes | None], SpeechProbabilities]


@dataclass(slots=True)
class Simulation:
    """`arrived`: messages by simulated arrival. CPU seconds and decodes by kind: partial, foreseen, final."""

    arrived: list[Arrived] = field(default_factory=list)
    cpu_s: dict[str, float] = field(default_factory=dict)
    decodes: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    """Hypotheses that a guard dropped, by reason, of finals alone."""


class SimulatedCall:
    """Runs one call to its hangup and the last final text."""

    def __init__(
        self, terms: CallTerms, settings: CallSettings, rules: RuleSet, transcribe: Transcriber, confirm: Confirm
    ) -> None:
        self._call = Call(terms, settings, rules)
        self._rate_hz = terms.audio.rate_hz
        self._transcribe = transcribe
        self._confirm = confirm
        self._states: dict[int, bytes | None] = {}
        self._waiting: list[tuple[int, int, Transcribe]] = []
        self._numbers = itertools.count()
        self._foreseen: dict[str, tuple[bytes, Transcription]] = {}
        self._engine: tuple[float, Transcribed] | None = None
        """What the engine is at, and when (ms) it will be done."""
        self._now_ms = 0.0
        self.made = Simulation()

    def run(self, pcm: bytes, *, level: int = 0) -> Simulation:
        """Play interleaved s16le PCM at a load level; return what came of it."""
        audio = self._call.terms.audio
        self._tell(Accepted("", 0.0, {}))
        self._tell(LoadChanged(level))
        step = 2 * audio.channels * audio.rate_hz * PACKET_MS // 1000
        for nth, at in enumerate(range(0, len(pcm), step)):
            self._until((nth + 1) * PACKET_MS)
            self._tell(AudioArrived(pcm[at : at + step]))
            self._tell(AudioStored(self._call.samples))
        self._tell(HungUp("hangup"))
        while self._engine is not None:
            self._until(self._engine[0])
        return self.made

    def _tell(self, event: Event) -> None:
        for effect in self._call.receive(event):
            self._carry_out(effect)

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Send(message):
                self.made.arrived.append(Arrived(self._now_ms, message))
            case ConfirmSpeech():
                state = None if effect.fresh else self._states.get(effect.channel)
                answer = self._confirm(effect.pcm, self._rate_hz, state)
                self._states[effect.channel] = answer.state
                self._tell(SpeechConfirmed(effect.channel, effect.ordinal, answer.probabilities))
            case Identify():
                self._tell(Identified(effect.channel, effect.ordinal, ()))
            case Transcribe():
                self._ask(effect)
            case _:
                pass

    def _ask(self, effect: Transcribe) -> None:
        first = effect.kind == "final" or effect.foreseen
        made_ahead = self._foreseen.get(effect.segment_id)
        if effect.kind == "final" and made_ahead is not None and made_ahead[0] == effect.pcm:
            self._tell(_answer(effect, made_ahead[1]))
            return
        heapq.heappush(self._waiting, (0 if first else 1, next(self._numbers), effect))
        if self._engine is None:
            self._begin()

    def _until(self, at_ms: float) -> None:
        while self._engine is not None and self._engine[0] <= at_ms:
            self._now_ms, event = self._engine
            self._engine = None
            self._tell(event)
            if self._engine is None:
                self._begin()
        self._now_ms = max(self._now_ms, at_ms)

    def _begin(self) -> None:
        """Decode what is next; its answer is due when the CPU it took has passed."""
        while self._waiting and self._engine is None:
            _, _, effect = heapq.heappop(self._waiting)
            made_ahead = self._foreseen.get(effect.segment_id)
            if effect.kind == "final" and made_ahead is not None and made_ahead[0] == effect.pcm:
                self._engine = self._now_ms, _answer(effect, made_ahead[1])
                return
            heard, spent_s = self._decode(effect)
            if effect.foreseen:
                self._foreseen[effect.segment_id] = effect.pcm, heard
            self._engine = self._now_ms + 1000 * spent_s, _answer(effect, heard)

    def _decode(self, effect: Transcribe) -> tuple[Transcription, float]:
        best = (effect.kind == "final" or effect.foreseen) and not effect.hurried
        began_s = time.process_time()
        heard = self._transcribe(effect.pcm, self._rate_hz, effect.language, "final" if best else "partial")
        spent_s = time.process_time() - began_s
        what = "foreseen" if effect.foreseen else effect.kind
        made = self.made
        made.cpu_s[what] = made.cpu_s.get(what, 0.0) + spent_s
        made.decodes[what] = made.decodes.get(what, 0) + 1
        if heard.rejected and best:
            made.rejected[heard.rejected] = made.rejected.get(heard.rejected, 0) + 1
        return heard, spent_s


def _answer(effect: Transcribe, heard: Transcription) -> Transcribed:
    words = tuple(HeardWord(word.text, word.begin_ms, word.end_ms) for word in heard.words)
    return Transcribed(effect.segment_id, effect.ordinal, heard.text, heard.language, words)
