"""Where a channel holds speech, and the pieces a recogniser can take it in."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import webrtcvad
from numpy.typing import NDArray

from gateway.ports import SpeechConfirmer

Samples = NDArray[np.int16]
"""One channel, shape (n,), at 8 or 16 kHz."""

FRAME_MS = 20
GATE_MODE = 2
JOIN_GAP_MS = 300
"""Speech on both sides of a shorter gap is one span: stops and breaths are part of speaking."""
SHORTEST_SPAN_MS = 60
WINDOW_MS = 32
"""What a SpeechConfirmer judges at a time."""
WARM_UP_MS = 10 * WINDOW_MS
"""The confirmer starts without a memory: it hears this much before the span it judges."""
STRETCH_MS = 900 * WINDOW_MS
SPEECH_PROBABILITY = 0.5
MARGIN_MS = 300
"""Kept around speech, since a gate opens late on soft consonants."""
LONGEST_PIECE_MS = 28_000
BRIDGED_SILENCE_MS = 600
"""A piece may run over a silence no longer than this, which is what closes a live segment (see BENCHMARKS.md). Over
10 s of it, Whisper base needed half the CPU, but times drifted by seconds across the silences and Chinese sentences ran
into one another; over 1 s, whole sentences of the second voice were lost from a Mandarin mix."""
CUT_SEARCH_MS = 10_000
CUT_WINDOW_MS = 100
SHORTEST_REST_MS = 1000


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a recording, in ms from its start; `end_ms` is not part of it."""

    begin_ms: int
    end_ms: int

    @property
    def duration_ms(self) -> int:
        return self.end_ms - self.begin_ms


def gate(samples: Samples, rate_hz: int) -> tuple[Span, ...]:
    """Where webrtcvad hears a voice; a rest shorter than a frame is not looked at. Blocking: about 5 us a frame."""
    vad = webrtcvad.Vad(GATE_MODE)
    frame = rate_hz * FRAME_MS // 1000
    voiced = (
        vad.is_speech(samples[at : at + frame].tobytes(), rate_hz) for at in range(0, len(samples) - frame + 1, frame)
    )
    return _longer_than(SHORTEST_SPAN_MS, _spans(voiced, FRAME_MS, 0))


async def confirmed(
    confirmer: SpeechConfirmer, samples: Samples, rate_hz: int, spans: Sequence[Span]
) -> tuple[Span, ...]:
    """The parts of `spans` that `confirmer` takes for speech too. Raises Unavailable."""
    kept: list[Span] = []
    for span in spans:
        begin_ms = max(0, span.begin_ms - WARM_UP_MS)
        likely = await _probabilities(confirmer, samples, rate_hz, Span(begin_ms, span.end_ms))
        for found in _spans((p >= SPEECH_PROBABILITY for p in likely), WINDOW_MS, begin_ms):
            part = Span(max(found.begin_ms, span.begin_ms), min(found.end_ms, span.end_ms))
            if part.duration_ms > 0:
                kept.append(part)
    return _longer_than(SHORTEST_SPAN_MS, joined(kept, JOIN_GAP_MS))


async def _probabilities(confirmer: SpeechConfirmer, samples: Samples, rate_hz: int, span: Span) -> list[float]:
    """One probability per 32 ms of `span`; the last window is filled up with silence."""
    likely: list[float] = []
    state: bytes | None = None
    for at_ms in range(span.begin_ms, span.end_ms, STRETCH_MS):
        stretch = part(samples, rate_hz, Span(at_ms, min(at_ms + STRETCH_MS, span.end_ms)))
        lacking = -len(stretch) % (WINDOW_MS * rate_hz // 1000)
        answer = await confirmer.confirm(np.pad(stretch, (0, lacking)).tobytes(), rate_hz, state)
        likely.extend(answer.probabilities)
        state = answer.state
    return likely


def part(samples: Samples, rate_hz: int, span: Span) -> Samples:
    """The samples of `span`, fewer where the recording ends inside it."""
    return samples[span.begin_ms * rate_hz // 1000 : span.end_ms * rate_hz // 1000]


def joined(spans: Iterable[Span], gap_ms: int) -> tuple[Span, ...]:
    """Spans in order of time, those that overlap or lie within `gap_ms` of one another made one."""
    merged: list[Span] = []
    for span in sorted(spans, key=lambda one: one.begin_ms):
        if merged and span.begin_ms - merged[-1].end_ms <= gap_ms:
            merged[-1] = Span(merged[-1].begin_ms, max(merged[-1].end_ms, span.end_ms))
        else:
            merged.append(span)
    return tuple(merged)


def pieces(samples: Samples, rate_hz: int, spans: Sequence[Span], cuts_ms: Sequence[int] = ()) -> tuple[Span, ...]:
    """Cut a channel for a recogniser: every span with a margin, in pieces of 28 s at most that do not overlap.

    Neighbours share a piece over short silences; a longer span is cut where its last ten seconds are quietest. No piece
    runs over a moment of `cuts_ms`: in order, none of them inside a span.
    """
    duration_ms = len(samples) * 1000 // rate_hz
    return tuple(
        piece
        for begin_ms, end_ms in itertools.pairwise((0, *cuts_ms, duration_ms))
        for piece in _pieces_between(samples, rate_hz, spans, Span(begin_ms, end_ms))
    )


def halves(samples: Samples, rate_hz: int, span: Span) -> tuple[Span, Span]:
    """`span` in two, cut where its middle half is quietest."""
    quarter_ms = span.duration_ms // 4
    at_ms = _quietest_ms(samples, rate_hz, Span(span.begin_ms + quarter_ms, span.end_ms - quarter_ms))
    return Span(span.begin_ms, at_ms), Span(at_ms, span.end_ms)


def _pieces_between(samples: Samples, rate_hz: int, spans: Sequence[Span], limits: Span) -> tuple[Span, ...]:
    begin_ms, end_ms = limits.begin_ms, limits.end_ms
    inside = (one for one in spans if begin_ms <= one.begin_ms < end_ms)
    padded = joined(
        (Span(max(begin_ms, one.begin_ms - MARGIN_MS), min(end_ms, one.end_ms + MARGIN_MS)) for one in inside), 0
    )
    cut: list[Span] = []
    for span in padded:
        for short in _cut_long(samples, rate_hz, span):
            last = cut[-1] if cut else None
            if (
                last is not None
                and short.begin_ms - last.end_ms <= BRIDGED_SILENCE_MS
                and short.end_ms - last.begin_ms <= LONGEST_PIECE_MS
            ):
                cut[-1] = Span(last.begin_ms, short.end_ms)
            else:
                cut.append(short)
    return tuple(cut)


def _cut_long(samples: Samples, rate_hz: int, span: Span) -> Iterator[Span]:
    while span.duration_ms > LONGEST_PIECE_MS:
        # The rest is never so short that a recogniser could make nothing of it.
        latest_ms = min(span.begin_ms + LONGEST_PIECE_MS, span.end_ms - SHORTEST_REST_MS)
        at_ms = _quietest_ms(samples, rate_hz, Span(latest_ms - CUT_SEARCH_MS, latest_ms))
        yield Span(span.begin_ms, at_ms)
        span = Span(at_ms, span.end_ms)
    yield span


def _quietest_ms(samples: Samples, rate_hz: int, span: Span) -> int:
    """The middle of the 100 ms of `span` that hold least energy."""
    window = CUT_WINDOW_MS * rate_hz // 1000
    searched = part(samples, rate_hz, span).astype(np.float64)
    energy = np.square(searched[: len(searched) // window * window]).reshape(-1, window).sum(axis=1)
    return span.begin_ms + int(energy.argmin()) * CUT_WINDOW_MS + CUT_WINDOW_MS // 2


def _spans(voiced: Iterable[bool], step_ms: int, begin_ms: int) -> tuple[Span, ...]:
    """Runs of voiced steps, the first of which begins at `begin_ms`, joined over short gaps."""
    steps = (Span(begin_ms + n * step_ms, begin_ms + (n + 1) * step_ms) for n, yes in enumerate(voiced) if yes)
    return joined(steps, JOIN_GAP_MS)


def _longer_than(shortest_ms: int, spans: Iterable[Span]) -> tuple[Span, ...]:
    return tuple(span for span in spans if span.duration_ms >= shortest_ms)
