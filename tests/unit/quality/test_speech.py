"""Speech found in a channel, and pieces cut from it."""

import asyncio
import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.ports import SpeechProbabilities
from gateway.quality.speech import LONGEST_PIECE_MS, Samples, Span, confirmed, gate, joined, pieces
from tests.quality_world import hummed, recording


@pytest.mark.parametrize("rate_hz", [8000, 16000])
def test_the_gate_finds_where_a_voice_begins_and_ends(rate_hz: int) -> None:
    samples = recording([(0, 1000), (130, 2000), (0, 1000), (200, 500), (0, 300)], rate_hz)
    first, second = gate(samples, rate_hz)
    assert abs(first.begin_ms - 1000) <= 100
    assert abs(first.end_ms - 3000) <= 200
    assert abs(second.begin_ms - 4000) <= 100


def test_silence_and_less_than_a_frame_hold_no_speech() -> None:
    assert gate(np.zeros(16000, np.int16), 8000) == ()
    assert gate(np.zeros(100, np.int16), 8000) == ()


class _Threshold:
    """Follows SpeechConfirmer: loud windows are speech. The state counts the windows heard."""

    def __init__(self) -> None:
        self.states: list[bytes | None] = []

    async def confirm(self, pcm: bytes, rate_hz: int, state: bytes | None) -> SpeechProbabilities:
        samples = np.frombuffer(pcm, dtype="<i2").astype(float)
        assert len(samples) % (32 * rate_hz // 1000) == 0
        windows = np.abs(samples).reshape(-1, 32 * rate_hz // 1000).max(axis=1)
        self.states.append(state)
        return SpeechProbabilities(tuple(0.9 if loud > 5000 else 0.1 for loud in windows), b"heard")


async def test_only_what_the_confirmer_takes_for_speech_too_is_kept() -> None:
    samples = np.concatenate([hummed(130, 1000), np.zeros(8000, np.int16), hummed(200, 1000, level=2000)])
    kept = await confirmed(_Threshold(), samples, 8000, [Span(0, 1000), Span(2000, 3000)])
    assert len(kept) == 1
    assert kept[0].begin_ms <= 32
    assert 950 <= kept[0].end_ms <= 1000


async def test_the_confirmer_keeps_its_state_over_a_long_span_and_starts_afresh_with_the_next() -> None:
    confirmer = _Threshold()
    samples = np.zeros(8000 * 70, np.int16)
    await confirmed(confirmer, samples, 8000, [Span(0, 40_000), Span(60_000, 61_000)])
    assert confirmer.states == [None, b"heard", None]


def test_neighbours_share_a_piece_over_a_short_silence_only() -> None:
    samples = np.zeros(8000 * 20, np.int16)
    spans = [Span(1000, 3000), Span(3900, 5000), Span(6500, 7000), Span(9000, 10_000)]
    assert pieces(samples, 8000, spans) == (Span(700, 5300), Span(6200, 7300), Span(8700, 10_300))


def test_a_long_span_is_cut_where_it_is_quietest() -> None:
    samples = np.full(8000 * 40, 3000, np.int16)
    samples[8000 * 22 : 8000 * 22 + 1600] = 0
    first, second = pieces(samples, 8000, [Span(0, 40_000)])
    assert 22_000 <= first.end_ms <= 22_200
    assert (second.begin_ms, second.end_ms) == (first.end_ms, 40_000)


_SPANS = st.lists(st.tuples(st.integers(0, 120_000), st.integers(60, 70_000)), max_size=8)


def _samples(duration_ms: int) -> Samples:
    return np.random.default_rng(0).integers(-3000, 3000, duration_ms * 8, dtype=np.int16)


@settings(max_examples=30, deadline=None)
@given(_SPANS)
def test_pieces_hold_all_speech_once_and_fit_a_recogniser(drawn: Sequence[tuple[int, int]]) -> None:
    samples = _samples(130_000)
    spans = joined((Span(begin, min(begin + length, 130_000)) for begin, length in drawn), 300)
    cut = pieces(samples, 8000, spans)
    assert all(0 < piece.duration_ms <= LONGEST_PIECE_MS for piece in cut)
    assert all(before.end_ms <= after.begin_ms for before, after in itertools.pairwise(cut))
    for span in spans:
        covered = sum(max(0, min(piece.end_ms, span.end_ms) - max(piece.begin_ms, span.begin_ms)) for piece in cut)
        assert covered == span.duration_ms


def test_the_confirmer_is_not_asked_about_silence() -> None:
    confirmer = _Threshold()
    assert asyncio.run(confirmed(confirmer, np.zeros(8000, np.int16), 8000, [])) == ()
    assert confirmer.states == []
