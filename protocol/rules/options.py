"""What a rule may ask beyond the vendor's language: who, when, how often, in what order and how close."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta

from protocol.rules.grammar import And, Expression, Keyword, Not, Or, RuleSyntaxError

Name = Annotated[str, Meta(max_length=256)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]


class Options(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Conditions on every keyword of an expression, those under a negation included; all must hold."""

    role: Name = ""
    """Only words of this party count. A keyword that names a role (`customer:refund`) goes by that instead."""
    channel: Annotated[int, Meta(ge=0, le=1)] | None = None
    """Only words of this channel, from 0, count."""
    speaker: Name = ""
    """Only words of this enrolled voice count, once its label is stable, or at the call's end."""
    first_s: Seconds | None = None
    """Only what is said wholly within the call's first seconds counts; then it is settled."""
    last_s: Seconds | None = None
    """Only what is said wholly within the call's last seconds counts; unknown until the call's end."""
    count: Annotated[int, Meta(ge=1, le=1000)] = 1
    """At least so many hits of the expression's keywords, taken together; hits that overlap count once."""
    order: bool = False
    """Keywords joined by `&&` must be said in the order written."""
    within_ms: Annotated[int, Meta(gt=0, le=86_400_000)] | None = None
    """Keywords joined by `&&`: at most so long between the end of the first said and the begin of the last."""
    within_words: Annotated[int, Meta(ge=0, le=10_000)] | None = None
    """The same in words, Chinese characters counting one each; all of them in one sentence."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """Options made ready: by position of a keyword in the expression."""

    options: Options
    roles: dict[int, str]
    """Who must have said it, of the positions where somebody must."""
    chain: tuple[tuple[int, ...], ...]
    """Positions of the keywords to be said in order or close together: one of each; empty: no such condition."""


def conditions(expression: str, tree: Expression, options: Options) -> Conditions:
    """Raises RuleSyntaxError when the expression cannot meet the options, or the options one another."""
    if options.first_s is not None and options.last_s is not None:
        raise RuleSyntaxError(expression, 0, "first_s or last_s, not both")
    chained = options.order or options.within_ms is not None or options.within_words is not None
    chain = tuple(_chain(expression, tree)) if chained else ()
    if chained and len(chain) < 2:
        raise RuleSyntaxError(expression, 0, 'two or more keywords joined by "&&", for their order or distance')
    named = ((keyword.position, keyword.role or options.role) for keyword in keywords(tree) if not _nobodys(keyword))
    return Conditions(options, {position: role for position, role in named if role}, chain)


def keywords(tree: Expression) -> Iterator[Keyword]:
    """All keywords of an expression, from the left."""
    match tree:
        case Keyword():
            yield tree
        case Not(term):
            yield from keywords(term)
        case And(terms) | Or(terms):
            for term in terms:
                yield from keywords(term)


def _nobodys(keyword: Keyword) -> bool:
    return keyword.measure is not None and keyword.measure.kind != "rate"


def _chain(expression: str, tree: Expression) -> Iterator[tuple[int, ...]]:
    for term in tree.terms if isinstance(tree, And) else (tree,):
        if isinstance(term, And):
            yield from _chain(expression, term)
        elif not isinstance(term, Not):
            yield _alternatives(expression, term)


def _alternatives(expression: str, term: Expression) -> tuple[int, ...]:
    """The positions of a keyword, or of keywords joined by `||`: what can stand at one place of an order."""
    members = term.terms if isinstance(term, Or) else (term,)
    for member in members:
        first = next(keywords(member))
        if not isinstance(member, Keyword) or member.measure is not None:
            expected = 'a plain keyword: order and distance are between keywords, or "||" of them, joined by "&&"'
            raise RuleSyntaxError(expression, first.position, expected)
    return tuple(next(keywords(member)).position for member in members)
