"""How far a text told apart by speaker is from the reference, and how much of that is where two speak at once."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import jiwer

from gateway.evaluation.material import Turn
from gateway.evaluation.wording import Edits, Language, normalised


@dataclass(frozen=True, slots=True)
class AttributedEdits:
    """Edits by whether others speak while a word of the reference is said.

    Only a turn's bounds are known: its words count as spread over it evenly. What was inserted belongs to the word
    before it.
    """

    alone: Edits = field(default_factory=Edits)
    overlapped: Edits = field(default_factory=Edits)

    @property
    def total(self) -> Edits:
        return self.alone + self.overlapped

    def __add__(self, other: AttributedEdits) -> AttributedEdits:
        return AttributedEdits(self.alone + other.alone, self.overlapped + other.overlapped)


def attributed_edits(turns: Sequence[Turn], texts: Mapping[int, str], language: Language) -> AttributedEdits:
    """Compare each speaker's words with the text of one of the numbers, in the pairing with fewest errors (cpWER).

    `turns` in order of time; `texts`: what each number said. Words without a partner are deleted or inserted.
    """
    names = list(dict.fromkeys(turn.speaker for turn in turns))
    heard = [*texts.values(), *[""] * max(0, len(names) - len(texts))]
    pairings = (_paired(turns, names, order, language) for order in itertools.permutations(heard))
    return min(pairings, key=lambda one: one.total.rate)


def _paired(turns: Sequence[Turn], names: Sequence[str], heard: Sequence[str], language: Language) -> AttributedEdits:
    total = AttributedEdits()
    for name, text in itertools.zip_longest(names, heard, fillvalue=""):
        said = [turn for turn in turns if name and turn.speaker == name]
        total += _compared(said, [turn for turn in turns if turn.speaker != name], text, language)
    return total


def _compared(said: Sequence[Turn], others: Sequence[Turn], text: str, language: Language) -> AttributedEdits:
    """One speaker's turns against one text."""
    expected: list[str] = []
    overlapped: list[bool] = []
    for turn in said:
        words = _units(turn.text, language)
        expected.extend(words)
        step_s = (turn.end_s - turn.start_s) / max(1, len(words))
        at_s = (turn.start_s + (at + 0.5) * step_s for at in range(len(words)))
        overlapped.extend(any(other.start_s <= moment < other.end_s for other in others) for moment in at_s)
    heard = _units(text, language)
    if not expected:
        return AttributedEdits(alone=Edits(insertions=len(heard)))
    counts = [[0, 0, 0, 0], [0, 0, 0, 0]]
    for among in overlapped:
        counts[among][3] += 1
    for chunk in jiwer.process_words(" ".join(expected), " ".join(heard)).alignments[0]:
        if chunk.type == "insert":
            counts[overlapped[max(0, chunk.ref_start_idx - 1)]][2] += chunk.hyp_end_idx - chunk.hyp_start_idx
        elif chunk.type != "equal":
            for at in range(chunk.ref_start_idx, chunk.ref_end_idx):
                counts[overlapped[at]][chunk.type == "delete"] += 1
    return AttributedEdits(*(Edits(*count) for count in counts))


def _units(text: str, language: Language) -> list[str]:
    """Words, or characters of Chinese."""
    folded = normalised(text, language)
    return folded.split() if language == "en" else list(folded)
