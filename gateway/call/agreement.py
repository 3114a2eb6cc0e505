"""What of a growing text two hypotheses agree on, and the text that is shown of it (local agreement, LA-2).

Liu, Spanakis and Niehues 2020, "Low-Latency Sequence-to-Sequence Speech Recognition and Translation by Partial
Hypothesis Selection": what two hypotheses in a row have in common from the start is taken as said.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from gateway.call.events import HeardWord
from gateway.call.text import Text


@dataclass(frozen=True, slots=True)
class Shown:
    """A text for people to read; its first `stable_chars` characters stay as they are while the segment is open."""

    text: Text
    stable_chars: int
    faithful: bool = True
    """Whether it is, but for punctuation and case, what was heard; else the hypothesis took back what is stable."""


@dataclass(slots=True)
class Agreement:
    """One segment's hypotheses, one after the other. The first words two of them share are settled for good."""

    _previous: tuple[HeardWord, ...] = ()
    _settled: tuple[HeardWord, ...] = field(default=())

    @property
    def ends_ms(self) -> tuple[int, ...]:
        """Where each settled word ended, on the media clock."""
        return tuple(word.end_ms for word in self._settled)

    def take(self, hypothesis: Text) -> Shown:
        """Take the next hypothesis of the whole segment so far; a settled word is never taken back."""
        words, settled = hypothesis.words, self._settled
        shared = _shared(self._previous, words)
        self._previous = words
        faithful = _shared(settled, words) == len(settled)
        if faithful:
            self._settled = settled + words[len(settled) : shared]
            shown = self._settled + words[len(self._settled) :]
        else:  # it has changed its mind about what people have read: only what lies after that is news
            until_ms = settled[-1].end_ms
            shown = settled + tuple(word for word in words if (word.begin_ms + word.end_ms) // 2 > until_ms)
        if not words and not settled:
            return Shown(hypothesis, 0)
        return _shown(shown, len(self._settled), hypothesis, faithful=faithful)


def _shown(words: Sequence[HeardWord], settled: int, hypothesis: Text, *, faithful: bool) -> Shown:
    text = _joined(words).strip()
    begin_ms = min(hypothesis.begin_ms, words[0].begin_ms)
    end_ms = max(hypothesis.end_ms, words[-1].end_ms)
    stable_chars = min(len(_joined(words[:settled]).strip()), len(text))
    return Shown(Text(text, hypothesis.language, tuple(words), begin_ms, end_ms), stable_chars, faithful)


def _joined(words: Iterable[HeardWord]) -> str:
    return "".join(word.text for word in words)


def _shared(one: Iterable[HeardWord], other: Iterable[HeardWord]) -> int:
    """How many words both begin with; punctuation and case do not count."""
    pairs = itertools.takewhile(
        lambda pair: _plain(pair[0].text) == _plain(pair[1].text), zip(one, other, strict=False)
    )
    return sum(1 for _ in pairs)


def _plain(word: str) -> str:
    return "".join(character for character in word.casefold() if character.isalnum())
