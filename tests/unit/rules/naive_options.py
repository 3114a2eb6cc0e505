"""An independent reading of what rules with options mean, for sentences of plain small words: the yardstick."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from protocol.rules import Options, Said
from protocol.rules.grammar import And, Expression, Keyword, Not, Or


@dataclass(frozen=True)
class Line:
    """A sentence of words, single spaces between."""

    text: str
    said: Said


@dataclass(frozen=True)
class Place:
    sentence: int
    begin: int
    end: int
    begin_ms: int
    end_ms: int
    text: str


def places(keyword: str, lines: Sequence[Line], options: Options, role: str, end_ms: int) -> list[Place]:
    """Everywhere a keyword was said so that it counts."""
    found = []
    for number, line in enumerate(lines):
        said = line.said
        if (role or options.role) not in ("", said.role) or options.channel not in (None, said.channel):
            continue
        for begin in range(len(line.text)):
            end = begin + len(keyword)
            if f" {line.text} "[begin : end + 2] != f" {keyword} ":
                continue
            begin_ms, stop_ms = said.times_ms(line.text, begin, end)
            if options.first_s is not None and stop_ms > options.first_s * 1000:
                continue
            if options.last_s is not None and begin_ms < end_ms - options.last_s * 1000:
                continue
            found.append(Place(number, begin, end, begin_ms, stop_ms, line.text))
    return found


def true_with(tree: Expression, options: Options, lines: Sequence[Line], end_ms: int) -> bool:
    def where(keyword: Keyword) -> list[Place]:
        return places(keyword.text, lines, options, keyword.role, end_ms)

    def said(term: Expression) -> bool:
        match term:
            case Keyword():
                return bool(where(term))
            case Not(inner):
                return not said(inner)
            case And(terms):
                return all(map(said, terms))
            case Or(terms):
                return any(map(said, terms))

    if not said(tree):
        return False
    every = {place for keyword in _positive(tree, negated=False) for place in where(keyword)}
    if options.count > 1 and _apart(every) < options.count:
        return False
    chained = options.order or options.within_ms is not None or options.within_words is not None
    return not chained or _chained([[p for k in link for p in where(k)] for link in _links(tree)], options)


def _positive(tree: Expression, *, negated: bool) -> list[Keyword]:
    match tree:
        case Keyword():
            return [] if negated else [tree]
        case Not(term):
            return _positive(term, negated=not negated)
        case And(terms) | Or(terms):
            return [keyword for term in terms for keyword in _positive(term, negated=negated)]


def _links(tree: Expression) -> list[list[Keyword]]:
    if isinstance(tree, And):
        return [link for term in tree.terms for link in _links(term)]
    return [] if isinstance(tree, Not) else [_positive(tree, negated=False)]


def _apart(all_places: set[Place]) -> int:
    """The most places that can be had with no two of one sentence overlapping."""
    if not all_places:
        return 0
    first = min(all_places, key=lambda one: (one.sentence, one.end))
    rest = {one for one in all_places if one.sentence != first.sentence or one.begin >= first.end}
    return 1 + _apart(rest)


def _chained(links: list[list[Place]], options: Options) -> bool:
    return any(_fits(chain, options) for chain in itertools.product(*links))


def _fits(chain: tuple[Place, ...], options: Options) -> bool:
    def key(one: Place) -> tuple[int, int, int, int]:
        return one.begin_ms, one.sentence, one.begin, one.end

    def after(one: Place, other: Place) -> bool:
        return one.end <= other.begin if one.sentence == other.sentence else key(one) < key(other)

    if options.order and not all(after(one, other) for one, other in itertools.pairwise(chain)):
        return False
    first, last = min(chain, key=key), max(chain, key=key)
    if options.within_ms is not None and last.begin_ms - first.end_ms > options.within_ms:
        return False
    if options.within_words is not None:
        one_sentence = len({one.sentence for one in chain}) == 1
        return one_sentence and len(first.text[first.end : last.begin].split()) <= options.within_words
    return True
