"""From recognised words to sentences with their place in the recording."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import opencc

from gateway.ports import Word
from gateway.quality.attribution import ends_sentence, said_by
from gateway.quality.diarization import Turn
from gateway.quality.speech import Span

PAUSE_MS = 600
"""A longer silence between two words ends a sentence."""

_to_simplified = opencc.OpenCC("t2s")


@dataclass(frozen=True, slots=True)
class Utterance:
    """A sentence as one party said it; times in ms from the start of the recording."""

    text: str
    channel: int
    begin_ms: int
    end_ms: int
    speaker: int | None = None
    """Who of the channel's speakers, where they were told apart."""

    @property
    def speaker_id(self) -> int:
        """As the API's: the channel (0 left, 1 right), or the speaker told apart in order of first speaking."""
        return self.channel if self.speaker is None else self.speaker


def utterances(
    words: Sequence[Word], piece: Span, channel: int, turns: Sequence[Turn] | None = None
) -> tuple[Utterance, ...]:
    """The sentences in the words of one piece: they end at punctuation, at pauses of more than 0.6 s, and where
    another speaker begins by `turns`, if there are any.

    A sentence without a letter or digit is dropped. Times never leave the piece, whatever the words claim.
    """
    if turns is None:
        found = [_utterance(sentence, piece, channel, None) for sentence in _split(words)]
    else:
        found = [
            _utterance(sentence, piece, channel, speaker)
            for speaker, said in said_by(words, piece, turns)
            for sentence in _split(said)
        ]
    return tuple(one for one in found if any(character.isalnum() for character in one.text))


def in_simplified(utterance: Utterance) -> Utterance:
    """The same in simplified Chinese characters; text in other scripts stays."""
    return replace(utterance, text=_to_simplified.convert(utterance.text))


def in_order(found: Iterable[Utterance]) -> tuple[Utterance, ...]:
    """Sentences of all channels by the time they begin."""
    return tuple(sorted(found, key=lambda one: (one.begin_ms, one.channel, one.end_ms)))


def _split(words: Iterable[Word]) -> Iterator[list[Word]]:
    sentence: list[Word] = []
    for word in words:
        # A mark that the recogniser timed apart still belongs to the words before it.
        spoken = any(character.isalnum() for character in word.text)
        if sentence and spoken and (ends_sentence(sentence[-1]) or word.begin_ms - sentence[-1].end_ms > PAUSE_MS):
            yield sentence
            sentence = []
        sentence.append(word)
    if sentence:
        yield sentence


def _utterance(words: Sequence[Word], piece: Span, channel: int, speaker: int | None) -> Utterance:
    begin_ms = min(piece.begin_ms + max(0, words[0].begin_ms), piece.end_ms)
    end_ms = min(piece.begin_ms + max(word.end_ms for word in words), piece.end_ms)
    text = "".join(word.text for word in words).strip()
    return Utterance(text, channel, begin_ms, max(begin_ms, end_ms), speaker)
