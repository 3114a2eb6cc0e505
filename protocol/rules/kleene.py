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
