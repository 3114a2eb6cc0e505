"""Three-valued logic: True, False, and None for what is not known yet."""

from collections.abc import Callable
from typing import TypeAlias

from protocol.rules.grammar import And, Expression, Keyword, Not, Or

Truth: TypeAlias = bool | None
"""None is unknown. Kleene's tables: `and` is the least, `or` the greatest of False < None < True."""


def evaluate(expression: Expression, truth: Callable[[Keyword], Truth]) -> Truth:
    """The value of `expression` when each keyword's occurrence has the value `truth` gives it."""
    # Not a `match`: this is where a sentence's time goes, and class patterns take twice as long.
    if isinstance(expression, Keyword):
        return truth(expression)
    if isinstance(expression, Not):
        value = evaluate(expression.term, truth)
        return None if value is None else not value
    return _first_or_unknown(expression.terms, truth, decisive=isinstance(expression, Or))


def _first_or_unknown(terms: tuple[Expression, ...], truth: Callable[[Keyword], Truth], *, decisive: bool) -> Truth:
    """`decisive` as soon as one term has that value, unknown if one is unknown, else the opposite."""
    unknown = False
    for term in terms:
        value = evaluate(term, truth)
        if value is decisive:
            return decisive
        unknown = unknown or value is None
    return None if unknown else not decisive


def made_true(expression: Expression, truth: Callable[[Keyword], Truth]) -> Expression | None:
    """The part of `expression` that is true: without the branches of `||` that aren't. None if it isn't true."""
    match expression:
        case Keyword() | Not():
            return expression if evaluate(expression, truth) is True else None
        case And(terms):
            parts = [made_true(term, truth) for term in terms]
            kept = tuple(part for part in parts if part is not None)
            return And(kept) if len(kept) == len(terms) else None
        case Or(terms):
            parts = [made_true(term, truth) for term in terms]
            kept = tuple(part for part in parts if part is not None)
            if not kept:
                return None
            return kept[0] if len(kept) == 1 else Or(kept)


def ways(
    expression: Expression, number: Callable[[Keyword], int], *, most: int, negated: bool = False
) -> list[int] | None:
    """Every set of literals that is enough for `expression` (for its opposite, if `negated`); None: more than `most`.

    A literal is an occurrence of a keyword as the expression wants it: heard, or under an odd number of negations not
    said. A set is an int with a bit for each, by `number`.
    """
    if isinstance(expression, Keyword):
        return [1 << number(expression)]
    if isinstance(expression, Not):
        return ways(expression.term, number, most=most, negated=not negated)
    every = isinstance(expression, And) is not negated
    found = [0] if every else []
    for term in expression.terms:
        more = ways(term, number, most=most, negated=negated)
        if more is None:
            return None
        found = [one | other for one in found for other in more] if every else found + more
        if len(found) > most:
            return None
    return found
