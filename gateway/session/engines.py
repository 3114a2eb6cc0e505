"""Carries a call's questions to the engines and their answers back as events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from gateway.call.effects import ConfirmSpeech, Identify, Transcribe
from gateway.call.events import HeardWord, Hit, Identified, SpeechConfirmed, Transcribed
from gateway.ports import (
    Clock,
    PortError,
    Recognizer,
    Rejected,
    SpeechConfirmer,
    TranscribeRequest,
    Transcription,
    VoiceprintApi,
)
from gateway.telemetry import Metrics
from protocol.messages import Language

CONFIRM_TIMEOUT_S = 1.0
"""A question whose answer holds the whole call up; after this the gate decides alone."""
IDENTIFY_TIMEOUT_S = 10.0
PARTIAL_TIMEOUT_S, FINAL_TIMEOUT_S = 60.0, 900.0
"""Waiting included: where there are more calls than capacity, finals come late, and come."""
PARTIAL_DEADLINE_S, FINAL_DEADLINE_S = 0.5, 1.0
"""How soon, from now, a text should be there: the order in which engines take their work."""


@dataclass(frozen=True, slots=True)
class Engines:
    """Who answers a call's questions."""

    confirmer: SpeechConfirmer
    recognizer: Recognizer
    voiceprint: VoiceprintApi


@dataclass(frozen=True, slots=True)
class Voices:
    """Whose voices a call is compared with."""

    app_id: str
    org_id: str
    tag_id: str | None


@dataclass(frozen=True, slots=True)
class _Foreseen:
    """A stretch that will be a segment's last, should nothing more be said. The answer is cancelled where none came."""

    pcm: bytes
    language: Language
    answer: asyncio.Future[Transcription | None]


class CallEngines:
    """One call's side of the engines: keeps the state of each channel's confirmation, and each open segment's text
    that was made ahead of its close."""

    def __init__(
        self, engines: Engines, voices: Voices, call_id: str, rate_hz: int, clock: Clock, metrics: Metrics
    ) -> None:
        self._engines = engines
        self._voices = voices
        self._call_id = call_id
        self._rate_hz = rate_hz
        self._clock = clock
        self._metrics = metrics
        self._states: dict[int, bytes | None] = {}
        self._foreseen: dict[str, _Foreseen] = {}

    async def confirm(self, effect: ConfirmSpeech) -> SpeechConfirmed:
        """The model's view of a block; a channel's blocks must be asked about one after the other."""
        state = None if effect.fresh else self._states.get(effect.channel)
        began_s = self._clock.monotonic()
        try:
            async with asyncio.timeout(CONFIRM_TIMEOUT_S):
                answer = await self._engines.confirmer.confirm(effect.pcm, self._rate_hz, state)
        except (PortError, TimeoutError):
            self._metrics.engine_failures.labels("vad").inc()
            self._states[effect.channel] = None
            return SpeechConfirmed(effect.channel, effect.ordinal, None)
        self._observe("vad", began_s)
        self._states[effect.channel] = answer.state
        return SpeechConfirmed(effect.channel, effect.ordinal, answer.probabilities)

    async def identify(self, effect: Identify) -> Identified:
        """Who this may be; a refusal (audio too poor, service away) is an answer too."""
        voices = self._voices
        began_s = self._clock.monotonic()
        try:
            async with asyncio.timeout(IDENTIFY_TIMEOUT_S):
                found = await self._engines.voiceprint.recognize(
                    voices.app_id, voices.org_id, voices.tag_id, effect.pcm, self._rate_hz
                )
        except Rejected as refusal:
            return Identified(effect.channel, effect.ordinal, (), refused=str(refusal))
        except (PortError, TimeoutError) as fault:
            self._metrics.engine_failures.labels("voiceprint").inc()
            return Identified(effect.channel, effect.ordinal, (), refused=f"voiceprint service: {fault!r}")
        self._observe("voiceprint", began_s)
        return Identified(effect.channel, effect.ordinal, tuple(Hit(one.name, one.score) for one in found))

    async def transcribe(self, effect: Transcribe, on_lag: Callable[[int], None]) -> Transcribed:
        """The words of a stretch. `on_lag` hears, in ms, how much later than wanted a final text came.

        A final over the stretch that was foreseen takes the answer to that, here already or still to come.
        """
        began_s = self._clock.monotonic()
        final = effect.kind == "final"
        deadline_s = began_s + (FINAL_DEADLINE_S if final or effect.foreseen else PARTIAL_DEADLINE_S)
        try:
            async with asyncio.timeout(FINAL_TIMEOUT_S if final or effect.foreseen else PARTIAL_TIMEOUT_S):
                heard = await (self._finally_heard(effect, deadline_s) if final else self._heard(effect, deadline_s))
        except (PortError, TimeoutError) as fault:
            if effect.kind == "partial" and isinstance(fault, TimeoutError):
                # Finals went before it all the time: the engine works, and the next partial shows more.
                return Transcribed(effect.segment_id, effect.ordinal, superseded=True)
            self._metrics.engine_failures.labels("recognizer").inc()
            return Transcribed(effect.segment_id, effect.ordinal, failed=f"recognizer: {fault!r}")
        self._observe("recognizer_" + effect.kind, began_s)
        if final:
            on_lag(max(0, round((self._clock.monotonic() - deadline_s) * 1000)))
        return _transcribed(effect, heard)

    async def _heard(self, effect: Transcribe, deadline_s: float) -> Transcription | None:
        if not effect.foreseen:
            return await self._ask_recognizer(effect, effect.kind, deadline_s)
        foreseen = _Foreseen(effect.pcm, effect.language, asyncio.get_running_loop().create_future())
        self._foreseen[effect.segment_id] = foreseen
        try:
            heard = await self._ask_recognizer(effect, "final", deadline_s)
            foreseen.answer.set_result(heard)
        finally:
            foreseen.answer.cancel()
        return heard

    async def _finally_heard(self, effect: Transcribe, deadline_s: float) -> Transcription | None:
        foreseen = self._foreseen.pop(effect.segment_id, None)
        if foreseen is not None and (foreseen.pcm, foreseen.language) == (effect.pcm, effect.language):
            await asyncio.wait([foreseen.answer])
            # None: something newer took its place in the queue.
            if not foreseen.answer.cancelled() and (heard := foreseen.answer.result()) is not None:
                return heard
        return await self._ask_recognizer(effect, "final", deadline_s)

    async def _ask_recognizer(
        self, effect: Transcribe, kind: Literal["partial", "final"], deadline_s: float
    ) -> Transcription | None:
        key = f"{self._call_id}/{effect.segment_id}"
        return await self._engines.recognizer.transcribe(
            TranscribeRequest(
                *(effect.pcm, self._rate_hz, effect.language, kind, deadline_s, key),
                foreseen=effect.foreseen,
                hurried=effect.hurried,
            )
        )

    def _observe(self, engine: str, began_s: float) -> None:
        self._metrics.engine_s.labels(engine).observe(self._clock.monotonic() - began_s)


def _transcribed(effect: Transcribe, heard: Transcription | None) -> Transcribed:
    if heard is None:
        return Transcribed(effect.segment_id, effect.ordinal, superseded=True)
    words = tuple(HeardWord(word.text, word.begin_ms, word.end_ms) for word in heard.words)
    return Transcribed(effect.segment_id, effect.ordinal, heard.text, heard.language, words)
