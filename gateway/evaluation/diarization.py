"""How much of the speech went to the wrong voice: the diarization error rate of a call's segments and labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from gateway.evaluation.figures import NAMELESS, last_labels
from gateway.evaluation.material import Turn
from gateway.evaluation.player import Arrived
from protocol.messages import Segment

FRAME_MS = 10
COLLAR_MS = 250
"""Either side of a reference turn's bounds nothing is counted: they are not known any better (NIST's md-eval)."""


@dataclass(frozen=True, slots=True)
class SpeechErrors:
    """Milliseconds of speaking: `spoken` by the reference; `missed`, `false`, and `confused` with another voice."""

    spoken_ms: int = 0
    missed_ms: int = 0
    false_ms: int = 0
    confused_ms: int = 0

    def __add__(self, other: SpeechErrors) -> SpeechErrors:
        return SpeechErrors(
            self.spoken_ms + other.spoken_ms,
            self.missed_ms + other.missed_ms,
            self.false_ms + other.false_ms,
            self.confused_ms + other.confused_ms,
        )

    @property
    def rate(self) -> float:
        """The diarization error rate (DER)."""
        return (self.missed_ms + self.false_ms + self.confused_ms) / max(1, self.spoken_ms)


def speech_errors(
    arrived: Sequence[Arrived], turns: Sequence[Turn], roles: Sequence[str], enrolled: Iterable[str], duration_ms: int
) -> SpeechErrors:
    """Compare a call's closed segments and their last labels with the reference, channel by channel.

    A voice that nobody enrolled is right when its segment is `unknown`; a segment that names nobody is confused. Where
    two people of one channel speak at once, both count as spoken (NIST: sum over voices).
    """
    labels = last_labels(arrived)
    total = SpeechErrors()
    for channel, role in enumerate(roles):
        heard = [
            (one.message.begin_ms, one.message.end_ms, labels.get(one.message.segment_id, ""))
            for one in arrived
            if isinstance(one.message, Segment) and one.message.state == "closed" and one.message.channel == channel
        ]
        said = [turn for turn in turns if role in ("mixed", turn.channel)]
        total += _compared(said, heard, frozenset(enrolled), duration_ms)
    return total


def voice_errors(
    turns: Sequence[Turn], heard: Iterable[tuple[int, int, int]], duration_ms: int, *, overlaps: bool
) -> SpeechErrors:
    """Compare who speaks when (begin and end in ms, any number for a voice) with the reference of the same channel.

    A number is the speaker that makes the most of it right. Without `overlaps`, nothing is counted where several of the
    reference speak; with it, all of them count as spoken, and each that is not heard as missed.
    """
    heard = list(heard)
    frames = duration_ms // FRAME_MS + 1
    names = sorted({turn.speaker for turn in turns})
    numbers = sorted({number for _, _, number in heard})
    spoken, found = np.zeros((len(names), frames), bool), np.zeros((len(numbers), frames), bool)
    for turn in turns:
        _mark(spoken[names.index(turn.speaker)], turn.start_s * 1000, turn.end_s * 1000)
    for begin_ms, end_ms, number in heard:
        _mark(found[numbers.index(number)], begin_ms, end_ms)
    counted = _outside_collars(turns, frames) & (overlaps | (spoken.sum(0) < 2))
    spoken, found = spoken[:, counted], found[:, counted]
    together = spoken.astype(np.int64) @ found.T.astype(np.int64)
    right = int(together[linear_sum_assignment(together, maximize=True)].sum())
    there, at_once = spoken.sum(0), found.sum(0)
    return SpeechErrors(
        spoken_ms=int(there.sum()) * FRAME_MS,
        missed_ms=int(np.maximum(there - at_once, 0).sum()) * FRAME_MS,
        false_ms=int(np.maximum(at_once - there, 0).sum()) * FRAME_MS,
        confused_ms=(int(np.minimum(there, at_once).sum()) - right) * FRAME_MS,
    )


def _outside_collars(turns: Sequence[Turn], frames: int) -> NDArray[np.bool_]:
    counted = np.ones(frames, bool)
    for turn in turns:
        for bound_ms in (turn.start_s * 1000, turn.end_s * 1000):
            counted[_frame(bound_ms - COLLAR_MS) : _frame(bound_ms + COLLAR_MS)] = False
    return counted


def _compared(
    turns: Sequence[Turn], segments: Sequence[tuple[int, int, str]], enrolled: frozenset[str], duration_ms: int
) -> SpeechErrors:
    frames = duration_ms // FRAME_MS + 1
    names = sorted({_name(turn.speaker, enrolled) for turn in turns} | {name for _, _, name in segments})
    spoken, heard = np.zeros((len(names), frames), bool), np.zeros((len(names), frames), bool)
    for turn in turns:
        _mark(spoken[names.index(_name(turn.speaker, enrolled))], turn.start_s * 1000, turn.end_s * 1000)
    counted = _outside_collars(turns, frames)
    for begin, end, name in segments:
        _mark(heard[names.index(name)], begin, end)
    there, found = spoken[:, counted].sum(0), heard[:, counted].sum(0)
    right = (spoken & heard)[:, counted].sum(0)
    return SpeechErrors(
        spoken_ms=int(there.sum()) * FRAME_MS,
        missed_ms=int(np.maximum(there - found, 0).sum()) * FRAME_MS,
        false_ms=int(np.maximum(found - there, 0).sum()) * FRAME_MS,
        confused_ms=int((np.minimum(there, found) - right).sum()) * FRAME_MS,
    )


def _name(speaker: str, enrolled: frozenset[str]) -> str:
    return speaker if speaker in enrolled else NAMELESS


def _frame(at_ms: float) -> int:
    return max(0, round(at_ms / FRAME_MS))


def _mark(row: NDArray[np.bool_], begin_ms: float, end_ms: float) -> None:
    row[_frame(begin_ms) : _frame(end_ms)] = True
