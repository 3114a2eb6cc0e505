"""The figures of a result: how fast and how loud a sentence was, how long the call and its silence."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from gateway.quality.sentences import Utterance
from gateway.quality.speech import Samples, Span, joined, part
from protocol.quality_result import Sentence
from protocol.rules.text import count_words

QUIETEST_DBFS = -96
"""What digital silence is called: the floor of 16-bit audio."""


def voice_speed(text: str, duration_ms: int) -> int:
    """CJK characters plus words of other scripts, a minute; 0 for a sentence without duration."""
    return round(count_words(text) * 60_000 / duration_ms) if duration_ms > 0 else 0


def voice_power(samples: Samples) -> int:
    """Root mean square in dBFS, at least -96; a full-scale square wave is 0."""
    mean_square = float(np.mean(np.square(samples.astype(np.float64)))) if len(samples) else 0.0
    if mean_square == 0.0:
        return QUIETEST_DBFS
    return max(QUIETEST_DBFS, round(10 * math.log10(mean_square / 32768.0**2)))


def whole_seconds(duration_ms: int) -> int:
    """To the nearest; halves go up, so that times keep their order."""
    return (duration_ms + 500) // 1000


def silence_ms(duration_ms: int, speech: Iterable[Sequence[Span]]) -> int:
    """How long nobody spoke, given where each channel holds speech."""
    return max(0, duration_ms - spoken_ms([span for channel in speech for span in channel]))


def spoken_ms(speech: Sequence[Span]) -> int:
    """How much of a channel is speech, what overlaps counted once."""
    return sum(span.duration_ms for span in joined(speech, 0))


def described(utterance: Utterance, samples: Samples, rate_hz: int) -> Sentence:
    """The `asr_result` entry of a sentence; `samples` is its whole channel."""
    spoken = part(samples, rate_hz, Span(utterance.begin_ms, utterance.end_ms))
    return Sentence(
        sentence=utterance.text,
        speaker_id=utterance.speaker_id,
        begin_time=whole_seconds(utterance.begin_ms),
        end_time=whole_seconds(utterance.end_ms),
        voice_speed=voice_speed(utterance.text, utterance.end_ms - utterance.begin_ms),
        voice_power=voice_power(spoken),
        begin_ms=utterance.begin_ms,
        end_ms=utterance.end_ms,
    )
