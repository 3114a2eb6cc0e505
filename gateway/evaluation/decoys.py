"""Keywords that nobody said and that sound like ones that somebody did: what a recogniser may well confuse."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

from pypinyin import Style, lazy_pinyin
from rapidfuzz.distance import Levenshtein

from protocol.rules.text import fold, is_han

CONFUSED = (
    ("zh", "z"), ("ch", "c"), ("sh", "s"), ("n", "l"), ("f", "h"), ("ing", "in"), ("eng", "en"), ("ang", "an"),
    ("r", "l"),
)  # fmt: skip
"""Initials and finals of Mandarin that speakers of many regions do not keep apart."""
LEAST_LIKENESS = 0.6
"""Share of letters in common (normalised Levenshtein similarity) from which an English word counts as similar."""
LEAST_LATIN_CHARS = 5


def decoys(said: Sequence[str], sentences: Sequence[str], elsewhere: Sequence[str]) -> list[str]:
    """At most one decoy for each keyword in `said`; none is in `sentences`, and none reads exactly like what is.

    Mandarin: a character is put in the place of one whose reading differs in one initial or final. English: the most
    similar word of `elsewhere`. Deterministic.
    """
    text = "\n".join(fold(sentence).text for sentence in sentences)
    vocabulary = "\n".join(fold(sentence).text for sentence in elsewhere)
    chinese = any(map(is_han, text))
    found = (_misread(word, text) if chinese else _alike(word, text, vocabulary) for word in said)
    return list(dict.fromkeys(filter(None, found)))


def _misread(word: str, text: str) -> str:
    readings, characters = _readings(text), _common_characters()
    for place, char in enumerate(word):
        for reading in _confusable(_reading(char)):
            if reading in characters:
                decoy = word[:place] + characters[reading] + word[place + 1 :]
                if decoy not in text and _readings(decoy) not in readings:
                    return decoy
    return ""


@cache
def _common_characters() -> dict[str, str]:
    """One character for each reading, of the 3,755 in everyday use (GB 2312, level 1)."""
    codes = (bytes((row, cell)) for row in range(0xB0, 0xD8) for cell in range(0xA1, 0xFF))
    everyday = [code.decode("gb2312", "ignore") for code in codes]
    return {_reading(char): char for char in reversed(everyday) if char}


def _confusable(reading: str) -> Iterator[str]:
    """The readings that differ by one of the confused pairs."""
    for one, other in CONFUSED:
        for old, new in ((one, other), (other, one)):
            if old.endswith(("g", "n")) and len(old) > 1:
                if reading.endswith(old) and not (old == new[: len(old)] and reading.endswith(new)):
                    yield reading[: -len(old)] + new
            elif reading.startswith(old) and not reading.startswith(old + "h"):
                yield new + reading[len(old) :]


def _reading(char: str) -> str:
    return lazy_pinyin(char, style=Style.NORMAL)[0]


def _readings(text: str) -> str:
    """Toneless, one word a character, so that parts can be looked for."""
    return " ".join(["", *(_reading(char) for char in text if is_han(char)), ""])


def _alike(word: str, text: str, vocabulary: str) -> str:
    heard = set(_words(text))
    others = sorted(set(_words(vocabulary)) - heard)
    return max(
        (other for other in others if Levenshtein.normalized_similarity(word, other) >= LEAST_LIKENESS),
        key=lambda other: Levenshtein.normalized_similarity(word, other),
        default="",
    )


def _words(text: str) -> Iterable[str]:
    return (word for word in re.findall(r"[a-z']+", text) if len(word) >= LEAST_LATIN_CHARS)
