"""Folds text so that spellings of one word agree, and maps every folded character back to the original.

Keywords and sentences go through the same folding, and a character's folding never depends on its
neighbours (white space and the punctuation between Latin words apart). So a keyword's folding is found inside a
sentence's folding wherever the keyword is in the sentence.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import opencc

ZERO_WIDTH = "\u00ad\u200b\u200c\u200d\u2060\ufeff"
"""Characters that print nothing; pasted rules carry them, and they are folded away."""

_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u201b\u02bc\u2032\u00b4\u0060\uff07", "'"))
_INVISIBLE = str.maketrans(dict.fromkeys(ZERO_WIDTH))

_HAN = "\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_HAN_CHAR = re.compile(f"[{_HAN}]")
# Han, kana, bopomofo: scripts that put no spaces between words, so that a space beside them means nothing.
_CJK_CHAR = re.compile(f"[{_HAN}\u2e80-\u2fdf\u3005\u3006\u3040-\u312f\u31a0-\u31bf\u31f0-\u31ff]")
# Scripts where a keyword may begin or end inside a run of letters: the above, Korean (particles are glued on),
# Thai, Lao, Burmese, Khmer.
_UNSPACED_CHAR = re.compile(
    f"{_CJK_CHAR.pattern}|[\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\ua960-\ua97f\uac00-\ud7ff]"
)

_to_simplified = opencc.OpenCC("t2s")


def _simplified_characters() -> dict[str, str]:
    """The one-character table from traditional to simplified for U+3400 to U+9FFF."""
    # Alone on its line every character converts by itself: phrases would make the folding of a keyword
    # differ from the folding of the same characters inside a sentence.
    lines = "\n".join(map(chr, range(0x3400, 0xA000)))
    pairs = zip(lines.split("\n"), _to_simplified.convert(lines).split("\n"), strict=True)
    table = {before: after for before, after in pairs if before != after}
    # A few targets are themselves converted once more (薴 to 苧 to 苎).
    return {before: table.get(after, after) for before, after in table.items()}


_SIMPLIFIED = _simplified_characters()


class Folded(NamedTuple):
    """A folded text; character i of `text` came from `original[begins[i]:ends[i]]`."""

    text: str
    begins: Sequence[int]
    ends: Sequence[int]

    def span(self, begin: int, end: int) -> tuple[int, int]:
        """The span in the original that `text[begin:end]` (not empty) came from."""
        return self.begins[begin], self.ends[end - 1]


def _simplify(char: str) -> str:
    if ord(char) > 0xFFFF and _HAN_CHAR.match(char):
        return str(_to_simplified.convert(char))
    return _SIMPLIFIED.get(char, char)


@lru_cache(maxsize=1 << 16)
def _fold_cluster(cluster: str) -> str:
    """Fold one character with the marks that belong to it; the result may be longer, shorter or empty."""
    visible = cluster.translate(_INVISIBLE).translate(_APOSTROPHES)
    folded = unicodedata.normalize("NFKC", visible).casefold().translate(_APOSTROPHES)
    return "".join(map(_simplify, unicodedata.normalize("NFKC", folded)))


@lru_cache(maxsize=1 << 16)
def _continues_cluster(char: str) -> bool:
    """Whether `char` belongs to the character before it: a mark, a Korean medial or final, a zero width."""
    if char in ZERO_WIDTH:
        return True
    first = unicodedata.normalize("NFKD", char)[0]
    return unicodedata.category(first)[0] == "M" or "\u1160" <= first <= "\u11ff"


def _simple_characters() -> dict[int, str]:
    """Common characters that fold to exactly one character and begin a cluster, with their folding."""
    table = {code: _SIMPLIFIED.get(chr(code), chr(code)) for code in range(0x3400, 0xA000)}
    for codes in (range(0x21, 0x7F), range(0x2010, 0x2028), range(0x3001, 0x3020), range(0xFF01, 0xFF5F)):
        for char in map(chr, codes):
            if len(folded := _fold_cluster(char)) == 1:
                table[ord(char)] = folded
    return table


_SIMPLE = _simple_characters()
_SIMPLE_CHANGED = {code: folded for code, folded in _SIMPLE.items() if chr(code) != folded}
# Far quicker than str.translate to see that there is nothing to change, as in most of a simplified sentence.
_CHANGED = re.compile("[" + "".join(re.escape(chr(code)) for code in _SIMPLE_CHANGED) + "]")
_SIMPLE_CLASS = "\u3400-\u9fff" + "".join(re.escape(chr(code)) for code in _SIMPLE if not 0x3400 <= code < 0xA000)
# A run of simple characters gives its last one away when something follows that might continue it.
_TOKEN = re.compile(
    rf"(?P<simple>[{_SIMPLE_CLASS}]+(?=[{_SIMPLE_CLASS}\s]|\Z))|(?P<space>\s+)|(?P<other>.[^{_SIMPLE_CLASS}\s]*)",
    re.DOTALL,
)


def _clusters(run: str) -> list[str]:
    clusters: list[str] = []
    for char in run:
        if clusters and _continues_cluster(char):
            clusters[-1] += char
        else:
            clusters.append(char)
    return clusters


class _Folding:
    """A folding in the making."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.begins: list[int] = []
        self.ends: list[int] = []
        self.space: tuple[int, int] | None = None

    def add(self, folded: str, begins: Sequence[int], ends: Sequence[int]) -> None:
        if not folded:
            return
        if self.space is not None:
            # Space at the very beginning or beside a CJK character separates nothing.
            if self.parts and not _CJK_CHAR.match(folded) and not _CJK_CHAR.match(self.parts[-1][-1]):
                self.parts.append(" ")
                self.begins.append(self.space[0])
                self.ends.append(self.space[1])
            self.space = None
        self.parts.append(folded)
        self.begins.extend(begins)
        self.ends.extend(ends)

    def add_space(self, begin: int, end: int) -> None:
        self.space = (begin if self.space is None else self.space[0], end)


# What a recogniser puts between two words of one sentence as it likes. Not what ends a sentence (. ! ? and their
# like), nor what belongs to a word (' & + / and their like).
_LOOSE = r",;:\-\u2010-\u2015\"\u201c-\u201f\u00ab\u00bb()\[\]"
_LOOSE_CHAR = re.compile(f"[{_LOOSE}]")
_JOINT = re.compile(rf"(?<=[^\s{_LOOSE}])[ {_LOOSE}]*[{_LOOSE}][ {_LOOSE}]*(?=[^\s{_LOOSE}])")
_AT_AN_END = re.compile(rf"\A[ {_LOOSE}]+(?=(.))|(?<=(.))[ {_LOOSE}]+\Z", re.DOTALL)


def fold(original: str) -> Folded:
    """Fold a sentence; linear in its length.

    NFKC, case folding, traditional to simplified Chinese, typographic apostrophes to ', white space to
    single spaces, none beside CJK characters and none at either end, zero-width characters dropped. Commas, dashes,
    brackets and the like between two words of a script that puts spaces between them are as one space.
    """
    folded = _folded(original)
    return _joined(folded) if _LOOSE_CHAR.search(folded.text) else folded


def fold_keyword(original: str) -> str:
    """Fold a keyword: as a sentence, and without the punctuation at its ends that may stand between words."""
    folded = fold(original).text
    if not (_LOOSE_CHAR.match(folded) or _LOOSE_CHAR.match(folded, len(folded) - 1)):
        return folded
    return _AT_AN_END.sub(lambda end: "" if _needs_boundary(end[1] or end[2]) else end[0], folded)


def _joined(folded: Folded) -> Folded:
    """Make one space of the punctuation between two words."""
    text, begins, ends = folded
    parts: list[str] = []
    kept_begins: list[int] = []
    kept_ends: list[int] = []
    done = 0
    for joint in _JOINT.finditer(text):
        begin, end = joint.span()
        if text[begin - 1].isdigit() and text[end].isdigit() and " " not in joint[0]:
            continue  # 1,000 and 10:30
        if not (_needs_boundary(text[begin - 1]) and _needs_boundary(text[end])):
            continue
        parts += text[done:begin], " "
        kept_begins += [*begins[done:begin], begins[begin]]
        kept_ends += [*ends[done:begin], ends[end - 1]]
        done = end
    if not parts:
        return folded
    parts.append(text[done:])
    return Folded("".join(parts), [*kept_begins, *begins[done:]], [*kept_ends, *ends[done:]])


def _folded(original: str) -> Folded:
    folding = _Folding()
    for token in _TOKEN.finditer(original):
        begin, end = token.span()
        if token.lastgroup == "simple":
            simple = token.group()
            if _CHANGED.search(simple):
                simple = simple.translate(_SIMPLE_CHANGED)
            folding.add(simple, range(begin, end), range(begin + 1, end + 1))
        elif token.lastgroup == "space":
            folding.add_space(begin, end)
        else:
            for cluster in _clusters(token.group()):
                end = begin + len(cluster)
                folded = _fold_cluster(cluster)
                folding.add(folded, [begin] * len(folded), [end] * len(folded))
                begin = end
    return Folded("".join(folding.parts), folding.begins, folding.ends)


@lru_cache(maxsize=1 << 16)
def _needs_boundary(char: str) -> bool:
    """Whether `char` is part of a word in a script that separates words by spaces (digits included)."""
    if _UNSPACED_CHAR.match(char):
        return False
    return char.isalnum() or char == "_" or unicodedata.category(char)[0] == "M"


def on_boundaries(folded: str, begin: int, end: int) -> bool:
    """Whether `folded[begin:end]` cuts no word in two; Chinese and its like have no words to cut."""
    if begin > 0 and _needs_boundary(folded[begin]) and _needs_boundary(folded[begin - 1]):
        return False
    return not (end < len(folded) and _needs_boundary(folded[end - 1]) and _needs_boundary(folded[end]))


_CJK_LETTERS = f"{_HAN}\u3040-\u30ff\uac00-\ud7af"
_SPOKEN = re.compile(rf"[{_CJK_LETTERS}]|[^\W_{_CJK_LETTERS}]+(?:['\u2019.,-][^\W_{_CJK_LETTERS}]+)*")


def count_words(text: str) -> int:
    """Words of a text: a run of letters and digits (`don't` and `3.5` are one), each CJK character by itself."""
    return len(_SPOKEN.findall(text))


def is_han(char: str) -> bool:
    """Whether `char` is a Chinese character."""
    return _HAN_CHAR.match(char) is not None
