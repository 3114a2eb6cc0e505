"""What is allowed in a rule but hardly meant: one that can't come true, or can't but, or says what another says."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Literal, TypeAlias

import msgspec

from protocol.rules.book import Category, rules_of
from protocol.rules.grammar import And, Expression, Keyword, Not, Or
from protocol.rules.kleene import evaluate
from protocol.rules.matcher import CompiledRule, RuleSet
from protocol.rules.options import Options, keywords
from protocol.rules.text import fold_keyword, on_boundaries

Kind: TypeAlias = Literal["never", "always", "duplicate", "short_keyword", "unspeakable", "unknown_role"]

MAX_TRIED_KEYWORDS = 12
"""A rule of more keywords is not tried out: there are too many ways for them to be said."""
USUAL_ROLES = ("agent", "customer", "mixed")

_Atom: TypeAlias = tuple[str, str]


class Doubt(msgspec.Struct, frozen=True):
    """Something to look at in a rule: `index` is that among its category's contents."""

    category: str
    index: int
    kind: Kind
    message: str


def doubts(category: Category) -> list[Doubt]:
    """Everything doubtful about the rules of a category that is well formed."""
    found: list[Doubt] = []
    seen: dict[tuple[object, Options | None, bool, bool], int] = {}
    for index, rule in enumerate(rules_of(category, 0)):
        compiled = RuleSet([rule]).compiled[0]
        same_as = seen.setdefault((_shape(compiled.tree), rule.options, rule.pinyin, rule.shadow), index)
        if same_as != index:
            found.append(Doubt(category.category, index, "duplicate", f"says the same as contents[{same_as}]"))
        found += (Doubt(category.category, index, kind, message) for kind, message in _of_rule(compiled))
    return found


def _of_rule(rule: CompiledRule) -> Iterator[tuple[Kind, str]]:
    outcomes = _outcomes(rule.tree)
    if outcomes == {False}:
        yield "never", "can never be true"
    if outcomes == {True} and not (rule.conditions and (rule.conditions.chain or rule.conditions.options.count > 1)):
        yield "always", "is true whatever is said"
    for keyword in dict.fromkeys(one for one in keywords(rule.tree) if one.measure is None):
        said = fold_keyword(keyword.text)
        if not any(char.isalnum() for char in said):
            yield "unspeakable", f'"{keyword.text}" holds nothing that can be said'
        elif len(said) == 1:
            yield "short_keyword", f'"{keyword.text}" is one character, which much that is said will hold'
    yield from _roles(rule)


def _roles(rule: CompiledRule) -> Iterator[tuple[Kind, str]]:
    if rule.conditions is None:
        return
    for role in dict.fromkeys((rule.conditions.options.role, *rule.conditions.roles.values())):
        if role and role not in USUAL_ROLES:
            yield (
                "unknown_role",
                f'"{role}" is nobody unless a call names its roles so ({", ".join(USUAL_ROLES)} are usual)',
            )


def _atom(keyword: Keyword) -> _Atom:
    return keyword.role, keyword.text if keyword.measure else fold_keyword(keyword.text)


def _outcomes(tree: Expression) -> set[bool | None]:
    """What the rule can come to, over all that can be said; empty when there is too much to try."""
    atoms = list(dict.fromkeys(_atom(keyword) for keyword in keywords(tree)))
    if len(atoms) > MAX_TRIED_KEYWORDS:
        return set()
    implied = [(a, b) for a in atoms for b in atoms if a != b and _holds(a, b)]
    outcomes: set[bool | None] = set()
    for values in product((False, True), repeat=len(atoms)):
        said: Mapping[_Atom, bool] = dict(zip(atoms, values, strict=True))
        if all(said[part] for whole, part in implied if said[whole]):
            outcomes.add(evaluate(tree, lambda keyword, said=said: said[_atom(keyword)]))  # type: ignore[misc]
    return outcomes


def _holds(whole: _Atom, part: _Atom) -> bool:
    """Whether who says the one has said the other."""
    if part[0] not in ("", whole[0]) or not part[1]:
        return False
    begin = whole[1].find(part[1])
    while begin >= 0:
        if on_boundaries(whole[1], begin, begin + len(part[1])):
            return True
        begin = whole[1].find(part[1], begin + 1)
    return False


def _shape(tree: Expression) -> object:
    """Equal for expressions that differ in spelling, or in the order of what `&&` or `||` joins."""
    match tree:
        case Keyword():
            return _atom(tree)
        case Not(term):
            return "!", _shape(term)
        case And(terms):
            return "&&", _shapes(terms)
        case Or(terms):
            return "||", _shapes(terms)


def _shapes(terms: Iterable[Expression]) -> frozenset[object]:
    return frozenset(map(_shape, terms))
