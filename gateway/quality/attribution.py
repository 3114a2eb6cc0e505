"""Which speaker said which words: words have times, and so have turns, neither to the tenth of a second."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterator, Sequence

from gateway.ports import Word
from gateway.quality.diarization import Turn
from gateway.quality.speech import Span

SHIFT_MS = 500
"""A change of speaker is put between sentences, or else where words pause, if that is no further away."""
SHIFT_WORDS = 3
PAUSE_MS = 150

_ENDINGS = tuple("。！？!?；;…．")
_CLOSERS = "\"'”’）)」』】]》"
_ABBREVIATIONS = frozenset({"mr.", "mrs.", "ms.", "dr.", "st.", "no.", "vs.", "e.g.", "i.e."})


def said_by(words: Sequence[Word], piece: Span, turns: Sequence[Turn]) -> Iterator[tuple[int, Sequence[Word]]]:
    """The words of a piece in runs of one speaker each, by the turns of its channel (at least one, in order)."""
    begins_ms = [turn.begin_ms for turn in turns]
    speakers = [_speaker_at(piece.begin_ms + (word.begin_ms + word.end_ms) // 2, turns, begins_ms) for word in words]
    changes = [at for at in range(1, len(words)) if speakers[at] != speakers[at - 1]]
    begin = 0
    for change, following in itertools.pairwise((*changes, len(words))):
        # It may move over the words next to it, but not as far as the changes before and after.
        near = range(max(begin + 1, change - SHIFT_WORDS), min(following, change + SHIFT_WORDS + 1))
        at = _likeliest(words, change, near)
        yield speakers[begin], words[begin:at]
        speakers[at] = speakers[change]
        begin = at
    if words:
        yield speakers[begin], words[begin:]


def _speaker_at(at_ms: int, turns: Sequence[Turn], begins_ms: Sequence[int]) -> int:
    """Who speaks then, or whose turn is nearest."""
    after = min(bisect_right(begins_ms, at_ms), len(turns) - 1)
    before = max(0, bisect_right(begins_ms, at_ms) - 1)
    since_ms, until_ms = max(0, at_ms - turns[before].end_ms), max(0, turns[after].begin_ms - at_ms)
    return turns[before if since_ms <= until_ms or after == before else after].speaker


def _likeliest(words: Sequence[Word], change: int, near: Sequence[int]) -> int:
    """Where in `near` another speaker is likeliest to begin, who was heard to begin at word `change`."""
    reached = [at for at in near if abs(words[at].begin_ms - words[change].begin_ms) <= SHIFT_MS]
    return min(reached, key=lambda at: (_joint(words[at - 1], words[at]), abs(at - change)))


def _joint(word: Word, following: Word) -> int:
    """How well two words hold together: 0 across the end of a sentence, 1 across a pause, else 2."""
    if ends_sentence(word):
        return 0
    return 1 if following.begin_ms - word.end_ms >= PAUSE_MS else 2


def ends_sentence(word: Word) -> bool:
    """Whether `word` closes with a mark that ends sentences."""
    text = word.text.strip().rstrip(_CLOSERS)
    if text.endswith(_ENDINGS):
        return True
    initial = len(text) == 2 and text[0].isupper()
    return text.endswith(".") and text.lower() not in _ABBREVIATIONS and not initial
