"""From a recogniser's tokens to words with times."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import opencc

from gateway.ports import Word

LEAST_FIRST_WORD_MS = 400

_to_simplified = opencc.OpenCC("t2s")


@dataclass(frozen=True, slots=True)
class TokenSpan:
    """The text of tokens [begin, end)."""

    text: str
    begin: int
    end: int


def group_tokens(tokens: Sequence[int], decode: Callable[[list[int]], str]) -> list[TokenSpan]:
    """Words: what stands between spaces, and each Chinese character for itself; punctuation stays with its word.

    Joined, the words' texts are what the tokens decode to, but for characters that were cut off in their middle.
    """
    words: list[TokenSpan] = []
    for piece in _characters(tokens, decode):
        last = words[-1] if words else None
        if last is not None and _continues(last.text, piece.text):
            words[-1] = TokenSpan(last.text + piece.text, last.begin, piece.end)
        else:
            words.append(piece)
    return words


def simplified(words: Sequence[TokenSpan]) -> list[TokenSpan]:
    """The words in simplified Chinese: the model writes either script, as it pleases, sometimes both in a sentence."""
    whole = "".join(word.text for word in words)
    converted = _to_simplified.convert(whole)
    if len(converted) != len(whole):
        # Phrases decide between readings of a character (乾, 著); where one changes its length, convert words alone.
        return [TokenSpan(_to_simplified.convert(word.text), word.begin, word.end) for word in words]
    at, spans = 0, []
    for word in words:
        spans.append(TokenSpan(converted[at : at + len(word.text)], word.begin, word.end))
        at += len(word.text)
    return spans


def place_words(words: Sequence[TokenSpan], times_s: Sequence[float]) -> tuple[Word, ...]:
    """Give each word its begin and end; `times_s[i]` is when token i begins, and one more closes the last.

    The alignment's path starts at zero, so it lays any silence before the speech on the first word: that word is held
    to twice the median.
    """
    bounds = [(round(times_s[word.begin] * 1000), round(times_s[word.end] * 1000)) for word in words]
    if len(bounds) > 1:
        begin, end = bounds[0]
        longest = max(LEAST_FIRST_WORD_MS, round(2 * median(end - begin for begin, end in bounds[1:])))
        bounds[0] = (max(begin, end - longest), end)
    return tuple(Word(word.text, *bound) for word, bound in zip(words, bounds, strict=True))


def _characters(tokens: Sequence[int], decode: Callable[[list[int]], str]) -> list[TokenSpan]:
    """Runs of tokens that decode to whole characters: one Chinese character may take up to three tokens."""
    pieces: list[TokenSpan] = []
    begin = 0
    for end in range(1, len(tokens) + 1):
        text = decode(list(tokens[begin:end]))
        if "\N{REPLACEMENT CHARACTER}" not in text:
            pieces.append(TokenSpan(text, begin, end))
            begin = end
    return pieces


def _continues(word: str, piece: str) -> bool:
    if not word.strip() or all(unicodedata.category(character)[0] in "PM" for character in piece):
        return True
    return not piece.startswith(" ") and not _is_han(piece[0]) and not _is_han(word[-1])


def _is_han(character: str) -> bool:
    return unicodedata.name(character, "").startswith(("CJK UNIFIED", "CJK COMPAT"))
