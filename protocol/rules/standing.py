"""How one rule stands after what has been heard: true for good, provisionally true, or neither."""

from collections.abc import Callable, Container, Iterable, Iterator
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from protocol.rules.grammar import Keyword, format_expression
from protocol.rules.hearing import (
    EXACT,
    NOT_HEARD,
    PARTIAL,
    PARTIAL_SOUND,
    SOUND,
    Heard,
    HeardByKeyword,
    Hearing,
    Identity,
    Kinds,
    in_order,
)
from protocol.rules.kleene import Truth, evaluate, made_true
from protocol.rules.matcher import CompiledRule
from protocol.rules.view import EVERYTHING, View

State: TypeAlias = Literal["final", "provisional", "none"]
Pending: TypeAlias = Literal["negation", "partial_text", "pinyin"]


class _Assumption(NamedTuple):
    """What one takes for granted to call a rule true, and the kinds of hearing that count under it."""

    pending: tuple[Pending, ...]
    counted: Kinds
    negation: bool


_COUNTED: dict[tuple[bool, bool], Kinds] = {
    (False, False): EXACT,
    (True, False): EXACT | PARTIAL,
    (False, True): EXACT | SOUND,
    (True, True): EXACT | PARTIAL | SOUND | PARTIAL_SOUND,
}


def _assume(*pending: Pending) -> _Assumption:
    counted = _COUNTED["partial_text" in pending, "pinyin" in pending]
    return _Assumption(pending, counted, "negation" in pending)


_NOTHING = _assume()
_EVERYTHING = _assume("negation", "partial_text", "pinyin")
# The fewest first: an alert names no more reasons to doubt it than there are.
_FEWEST_FIRST = (
    _assume("negation"),
    _assume("partial_text"),
    _assume("pinyin"),
    _assume("negation", "partial_text"),
    _assume("negation", "pinyin"),
    _assume("partial_text", "pinyin"),
    _EVERYTHING,
)
_ALL_KINDS = _EVERYTHING.counted
_IN_FINAL_TEXT = EXACT | SOUND


class Standing(msgspec.Struct, frozen=True):
    """A rule that is true or provisionally so, why it is not for good, and what was heard for it."""

    state: State
    pending: tuple[Pending, ...] = ()
    heard: tuple[Heard, ...] = ()
    made_true: str = ""


class _Case:
    """One rule before what has been heard."""

    __slots__ = ("alerted", "considered", "hearing", "kinds", "rule", "taken", "told", "view")

    def __init__(
        self, rule: CompiledRule, hearing: Hearing, told: Container[Identity] | None, view: View, *, by_sound: bool
    ) -> None:
        self.rule = rule
        self.hearing = hearing
        self.alerted = told is not None
        self.told: Container[Identity] = told or ()
        self.considered = _ALL_KINDS if by_sound else EXACT | PARTIAL
        self.view = view
        self.taken: dict[int, list[Heard]] = {}
        # One for each literal of the rule.
        self.kinds: list[Kinds] = []
        for position, keyword_id, forbidden in rule.literals:
            seen = () if forbidden else self.told
            if view.plain:
                self.kinds.append(hearing.kinds(keyword_id, seen) & self.considered)
            else:
                self.kinds.append(self._kinds_taken(position, keyword_id, seen))

    def _kinds_taken(self, position: int, keyword_id: int, told: Container[Identity]) -> Kinds:
        """How a keyword was heard where it counts for this rule."""
        heard = self.hearing.all_heard(keyword_id, self.considered, told)
        taken = self.taken[position] = [one for one in heard if self.view.counts(position, one)]
        kinds = NOT_HEARD
        for one in taken:
            kinds |= one.kind
        return kinds

    @property
    def over(self) -> bool:
        """Whether a keyword not heard yet can't be heard any more."""
        return self.hearing.closed or self.view.past

    def hidden(self, position: int) -> bool:
        """Whether a keyword that was not heard may have been said all the same."""
        return bool(self.view.around.holes) and self.view.hides(position, self.hearing.span_ms)

    def absent(self, position: int, kinds: Kinds, assumption: _Assumption) -> bool:
        """Whether a forbidden keyword may be taken for not said."""
        if kinds & _IN_FINAL_TEXT:
            return False  # said, or probably so: no alert, but nothing is settled
        if kinds and not self.alerted:
            return False  # only in partial text: keeps a new alert back, takes none back
        if assumption.negation:
            return True
        return kinds == NOT_HEARD and self.over and not self.hidden(position)

    def given(self, assumption: _Assumption) -> int:
        """The literals that are true, as the bits of one number."""
        bits, bit, counted = 0, 1, assumption.counted
        for (position, _, forbidden), kinds in zip(self.rule.literals, self.kinds, strict=True):
            if self.absent(position, kinds, assumption) if forbidden else kinds & counted:
                bits |= bit
            bit <<= 1
        return bits

    def holds(self, assumption: _Assumption) -> bool:
        given, terms = self.given(assumption), self.rule.terms
        if terms is None:
            if evaluate(self.rule.tree, self._truth(given)) is not True:
                return False
        else:
            for term in terms:
                if given & term == term:
                    break
            else:
                return False
        return self.view.plain or self.view.fits(self._counted(assumption.counted)) is not None

    def _truth(self, given: int) -> Callable[[Keyword], Truth]:
        """The truth of keywords when these literals are true and nothing else is known."""
        known = {
            position: not forbidden
            for number, (position, _, forbidden) in enumerate(self.rule.literals)
            if given >> number & 1
        }
        return lambda keyword: known.get(keyword.position)

    def any_positive_heard(self) -> bool:
        return any(kinds and not literal[2] for literal, kinds in zip(self.rule.literals, self.kinds, strict=True))

    def hole_in_a_negation(self) -> bool:
        """Whether the call is over and only a hole keeps the rule from being true for good."""
        return self.hearing.closed and any(map(self.hidden, self.rule.forbidden))

    def standing(self, state: State, assumption: _Assumption, kinds: Kinds) -> Standing:
        if self.view.plain:
            heard: Iterable[Heard] = self.hearing.heard(self.rule.positive, kinds & self.considered, self.told)
        else:
            heard = self.view.fits(self._counted(kinds)) or ()
        return Standing(state, assumption.pending, in_order(heard), self.part_true(assumption))

    def part_true(self, assumption: _Assumption) -> str:
        """The part of the rule that is true."""
        if self.rule.all_or_nothing:
            return self.rule.all_or_nothing
        part = made_true(self.rule.tree, self._truth(self.given(assumption)))
        return format_expression(part) if part else ""

    def _counted(self, kinds: Kinds) -> dict[int, list[Heard]]:
        """Of the positions that are not forbidden, the hits of some kinds."""
        forbidden = self.rule.forbidden
        return {
            position: [one for one in taken if one.kind & kinds]
            for position, taken in self.taken.items()
            if position not in forbidden
        }


def stand(
    rule: CompiledRule,
    hearing: Hearing,
    *,
    told: Container[Identity] | None,
    by_sound: bool,
    view: View = EVERYTHING,
) -> Standing | None:
    """How `rule` stands before what has been heard; None when there is nothing to say for it.

    `final` when no later words undo it. `provisional` when it would be true if the call ended now and a
    positive keyword was heard; `pending` then names the fewest assumptions that make it true. `told`: the
    evidence of an alert that is out and provisional (None: there is none), which partial text can't take back.
    A negation that a hole may hide the answer to is never for good. `view`: what of all that the rule is to see.
    """
    case = _Case(rule, hearing, told, view, by_sound=by_sound)
    if not case.holds(_EVERYTHING):  # the common case, and what holds under fewer assumptions holds under all
        return None
    if case.holds(_NOTHING):
        # Evidence of an alert that is final can't be taken back: only final text counts.
        return case.standing("final", _NOTHING, _IN_FINAL_TEXT)
    if not case.any_positive_heard() and not case.hole_in_a_negation():
        return None
    fewest = next(assumption for assumption in _FEWEST_FIRST if case.holds(assumption))
    return case.standing("provisional", fewest, _ALL_KINDS)


def for_good(rule: CompiledRule, heard: HeardByKeyword, *, by_sound: bool) -> Iterator[Heard]:
    """Of the hits of a final text, those that are evidence of a rule which is true for good."""
    counted = _IN_FINAL_TEXT if by_sound else EXACT
    for keyword_id in rule.positive:
        for one in heard.get(keyword_id, ()):
            if one.kind & counted:
                yield one


def part_true(rule: CompiledRule, hearing: Hearing, before: Standing, *, by_sound: bool) -> str:
    """Which part of a rule that is true for good is so now; `before`: how it stood."""
    return (
        before.made_true
        if rule.all_or_nothing
        else _Case(rule, hearing, None, EVERYTHING, by_sound=by_sound).part_true(_NOTHING)
    )
