"""From recognised words to sentences with their place in the recording."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from gateway.ports import Word
from gateway.quality.speech import Span

PAUSE_MS = 600
"""A longer silence between two words ends a sentence."""

_ENDINGS = tuple("。！？!?；;…．")
_CLOSERS = "\"'”’）)」』】]》"
_ABBREVIATIONS = frozenset({"mr.", "mrs.", "ms.", "dr.", "st.", "no.", "vs.", "e.g.", "i.e."})


@dataclass(frozen=True, slots=True)
class Utterance:
    """A sentence as one party said it; times in ms from the start of the recording."""

    text: str
    channel: int
    begin_ms: int
    end_ms: int


def utterances(words: Iterable[Word], piece: Span, channel: int) -> tuple[Utterance, ...]:
    """The sentences in the words of one piece: they end at punctuation and at pauses of more than 0.6 s.

    A sentence without a letter or digit is dropped. Times never leave the piece, whatever the words claim.
    """
    found = (_utterance(sentence, piece, channel) for sentence in _split(words))
    return tuple(one for one in found if any(character.isalnum() for character in one.text))


def in_order(found: Iterable[Utterance]) -> tuple[Utterance, ...]:
    """Sentences of all channels by the time they begin."""
    return tuple(sorted(found, key=lambda one: (one.begin_ms, one.channel, one.end_ms)))


def _split(words: Iterable[Word]) -> Iterator[list[Word]]:
    sentence: list[Word] = []
    for word in words:
        # A mark that the recogniser timed apart still belongs to the words before it.
        spoken = any(character.isalnum() for character in word.text)
        if sentence and spoken and (_ends(sentence[-1]) or word.begin_ms - sentence[-1].end_ms > PAUSE_MS):
            yield sentence
            sentence = []
        sentence.append(word)
    if sentence:
        yield sentence


def _ends(word: Word) -> bool:
    text = word.text.strip().rstrip(_CLOSERS)
    if text.endswith(_ENDINGS):
        return True
    initial = len(text) == 2 and text[0].isupper()
    return text.endswith(".") and text.lower() not in _ABBREVIATIONS and not initial


def _utterance(words: Sequence[Word], piece: Span, channel: int) -> Utterance:
    begin_ms = min(piece.begin_ms + max(0, words[0].begin_ms), piece.end_ms)
    end_ms = min(piece.begin_ms + max(word.end_ms for word in words), piece.end_ms)
    return Utterance("".join(word.text for word in words).strip(), channel, begin_ms, max(begin_ms, end_ms))
