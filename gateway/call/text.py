"""The words of one utterance on the media clock, and how a partial text grows."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile

from gateway.call.events import HeardWord

SETTLED_BEFORE_MS = 100
"""A keyword in a partial counts once its word ended this long before the audio did (see BENCHMARKS.md, live text)."""


@dataclass(frozen=True, slots=True)
class Text:
    """A sentence and its words; times are ms on the media clock. Joining the words and stripping gives the text."""

    text: str = ""
    language: str = ""
    words: tuple[HeardWord, ...] = ()
    begin_ms: int = 0
    end_ms: int = 0

    def locate(self, begin: int, end: int) -> tuple[int, int]:
        """When the characters [begin, end) of the text were said: from the words, else by proportion."""
        if not self.words:
            length = max(1, len(self.text))
            span_ms = self.end_ms - self.begin_ms
            return self.begin_ms + span_ms * begin // length, self.begin_ms + span_ms * end // length
        joined = "".join(word.text for word in self.words)
        at = -(len(joined) - len(joined.lstrip()))
        touched = []
        for word in self.words:
            if at < end and at + len(word.text) > begin:
                touched.append(word)
            at += len(word.text)
        touched = touched or [self.words[-1]]
        return touched[0].begin_ms, touched[-1].end_ms

    def settled(self, until_ms: int) -> str:
        """The text up to the first word that had not ended by `until_ms`: what a keyword in a partial may count in."""
        return "".join(word.text for word in takewhile(lambda word: word.end_ms <= until_ms, self.words)).strip()


def on_media_clock(words: tuple[HeardWord, ...], offset_ms: int) -> tuple[HeardWord, ...]:
    """The same words, `offset_ms` later."""
    return tuple(HeardWord(word.text, word.begin_ms + offset_ms, word.end_ms + offset_ms) for word in words)


def continued(previous: Text, language: str, words: tuple[HeardWord, ...], window_begin_ms: int) -> Text:
    """A partial text whose window began inside the utterance: what was heard before the window stays in front."""
    border_ms = words[0].begin_ms if words else window_begin_ms
    kept = tuple(word for word in previous.words if word.end_ms <= max(border_ms, window_begin_ms))
    if not kept or not words:
        joined = kept + words
    else:
        first = words[0]
        spaced = first.text if first.text.startswith(" ") or not first.text[:1].isascii() else " " + first.text
        joined = (*kept, HeardWord(spaced, first.begin_ms, first.end_ms), *words[1:])
    return Text(
        "".join(word.text for word in joined).strip(),
        language,
        joined,
        joined[0].begin_ms if joined else window_begin_ms,
        joined[-1].end_ms if joined else window_begin_ms,
    )
