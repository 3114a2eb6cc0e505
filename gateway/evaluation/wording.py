"""How far a text is from the reference: words of English, characters of Chinese."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

import jiwer

from protocol.rules.text import fold

Language = Literal["zh", "en"]

_ABBREVIATIONS = {"mr": "mister", "mrs": "missus", "dr": "doctor", "st": "saint", "ok": "okay"}
_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("zero", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_DIGITS = "零一二三四五六七八九"


@dataclass(frozen=True, slots=True)
class Edits:
    """Substitutions, deletions and insertions that make the reference of `length` units into the hypothesis."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    length: int = 0

    @property
    def rate(self) -> float:
        """WER or CER."""
        return (self.substitutions + self.deletions + self.insertions) / max(1, self.length)

    def __add__(self, other: Edits) -> Edits:
        return Edits(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.length + other.length,
        )


def edits(reference: str, hypothesis: str, language: Language) -> Edits:
    """Compare after `normalised`, word by word or character by character."""
    expected, heard = normalised(reference, language), normalised(hypothesis, language)
    if not expected:
        return Edits(insertions=len(heard.split() if language == "en" else heard))
    if language == "en":
        words = jiwer.process_words(expected, heard)
        return Edits(words.substitutions, words.deletions, words.insertions, len(expected.split()))
    characters = jiwer.process_characters(expected, heard)
    return Edits(characters.substitutions, characters.deletions, characters.insertions, len(expected))


def normalised(text: str, language: Language) -> str:
    """Lower case (Chinese: simplified, without spaces), no punctuation but apostrophes in words, numbers spoken."""
    folded = fold(text).text
    if language == "zh":
        spoken = re.sub(r"[0-9]+", lambda found: chinese_number(found[0]), folded)
        return "".join(char for char in spoken if unicodedata.category(char)[0] in "LN")
    spoken = re.sub(r"(?<=\d),(?=\d{3})", "", folded)
    spoken = re.sub(r"[0-9]+", lambda found: f" {english_number(found[0])} ", spoken)
    words = re.findall(r"[^\W_]+(?:'[^\W_]+)*", spoken)
    return " ".join(_ABBREVIATIONS.get(word, word) for word in words)


def english_number(digits: str) -> str:
    """A cardinal number in words; digit by digit from a million on, or behind a zero."""
    if len(digits) > 6 or (len(digits) > 1 and digits.startswith("0")):
        return " ".join(_ONES[int(digit)] for digit in digits)
    return _english_cardinal(int(digits))


def _english_cardinal(number: int) -> str:
    if number >= 1000:
        return _with_rest(f"{_english_cardinal(number // 1000)} thousand", number % 1000)
    if number >= 100:
        return _with_rest(f"{_ONES[number // 100]} hundred", number % 100)
    if number >= 20:
        return _with_rest(_TENS[number // 10], number % 10)
    return _ONES[number]


def _with_rest(head: str, rest: int) -> str:
    return f"{head} {_english_cardinal(rest)}" if rest else head


def chinese_number(digits: str) -> str:
    """A number as it is read (十二, 三百零五); digit by digit from ten thousand on, or behind a zero."""
    if len(digits) > 4 or digits.startswith("0"):
        return "".join(_DIGITS[int(digit)] for digit in digits)
    read, zero, number = "", False, int(digits)
    for unit, name in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit = number // unit % 10
        if digit:
            read += ("零" if zero else "") + _DIGITS[digit] + name
        zero = bool(read) and not digit
    return read.removeprefix("一") if read.startswith("一十") else read
