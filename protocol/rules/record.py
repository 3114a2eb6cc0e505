"""How each rule of a call was told to stand, and what of it is new."""

from collections import Counter
from collections.abc import Iterable

import msgspec

from protocol.rules.circumstances import SentenceId
from protocol.rules.hearing import MAX_EVIDENCE, Evidence, Heard, Identity, in_order
from protocol.rules.matcher import CompiledRule, Rule
from protocol.rules.standing import Pending, Standing, State


class Verdict(msgspec.Struct, frozen=True):
    """How a rule stands now.

    `hits` is all evidence, the positive keywords heard; `added` what the rule's earlier verdicts did not
    have. `made_true` is the part of the expression that is true. State `none`: what was said before is
    withdrawn, and all but the rule is empty.
    """

    rule: Rule
    state: State
    pending: tuple[Pending, ...] = ()
    hits: tuple[Evidence, ...] = ()
    added: tuple[Evidence, ...] = ()
    made_true: str = ""


class Record:
    """What is known and was told of one rule; a unit is the recording (None) or a sentence."""

    def __init__(self, compiled: CompiledRule) -> None:
        self.compiled = compiled
        self.standings: dict[SentenceId | None, Standing] = {}
        self.told: set[Identity] = set()
        self.verdict = Verdict(compiled.rule, "none")
        self._evidence_of: Counter[int] | None = None

    def put(self, unit: SentenceId | None, standing: Standing | None) -> Verdict | None:
        """Take a unit's new standing; answers the new verdict if it says something new."""
        self.standings.pop(unit, None)
        if standing is not None:
            self.standings[unit] = standing  # the last: units stand in the order of their latest text
        now = self._together()
        if now is None:
            if self.verdict.state == "none":
                return None
            self.told.clear()
            self.verdict = Verdict(self.compiled.rule, "none")
            return self.verdict
        added = [one for one in now.heard if one.identity not in self.told]
        if unit is not None and len(self.told) >= MAX_EVIDENCE:
            times = Counter(keyword_id for _, keyword_id, _ in self.told)
            added = [one for one in added if times[one.keyword_id] < MAX_EVIDENCE]
        if not added and (now.state, now.pending) == (self.verdict.state, self.verdict.pending):
            return None
        self.told.update(one.identity for one in added)
        self.verdict = self._verdict(now, added)
        return self.verdict

    def extend(self, before: Standing, new: Iterable[Heard], made_true: str) -> Verdict | None:
        """Add evidence to a recording's rule that is true for good, of each keyword up to MAX_EVIDENCE hits."""
        if self._evidence_of is None:
            self._evidence_of = Counter(one.keyword_id for one in before.heard)
        kept = []
        for one in in_order(new):
            if self._evidence_of[one.keyword_id] < MAX_EVIDENCE:
                self._evidence_of[one.keyword_id] += 1
                kept.append(one)
        if not kept:
            return None
        self.standings[None] = Standing("final", (), (*before.heard, *kept), made_true)
        added = [one for one in kept if one.identity not in self.told]
        if not added:
            return None
        self.told.update(one.identity for one in added)
        self.verdict = self._verdict(self.standings[None], added)
        return self.verdict

    def fold(self, unit: SentenceId) -> None:
        """A sentence that makes the rule true for good needs no more room than its evidence."""
        standing = self.standings.get(unit)
        if standing is None or standing.state != "final":
            return
        before = self.standings.get(None)
        heard = list(before.heard) if before else []
        times = Counter(one.keyword_id for one in heard)
        for one in standing.heard:
            times[one.keyword_id] += 1
            if times[one.keyword_id] <= MAX_EVIDENCE:
                heard.append(one)
        del self.standings[unit]
        self.standings[None] = msgspec.structs.replace(before or standing, heard=tuple(heard))

    def current(self) -> Verdict | None:
        """How the rule stands, also what wasn't worth a new verdict; None if it doesn't."""
        now = self._together()
        return None if now is None else self._verdict(now, ())

    def _verdict(self, now: Standing, added: Iterable[Heard]) -> Verdict:
        hits, new = self._evidence(now.heard), self._evidence(added)
        return Verdict(self.compiled.rule, now.state, now.pending, hits, new, now.made_true)

    def _together(self) -> Standing | None:
        """The best of the units' standings, with the evidence of all that stand as well."""
        if len(self.standings) < 2:
            return next(iter(self.standings.values()), None)
        best = min(self.standings.values(), key=lambda one: (one.state != "final", len(one.pending)))
        heard = (h for one in self.standings.values() if one.state == best.state for h in one.heard)
        return msgspec.structs.replace(best, heard=in_order(heard))

    def _evidence(self, heard: Iterable[Heard]) -> tuple[Evidence, ...]:
        spelling = self.compiled.positive
        return tuple(
            one.evidence
            if one.evidence.keyword == spelling[one.keyword_id]
            else msgspec.structs.replace(one.evidence, keyword=spelling[one.keyword_id])
            for one in heard
        )
