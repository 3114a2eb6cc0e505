"""Rules drawn from a call's reference text, so that what should fire is known."""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pypinyin.seg.mmseg import seg

from gateway.evaluation.decoys import decoys
from protocol.rules import RuleSet, judge
from protocol.rules.text import fold, is_han

Kind = Literal["A", "A||B", "A&&B", "A&&!B", "(A||B)&&C", "!A", "absent", "decoy", "given"]
"""Shapes over keywords of the call; `absent`: a keyword of other calls; `decoy`: one that sounds like a keyword said;
`given`: not drawn but brought."""

LEAST_LATIN_CHARS = 5
LEAST_LATIN_PAIR_CHARS = 4
ABSENT_RULES = 8


@dataclass(frozen=True, slots=True)
class MadeRule:
    """`due`: whether the reference text makes it true; `due_by_sound`: when matched by toneless pinyin."""

    expression: str
    kind: Kind
    due: bool
    due_by_sound: bool = False


def rules_for(sentences: Sequence[str], elsewhere: Iterable[str], dice: random.Random) -> tuple[MadeRule, ...]:
    """Rules of every operator for a call with these reference sentences (in order of time).

    One plain rule for each sentence that has a keyword said once in the call; then the operators over those keywords;
    then keywords of other calls in the language (`elsewhere`: their sentences) that this one never says; and as many
    that sound like a keyword of this call and are not said either, as far as the vocabulary holds such.
    """
    elsewhere = list(elsewhere)
    said = [words[dice.randrange(len(words))] for words in keywords(sentences) if words]
    absent = _absent(sentences, elsewhere, dice)
    expressions: list[tuple[Kind, str]] = [("A", word) for word in said]
    expressions += _composed(said, absent, dice)
    expressions += [("absent", word) for word in absent[-ABSENT_RULES:]]
    expressions += [("decoy", word) for word in decoys(said, sentences, elsewhere)]
    kinds = {expression: kind for kind, expression in expressions}
    return judged_by_reference(kinds, sentences)


def judged_by_reference(kinds: Mapping[str, Kind], sentences: Sequence[str]) -> tuple[MadeRule, ...]:
    """Rules by expression, and whether these sentences make them true. Raises RuleSetError for one that is no rule."""
    ruleset = RuleSet.from_categories({"made": list(kinds)}, 1, pinyin=True)
    true, by_sound = (
        {
            hit.rule.expression
            for category in judge(ruleset, sentences, pinyin=pinyin).recording
            for hit in category.rules
        }
        for pinyin in (False, True)
    )
    return tuple(MadeRule(one, kind, one in true, one in by_sound) for one, kind in kinds.items())


def keywords(sentences: Sequence[str]) -> list[list[str]]:
    """For each sentence, its words (Latin also pairs; Chinese of 2 to 4 characters) that the call says only once."""
    whole = "\n".join(fold(sentence).text for sentence in sentences)
    candidates = [list(dict.fromkeys(_candidates(fold(sentence).text))) for sentence in sentences]
    times = Counter({word: len(_said(word, whole)) for words in candidates for word in words})
    return [[word for word in words if times[word] == 1] for words in candidates]


def _composed(said: Sequence[str], absent: Sequence[str], dice: random.Random) -> Iterator[tuple[Kind, str]]:
    """Two of each shape, keywords spread over the call; `absent` words stand where nothing must be heard."""
    for turn in range(2):
        early, late = sorted(dice.sample(range(len(said)), 2)) if len(said) > 1 else (0, 0)
        other = said[dice.randrange(len(said))]
        yield "A||B", f"{absent[turn]}||{other}"
        yield "A&&B", f"{said[early]}&&{said[late]}"
        yield "A&&!B", f"{other}&&!{absent[2 + turn]}"
        yield "A&&!B", f"{said[early]}&&!{said[late]}"
        yield "(A||B)&&C", f"({absent[4 + turn]}||{said[early]})&&{said[late]}"
        yield "!A", f"!{absent[6 + turn]}"
        yield "!A", f"!{other}"


def _absent(sentences: Sequence[str], elsewhere: Iterable[str], dice: random.Random) -> list[str]:
    """Sixteen words of other calls that these sentences do not hold, or made-up ones where there are no others."""
    whole = "\n".join(fold(sentence).text for sentence in sentences)
    found = sorted({word for words in keywords(list(elsewhere)) for word in words if not _said(word, whole)})
    dice.shuffle(found)
    chinese = any(map(is_han, whole))
    spare = [f"空词{chr(0x7532 + n)}" if chinese else f"unheard{chr(97 + n)}word" for n in range(2 * ABSENT_RULES)]
    return [*found, *spare][: 2 * ABSENT_RULES]


def _candidates(folded: str) -> Iterator[str]:
    if any(map(is_han, folded)):
        for word in seg.cut(folded):
            if 2 <= len(word) <= 4 and all(map(is_han, word)):
                yield word
        return
    words = re.findall(r"[a-z']+", folded)
    yield from (word for word in words if len(word) >= LEAST_LATIN_CHARS)
    for first, second in itertools.pairwise(words):
        if first != second and min(len(first), len(second)) >= LEAST_LATIN_PAIR_CHARS and f"{first} {second}" in folded:
            yield f"{first} {second}"


def _said(word: str, folded: str) -> list[str]:
    edge = "" if any(map(is_han, word)) else r"\b"
    return re.findall(edge + re.escape(word) + edge, folded)
