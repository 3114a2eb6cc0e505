"""Who the speakers of a recording are, if their voices are enrolled: an extra that a task may ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import structlog

from gateway.ports import Candidate, Rejected, Unavailable, VoiceprintApi
from gateway.quality.speech import Samples, Span, part
from gateway.quality.transcribe import Channels
from protocol.quality_result import Sentence

ENOUGH_MS = 30_000
"""Speech that a voice is recognised by: a speaker's longest sentences, up to about this."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class KnownVoice:
    """From when on a voice counts as known. Scores are 100 x cosine."""

    score: float
    score_8k: float
    """For recordings at 8 kHz."""
    margin: float
    """Over the second candidate."""


@dataclass(frozen=True, slots=True)
class Whose:
    """Whose enrolled voices are looked among."""

    app_id: str
    org_id: str
    tag_id: str | None


class SpeakerNames:
    """Asks the voiceprint service about each speaker once, with all that is pooled of him."""

    def __init__(self, voices: VoiceprintApi, known: KnownVoice) -> None:
        self._voices = voices
        self._known = known

    async def named(self, sentences: Sequence[Sentence], channels: Channels, whose: Whose) -> tuple[Sentence, ...]:
        """The sentences, those of known speakers with `speaker_name` and `speaker_score`.

        Two speakers are not the same person: a name goes to whom it fits better. Where the voiceprint service does not
        answer, nobody is named, and the log says so: a verdict does not wait for an extra.
        """
        found: dict[int, Candidate] = {}
        for speaker in sorted({one.speaker_id for one in sentences}):
            samples = channels.samples[speaker if len(channels.samples) > 1 else 0]
            pcm = _pooled([one for one in sentences if one.speaker_id == speaker], samples, channels.rate_hz)
            try:
                hits = await self._voices.recognize(whose.app_id, whose.org_id, whose.tag_id, pcm, channels.rate_hz)
            except Rejected as refusal:  # too little speech, or too poor
                _log.info("quality_speaker_not_recognised", speaker_id=speaker, reason=str(refusal))
                continue
            except Unavailable as fault:
                _log.warning("quality_speakers_not_named", reason=str(fault))
                return tuple(sentences)
            if hits and self._is_known(hits, channels.rate_hz):
                found[speaker] = hits[0]
        fits = {
            speaker: hit
            for speaker, hit in found.items()
            if all(hit.score > other.score for at, other in found.items() if at != speaker and other.name == hit.name)
        }
        return tuple(_with_name(one, fits.get(one.speaker_id)) for one in sentences)

    def _is_known(self, hits: Sequence[Candidate], rate_hz: int) -> bool:
        least = self._known.score_8k if rate_hz <= 8000 else self._known.score
        second = hits[1].score if len(hits) > 1 else 0.0
        return hits[0].score >= least and hits[0].score - second >= self._known.margin


def _pooled(sentences: Sequence[Sentence], samples: Samples, rate_hz: int) -> bytes:
    chosen: list[Sentence] = []
    pooled_ms = 0
    for one in sorted(sentences, key=lambda one: one.begin_ms - one.end_ms):
        if pooled_ms >= ENOUGH_MS:
            break
        chosen.append(one)
        pooled_ms += one.end_ms - one.begin_ms
    return np.concatenate([part(samples, rate_hz, Span(one.begin_ms, one.end_ms)) for one in chosen]).tobytes()


def _with_name(sentence: Sentence, hit: Candidate | None) -> Sentence:
    if hit is None:
        return sentence
    return msgspec.structs.replace(sentence, speaker_name=hit.name, speaker_score=round(hit.score, 1))
