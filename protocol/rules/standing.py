"""How one rule stands after what has been heard: true for good, provisionally true, or neither."""

from collections.abc import Container
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
    Hearing,
    Identity,
    Kinds,
    in_order,
)
from protocol.rules.kleene import Truth, evaluate, made_true
from protocol.rules.matcher import CompiledRule

State: TypeAlias = Literal["final", "provisional", "none"]
Pending: TypeAlias = Literal["negation", "partial_text", "pinyin"]


class _Assumption(NamedTuple):
    """What one takes for granted to call a rule true, and the kinds of hearing that count under it."""

    pending: tuple[Pending, ...]
    counted: Kinds


_COUNTED: dict[tuple[bool, bool], Kinds] = {
    (False, False): EXACT,
    (True, False): EXACT | PARTIAL,
    (False, True): EXACT | SOUND,
    (True, True): EXACT | PARTIAL | SOUND | PARTIAL_SOUND,
}


def _assume(*pending: Pending) -> _Assumption:
    return _Assumption(pending, _COUNTED["partial_text" in pending, "pinyin" in pending])


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

    def __init__(self, rule: CompiledRule, hearing: Hearing, told: Container[Identity] | None, by_sound: bool) -> None:
        self.rule = rule
        self.hearing = hearing
        self.alerted = told is not None
        self.told: Container[Identity] = told or ()
        self.considered = _ALL_KINDS if by_sound else EXACT | PARTIAL
        self.kinds = {
            position: hearing.kinds(keyword_id, () if position in rule.forbidden else self.told) & self.considered
            for position, keyword_id in rule.keyword_ids.items()
        }

    def wanted(self, position: int, assumption: _Assumption) -> Truth:
        kinds = self.kinds[position]
        if kinds & assumption.counted:
            return True
        return False if kinds == NOT_HEARD and self.hearing.closed else None

    def forbidden(self, position: int, assumption: _Assumption) -> Truth:
        kinds = self.kinds[position]
        if kinds & EXACT:
            return True
        if kinds & SOUND:
            return None  # probably said: no alert, but nothing is settled
        if kinds and not self.alerted:
            return None  # only in partial text: keeps a new alert back, takes none back
        if kinds == NOT_HEARD and self.hearing.closed:
            return False
        return False if "negation" in assumption.pending else None

    def holds(self, assumption: _Assumption) -> bool:
        return evaluate(self.rule.tree, self.truth(assumption)) is True

    def truth(self, assumption: _Assumption) -> "_TruthUnder":
        return _TruthUnder(self, assumption)

    def any_positive_heard(self) -> bool:
        return any(kinds for position, kinds in self.kinds.items() if position not in self.rule.forbidden)

    def standing(self, state: State, assumption: _Assumption, kinds: Kinds) -> Standing:
        heard = self.hearing.heard(self.rule.positive, kinds & self.considered, self.told)
        part = made_true(self.rule.tree, self.truth(assumption))
        return Standing(state, assumption.pending, in_order(heard), format_expression(part) if part else "")


class _TruthUnder:
    """The truth of keywords under an assumption."""

    def __init__(self, case: _Case, assumption: _Assumption) -> None:
        self.case = case
        self.assumption = assumption

    def __call__(self, keyword: Keyword) -> Truth:
        if keyword.position in self.case.rule.forbidden:
            return self.case.forbidden(keyword.position, self.assumption)
        return self.case.wanted(keyword.position, self.assumption)


def stand(rule: CompiledRule, hearing: Hearing, *, told: Container[Identity] | None, by_sound: bool) -> Standing | None:
    """How `rule` stands before what has been heard; None when there is nothing to say for it.

    `final` when no later words undo it. `provisional` when it would be true if the call ended now and a
    positive keyword was heard; `pending` then names the fewest assumptions that make it true. `told`: the
    evidence of an alert that is out and provisional (None: there is none), which partial text can't take back.
    """
    case = _Case(rule, hearing, told, by_sound)
    if not case.holds(_EVERYTHING):  # the common case, and what holds under fewer assumptions holds under all
        return None
    if case.holds(_NOTHING):
        # Evidence of an alert that is final can't be taken back: only final text counts.
        return case.standing("final", _NOTHING, _IN_FINAL_TEXT)
    if not case.any_positive_heard():
        return None
    fewest = next(assumption for assumption in _FEWEST_FIRST if case.holds(assumption))
    return case.standing("provisional", fewest, _ALL_KINDS)
