"""Whose speech is whose in one channel, by prints made up: points on a sphere around one voice or two."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.ports import Embedding
from gateway.quality import diarization
from gateway.quality.diarization import Prints, Turn
from gateway.quality.diarizer import Diarizer
from gateway.quality.speech import Span

DIMENSIONS = 192


def _unit(vectors: Prints) -> Prints:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32)


def _voices(alike: float, seed: int = 0) -> Prints:
    """Two voices whose cosine is `alike`."""
    first, other = _unit(np.random.default_rng(seed).normal(size=(2, DIMENSIONS)).astype(np.float32))
    apart = _unit(other - (other @ first) * first)
    return np.stack([first, alike * first + np.float32(np.sqrt(1 - alike**2)) * apart])


def _heard(voices: list[int], alike: float = 0.1, seed: int = 0, scatter: float = 1.0) -> Prints:
    """A print of each voice as a window has it: the cosine with its own mean is .7 (see BENCHMARKS.md)."""
    noise = _unit(np.random.default_rng(seed).normal(size=(len(voices), DIMENSIONS)).astype(np.float32))
    return _unit(_voices(alike, seed)[voices] + np.float32(scatter) * noise)


def _turns(speech: list[Span], prints: Prints) -> tuple[Turn, ...]:
    """As `Diarizer` does, without a second look."""
    seen = diarization.windows(speech, speech[-1].end_ms + 1000)
    voices = diarization.two_voices(seen, prints)
    if voices is None:
        return diarization.one_voice(speech)
    return diarization.turns(speech, seen, diarization.leanings(voices, prints))


def _apart(*durations_ms: int, gap_ms: int = 600) -> list[Span]:
    begins_ms = itertools.accumulate((duration_ms + gap_ms for duration_ms in durations_ms), initial=500)
    return [Span(begin, begin + duration) for begin, duration in zip(begins_ms, durations_ms, strict=False)]


SPEECH = st.lists(st.tuples(st.integers(60, 9000), st.integers(301, 3000)), min_size=1, max_size=12)


def _speech(parts: list[tuple[int, int]]) -> list[Span]:
    spans, at_ms = [], 0
    for duration_ms, gap_ms in parts:
        spans.append(Span(at_ms + gap_ms, at_ms + gap_ms + duration_ms))
        at_ms += gap_ms + duration_ms
    return spans


@given(SPEECH)
def test_windows_cover_the_speech_and_stay_in_the_recording(parts: list[tuple[int, int]]) -> None:
    speech = _speech(parts)
    duration_ms = speech[-1].end_ms
    windows = diarization.windows(speech, duration_ms)
    for window in windows:
        assert 0 <= window.begin_ms < window.end_ms <= duration_ms
        assert min(500, duration_ms) <= window.duration_ms <= 1500
    for span in speech:
        inside = [one for one in windows if one.begin_ms < span.end_ms and one.end_ms > span.begin_ms]
        assert inside[0].begin_ms <= span.begin_ms
        assert inside[-1].end_ms >= span.end_ms
        assert all(after.begin_ms <= before.end_ms for before, after in itertools.pairwise(inside))


@settings(deadline=None)
@given(SPEECH, st.integers(0, 9), st.lists(st.integers(0, 1), min_size=1), st.floats(0, 2))
def test_turns_are_in_order_and_cover_exactly_the_speech(
    parts: list[tuple[int, int]], seed: int, voices: list[int], scatter: float
) -> None:
    speech = _speech(parts)
    count = len(diarization.windows(speech, speech[-1].end_ms + 1000))
    prints = _heard([voices[n % len(voices)] for n in range(count)], seed=seed, scatter=scatter)
    turns = _turns(speech, prints)
    assert all(turn.begin_ms < turn.end_ms for turn in turns)
    assert all(before.end_ms <= after.begin_ms for before, after in itertools.pairwise(turns))
    covered = {ms for turn in turns for ms in range(turn.begin_ms, turn.end_ms)}
    assert covered == {ms for span in speech for ms in range(span.begin_ms, span.end_ms)}
    for before, after in itertools.pairwise(turns):
        assert before.speaker != after.speaker or before.end_ms < after.begin_ms
    assert turns[0].speaker == 0
    assert {turn.speaker for turn in turns} <= {0, 1}


@settings(deadline=None)
@given(st.lists(st.integers(0, 1), min_size=8, max_size=30), st.integers(0, 5))
def test_what_the_voices_are_called_makes_no_difference(order: list[int], seed: int) -> None:
    speech = _apart(*[2250] * len(order))
    voices = [voice for voice in order for _ in range(2)]
    named = _voices(0.1, seed)
    noise = _heard([0] * len(voices), seed=seed + 100) * np.float32(0.4)
    straight, swapped = (_unit(own[voices] + noise) for own in (named, named[::-1]))
    assert _turns(speech, straight) == _turns(speech, swapped)


def _speakers(turns: tuple[Turn, ...]) -> list[int]:
    return [turn.speaker for turn in turns]


@pytest.mark.parametrize("alike", [-0.1, 0.3, 0.5])
def test_two_voices_are_told_apart_in_the_order_in_which_they_speak(alike: float) -> None:
    order = [0, 1, 0, 1, 1, 0, 1, 0, 0, 1]
    turns = _turns(_apart(*[3000] * 10), _heard([one for one in order for _ in range(3)], alike))
    assert _speakers(turns) == order
    turns = _turns(_apart(*[3000] * 10), _heard([1 - one for one in order for _ in range(3)], alike))
    assert _speakers(turns) == order


@pytest.mark.parametrize("seed", range(8))
def test_one_voice_stays_one(seed: int) -> None:
    turns = _turns(_apart(*[3000] * 20), _heard([0] * 60, seed=seed))
    assert _speakers(turns) == [0] * 20


def test_a_voice_that_says_little_is_still_another() -> None:
    order = [0] * 18 + [1, 0]
    turns = _turns(_apart(*[3000] * 20), _heard([one for one in order for _ in range(3)]))
    assert _speakers(turns) == order


def test_a_cough_is_no_second_speaker() -> None:
    speech = _apart(*[3000] * 10, 600, *[3000] * 5)
    prints = _heard([0] * 30 + [1] + [0] * 15)
    assert set(_speakers(_turns(speech, prints))) == {0}


def test_a_change_of_voice_amid_speech_is_found_where_it_is() -> None:
    speech = _apart(6000, 6000, 6000)
    windows = diarization.windows(speech, 30_000)
    second = [window.begin_ms + 750 >= speech[1].begin_ms + 3000 for window in windows]
    first, after = _turns(speech, _heard([int(one) for one in second]))[1:3]
    assert (first.speaker, after.speaker) == (0, 1)
    assert first.end_ms == after.begin_ms
    assert abs(first.end_ms - speech[1].begin_ms - 3000) <= 500


def test_a_single_window_that_sounds_like_the_other_voice_is_no_turn() -> None:
    """The windows around it see most of the same speech, and say otherwise."""
    speech = _apart(9000, 3000, 3000)
    voices = [0] * 11 + [1] * 6
    voices[5] = 1
    prints = _heard(voices)
    prints[5] = _unit(prints[5] + 2 * prints[4])
    assert _speakers(_turns(speech, prints)) == [0, 1, 1]


def test_speech_too_short_to_know_a_voice_by_is_one_speakers() -> None:
    speech = _apart(300, 500, 200)
    assert _turns(speech, _heard([0, 1, 0])) == diarization.one_voice(speech)
    assert diarization.windows([], 1000) == ()
    assert diarization.two_voices((), np.empty((0, DIMENSIONS), np.float32)) is None


def test_an_hour_of_windows_is_clustered_by_a_sample_of_them() -> None:
    order = [n % 2 for n in range(2400)]
    turns = _turns(_apart(*[1500] * 2400), _heard(order))
    assert _speakers(turns) == order


def test_changes_in_silence_are_put_in_its_middle_and_others_left_out() -> None:
    turns = [Turn(0, 1000, 0), Turn(1400, 2000, 1), Turn(2000, 2500, 0), Turn(3000, 3500, 0)]
    assert diarization.changes_in_silence_ms(turns) == (1200,)


class _ByLevel:
    """Follows WindowEmbedder: loud samples are one voice, soft ones another, and a window of both lies between."""

    dimensions = DIMENSIONS

    def __init__(self) -> None:
        self.lengths_ms: list[int] = []
        self._voices = _voices(0.1)
        self._noise = np.random.default_rng(1)

    async def embed_window(self, pcm: bytes, rate_hz: int) -> Embedding:
        samples = np.abs(np.frombuffer(pcm, "<i2").astype(np.float32))
        self.lengths_ms.append(len(samples) * 1000 // rate_hz)
        loud = np.float32((samples > 5000).mean())
        noise = _unit(self._noise.normal(size=DIMENSIONS).astype(np.float32))
        return _unit(loud * self._voices[0] + (1 - loud) * self._voices[1] + np.float32(0.8) * noise)


async def test_where_both_voices_may_be_in_a_window_shorter_ones_are_looked_at() -> None:
    rate_hz, change_ms = 8000, 4200
    loud, soft = (np.full(rate_hz * 15, level, np.int16) for level in (8000, 2000))
    samples = np.concatenate([loud[: change_ms * 8], soft[: 8000 * 6], loud[: 8000 * 6]])
    speech = [Span(0, len(samples) // 8)]
    embedder = _ByLevel()
    first, second, third = await Diarizer(embedder).turns(samples, rate_hz, speech)
    assert [first.speaker, second.speaker, third.speaker] == [0, 1, 0]
    assert abs(second.begin_ms - change_ms) <= 200
    assert abs(third.begin_ms - change_ms - 6000) <= 200
    assert set(embedder.lengths_ms) == {1000, 1500}


async def test_a_recording_shorter_than_a_window_is_one_speakers() -> None:
    embedder = _ByLevel()
    speech = [Span(0, 80)]
    turns = await Diarizer(embedder).turns(np.full(2400, 9000, np.int16), 8000, speech)
    assert turns == diarization.one_voice(speech)
    assert await Diarizer(embedder).turns(np.zeros(80_000, np.int16), 8000, []) == ()
    assert embedder.lengths_ms == []


STEPS = st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 1)), min_size=1, max_size=8)


@given(STEPS)
def test_no_other_sequence_of_speakers_is_likelier_than_the_one_taken(steps: list[tuple[float, float]]) -> None:
    def worth(second: tuple[bool, ...]) -> float:
        gained = sum(-gain if state else gain for (gain, _), state in zip(steps, second, strict=True))
        changes = zip(steps[1:], itertools.pairwise(second), strict=True)
        return gained - sum(cost for (_, cost), (before, after) in changes if before != after)

    gains, costs = (np.array(column) for column in zip(*steps, strict=True))
    taken = tuple(bool(state) for state in diarization._likeliest(gains, costs))
    best = max(worth(states) for states in itertools.product((False, True), repeat=len(steps)))
    assert worth(taken) == pytest.approx(best)
