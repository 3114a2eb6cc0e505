"""Whose speech is whose in one channel: from voice prints of short windows to turns of one speaker or two.

Windows are clustered from the bottom up (Ward); every two clusters are then the seeds of two voices, refined by
assigning each window to the nearer mean print. The pair that lies furthest apart counts, if far enough: else there is
one voice. Who speaks when is then the likeliest path through steps of 100 ms, as in resegmentation with a hidden Markov
model (Landini et al., VBx, 2022): a change costs more amid speech than across a silence.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.quality.speech import Span, joined

Prints = NDArray[np.float32]
"""Voice prints, shape (n, d), each of unit length."""
Leanings = NDArray[np.float64]

WINDOW_MS, HOP_MS = 1500, 750
SHORTEST_WINDOW_MS = 500
"""Around a shorter sound the window takes in some of the silence."""
TELLING_WINDOW_MS = 900
"""Shorter windows are assigned to a voice, and do not make one."""
MOST_CLUSTERED = 1500
"""Windows that clustering looks at, evenly spread: its cost is their square. All are assigned afterwards."""
SEEDS = 4
"""Clusters that may seed a voice: a rare voice need not be among two, and a cough may be one of them."""
SAME_VOICE_COSINE, SAME_RARE_VOICE_COSINE = 0.72, 0.45
"""Two mean prints this close are of one voice; where one of the two has hardly any speech, which scatters more, less
is enough. Between the two thresholds it is a matter of that one's share, up to ..."""
FULL_SHARE = 0.2
LEAST_VOICE_WINDOWS = 3
"""What makes a second voice; less is taken for a cough or a laugh."""
ROUNDS = 10
UNSURE = 0.6
"""A window that leans less than this share of the mean to either voice may hold both; so may neighbours that differ."""
CLOSE_WINDOW_MS, CLOSE_HOP_MS = 1000, 500
"""Shorter windows find changes better and know voices worse: for a second look, once the voices are known."""
STEP_MS = 100
CHANGE_COST = 0.25
"""What a change must gain amid speech, in seconds times the distance of the two voices ..."""
CHANGE_COST_AT_SILENCE = 0.05
"""... and between two stretches of speech."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A stretch of speech of one speaker; speakers count from 0 in order of first speaking."""

    begin_ms: int
    end_ms: int
    speaker: int


def windows(speech: Sequence[Span], duration_ms: int) -> tuple[Span, ...]:
    """The windows to make prints of: inside each stretch of speech, evenly, so that they cover it.

    A window around a very short sound takes in some of what is around it, inside the recording.
    """
    covered = (_covering(span, WINDOW_MS, HOP_MS) for span in speech)
    return tuple(_widened(window, duration_ms) for found in covered for window in found)


def leanings(voices: Prints, prints: Prints) -> Leanings:
    """How much nearer each print is to the first voice than to the second, as a difference of cosines."""
    return np.asarray(prints @ (voices[0] - voices[1]), np.float64)


def second_look(seen: Sequence[Span], leaning: Leanings) -> tuple[tuple[Span, ...], NDArray[np.bool_]]:
    """Where both voices may be in one window: shorter windows to look at there, and which of `seen` stay worth it."""
    unsure = np.abs(leaning) < UNSURE * np.abs(leaning).mean()
    for at in range(1, len(seen)):
        if seen[at].begin_ms < seen[at - 1].end_ms and (leaning[at] > 0) != (leaning[at - 1] > 0):
            unsure[at - 1 : at + 1] = True
    unsure &= np.array([window.duration_ms > CLOSE_WINDOW_MS for window in seen], bool)
    doubtful = joined((window for window, doubted in zip(seen, unsure, strict=True) if doubted), -1)
    closer = tuple(window for span in doubtful for window in _covering(span, CLOSE_WINDOW_MS, CLOSE_HOP_MS))
    return closer, ~unsure


def turns(speech: Sequence[Span], seen: Sequence[Span], leaning: Leanings) -> tuple[Turn, ...]:
    """The likeliest turns of two voices in `speech` (in order of time, apart), by the leaning of the windows `seen`.

    They are in order and cover exactly `speech`; between two stretches of it a turn ends. Blocking: some 50 ms for an
    hour.
    """
    begins_ms = np.concatenate([np.arange(span.begin_ms, span.end_ms, STEP_MS) for span in speech])
    opening = np.isin(begins_ms, [span.begin_ms for span in speech])
    bounds_ms = np.repeat([span.end_ms for span in speech], [-(-span.duration_ms // STEP_MS) for span in speech])
    ends_ms = np.minimum(begins_ms + STEP_MS, bounds_ms)
    gains = _leanings_at((begins_ms + ends_ms) / 2, seen, leaning) * (ends_ms - begins_ms) / 1000
    costs = np.where(opening, CHANGE_COST_AT_SILENCE, CHANGE_COST) * float(np.abs(leaning).mean())
    second = _likeliest(gains, costs)
    firsts = np.flatnonzero(opening | np.diff(second, prepend=second[:1]))
    lasts = np.append(firsts[1:], len(second)) - 1
    return tuple(
        Turn(int(begins_ms[first]), int(ends_ms[last]), int(second[first] != second[0]))
        for first, last in zip(firsts, lasts, strict=True)
    )


def changes_in_silence_ms(turns: Sequence[Turn]) -> tuple[int, ...]:
    """The middle of each silence in which the speaker changes."""
    return tuple(
        (before.end_ms + after.begin_ms) // 2
        for before, after in itertools.pairwise(turns)
        if before.speaker != after.speaker and before.end_ms < after.begin_ms
    )


def one_voice(speech: Sequence[Span]) -> tuple[Turn, ...]:
    """The turns where there is one speaker only."""
    return tuple(Turn(span.begin_ms, span.end_ms, 0) for span in speech)


def _covering(span: Span, window_ms: int, hop_ms: int) -> Iterator[Span]:
    """Windows inside `span` that begin at most `hop_ms` apart; a shorter span is one window."""
    rest_ms = max(0, span.duration_ms - window_ms)
    hops = -(-rest_ms // hop_ms)
    for hop in range(hops + 1):
        begin_ms = span.begin_ms + (rest_ms * hop // hops if hops else 0)
        yield Span(begin_ms, min(begin_ms + window_ms, span.end_ms))


def _widened(window: Span, duration_ms: int) -> Span:
    lacking_ms = max(0, SHORTEST_WINDOW_MS - window.duration_ms)
    begin_ms = max(0, min(window.begin_ms - lacking_ms // 2, duration_ms - SHORTEST_WINDOW_MS))
    return Span(begin_ms, min(duration_ms, begin_ms + SHORTEST_WINDOW_MS)) if lacking_ms else window


def two_voices(seen: Sequence[Span], prints: Prints) -> Prints | None:
    """The mean prints, of unit length, of the two voices in `prints`; None when there is but one."""
    telling = prints[[window.duration_ms >= TELLING_WINDOW_MS for window in seen]]
    if len(telling) < 2 * LEAST_VOICE_WINDOWS:
        return None
    looked_at = telling[np.linspace(0, len(telling) - 1, min(len(telling), MOST_CLUSTERED)).round().astype(int)]
    means = [_mean(cluster) for cluster in _clusters(looked_at)]
    best, furthest = None, 0.0
    for pair in itertools.combinations(means, 2):
        voices, share = _refined(np.stack(pair), telling)
        apart = _most_alike(share) - float(voices[0] @ voices[1])
        if share * len(telling) >= LEAST_VOICE_WINDOWS and apart > furthest:
            best, furthest = voices, apart
    return best


def _clusters(prints: Prints) -> list[Prints]:
    """At most SEEDS of them."""
    # Not every server tells speakers apart, and this module takes 40 MB.
    from scipy.cluster.hierarchy import fcluster, linkage

    labels = fcluster(linkage(prints, "ward"), SEEDS, "maxclust")
    return [prints[labels == label] for label in np.unique(labels)]


def _refined(voices: Prints, prints: Prints) -> tuple[Prints, float]:
    """Two voices moved to the mean of the prints that are nearest to each, and the rarer one's share of the prints."""
    share = 0.0
    for _ in range(ROUNDS):
        first = prints @ (voices[0] - voices[1]) > 0
        share = float(min(first.mean(), 1 - first.mean()))
        if share == 0.0:
            break
        moved = np.stack([_mean(prints[first]), _mean(prints[~first])])
        settled = np.allclose(moved, voices, atol=1e-4)
        voices = moved
        if settled:
            break
    return voices, share


def _most_alike(share: float) -> float:
    """The cosine up to which two voices are two, where the rarer one has this share of the speech."""
    return SAME_RARE_VOICE_COSINE + (SAME_VOICE_COSINE - SAME_RARE_VOICE_COSINE) * min(1.0, share / FULL_SHARE)


def _mean(prints: Prints) -> Prints:
    mean = prints.mean(axis=0)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-12), np.float32)


def _leanings_at(centres_ms: Leanings, seen: Sequence[Span], leaning: Leanings) -> Leanings:
    """What the windows over each moment say of it, those that it is in the middle of the most."""
    sums, weights = np.zeros(len(centres_ms)), np.full(len(centres_ms), 1e-9)
    for window, one in zip(seen, leaning, strict=True):
        covered = slice(*np.searchsorted(centres_ms, (window.begin_ms, window.end_ms)))
        middle_ms = (window.begin_ms + window.end_ms) / 2
        weight = 1.01 - np.abs(centres_ms[covered] - middle_ms) / (window.duration_ms / 2)
        sums[covered] += weight * one
        weights[covered] += weight
    return np.asarray(sums / weights)


def _likeliest(gains: Leanings, costs: Leanings) -> NDArray[np.bool_]:
    """Viterbi over two states: a step in the first gains `gains`, in the second loses them; a change costs `costs`.

    True where the second state is.
    """
    best = (0.0, 0.0)
    came: list[tuple[bool, bool]] = []
    for gain, cost in zip(gains.tolist(), costs.tolist(), strict=True):
        first, second = best
        came.append((second - cost > first, second > first - cost))
        best = (max(first, second - cost) + gain, max(second, first - cost) - gain)
    state = best[1] > best[0]
    states = np.empty(len(came), bool)
    for at in range(len(came) - 1, -1, -1):
        states[at] = state
        state = came[at][state]
    return states
