"""The rules on one call as it goes on: texts in, changed verdicts out. Live calls and final QC both use it."""

from collections.abc import Collection, Iterable
from typing import Literal, TypeAlias

import msgspec

from protocol.rules.hearing import Evidence, Heard, Hearing, Identity, SentenceId, in_order, located
from protocol.rules.matcher import CompiledRule, Hit, Rule, RuleSet
from protocol.rules.standing import Pending, Standing, State, stand

Scope: TypeAlias = Literal["recording", "sentence"]


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


class _Record:
    """What is known and was told of one rule; a unit is the recording (None) or a sentence."""

    def __init__(self, compiled: CompiledRule) -> None:
        self.compiled = compiled
        self.standings: dict[SentenceId | None, Standing] = {}
        self.told: set[Identity] = set()
        self.verdict = Verdict(compiled.rule, "none")

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
        if not added and (now.state, now.pending) == (self.verdict.state, self.verdict.pending):
            return None
        self.told.update(one.identity for one in added)
        self.verdict = self._verdict(now, added)
        return self.verdict

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


class CallEvaluator:
    """The state of all rules over one call.

    Feed it the partial and final text of sentences and the end of the call; each answers the verdicts that
    changed, in the order of the rules. `categories` limits the rules (None or empty: all of them). `pinyin`
    lets every rule match by sound, which needs a RuleSet compiled with it (else ValueError); without it only
    rules with `pinyin` set do. Deterministic; work is for the rules touched, but for `close()`.
    """

    def __init__(
        self,
        ruleset: RuleSet,
        categories: Collection[str] | None = None,
        scope: Scope = "recording",
        *,
        pinyin: bool = False,
    ) -> None:
        if pinyin and not ruleset.matches_pinyin:
            raise ValueError("matching by pinyin needs a RuleSet compiled with pinyin=True")
        self._ruleset = ruleset
        self._categories = frozenset(categories or ())
        self._per_sentence = scope == "sentence"
        self._pinyin = pinyin
        self._records: dict[int, _Record] = {}
        self._recording = Hearing()
        self._open_sentences: dict[SentenceId, Hearing] = {}
        self._finished: set[SentenceId] = set()
        self._closed = False
        # Rules that silence makes true, not yet found true by a sentence that holds none of their keywords.
        self._silent = [index for index in ruleset.silent if self._selected(index)]

    def partial(self, sentence_id: SentenceId, text: str) -> list[Verdict]:
        """Take a sentence's text so far, in place of an earlier partial one; ignored once it has its final text.

        Partial text raises alerts and takes none back. Raises ValueError after `close()`.
        """
        self._require_open(f"partial text of sentence {sentence_id!r}")
        if sentence_id in self._finished:
            return []
        # Sorts after all final text.
        heard = located(sentence_id, text, self._find(text), order=1 << 62, partial=True)
        unit, hearing = self._unit(sentence_id)
        return self._update(self._touched(hearing.add_partial(sentence_id, heard)), unit, hearing)

    def final(self, sentence_id: SentenceId, text: str) -> list[Verdict]:
        """Take a sentence's final text; raises ValueError if it has one already, or after `close()`."""
        self._require_open(f"final text of sentence {sentence_id!r}")
        if sentence_id in self._finished:
            raise ValueError(f"sentence {sentence_id!r} already has its final text")
        heard = located(sentence_id, text, self._find(text), order=len(self._finished), partial=False)
        unit, hearing = self._unit(sentence_id)
        touched = self._touched(hearing.add_final(sentence_id, heard))
        self._finished.add(sentence_id)
        if self._per_sentence:
            hearing.closed = True
            del self._open_sentences[sentence_id]
            # Rules that this sentence makes true by what it doesn't hold; after that they are so for good.
            touched.update(self._silent)
        verdicts = self._update(touched, unit, hearing)
        if self._per_sentence:
            self._silent = [index for index in self._silent if self._records[index].verdict.state != "final"]
        return verdicts

    def close(self) -> list[Verdict]:
        """End the call: what was not heard is false. Raises ValueError if it has ended already.

        A sentence that never got its final text settles nothing: its keywords stay provisional.
        """
        self._require_open("the end of the call")
        self._closed = True
        if self._per_sentence:
            return []
        self._recording.closed = True
        return self._update(self._records.keys() | self._silent, None, self._recording)

    def verdicts(self) -> list[Verdict]:
        """All rules that stand now, final or provisional, in the order of the rules; `added` is empty."""
        current = (self._records[index].current() for index in sorted(self._records))
        return [verdict for verdict in current if verdict is not None]

    def _require_open(self, event: str) -> None:
        if self._closed:
            raise ValueError(f"{event} came after the call had ended")

    def _find(self, text: str) -> list[Hit]:
        return self._ruleset.find(text, pinyin=self._pinyin or self._ruleset.has_pinyin_rules)

    def _unit(self, sentence_id: SentenceId) -> tuple[SentenceId | None, Hearing]:
        if not self._per_sentence:
            return None, self._recording
        return sentence_id, self._open_sentences.setdefault(sentence_id, Hearing())

    def _selected(self, index: int) -> bool:
        return not self._categories or self._ruleset.compiled[index].rule.category in self._categories

    def _touched(self, keyword_ids: Iterable[int]) -> set[int]:
        rules_of = self._ruleset.rules_of
        return {index for keyword_id in keyword_ids for index in rules_of[keyword_id] if self._selected(index)}

    def _update(self, rules: Iterable[int], unit: SentenceId | None, hearing: Hearing) -> list[Verdict]:
        changed: list[Verdict] = []
        for index in sorted(rules):
            compiled = self._ruleset.compiled[index]
            record = self._records.get(index)
            if record is None:
                record = self._records[index] = _Record(compiled)
            before = record.standings.get(unit)
            told = record.told if before is not None and before.state == "provisional" else None
            standing = stand(compiled, hearing, told=told, by_sound=self._pinyin or compiled.rule.pinyin)
            verdict = record.put(unit, standing)
            if verdict is not None:
                changed.append(verdict)
        return changed
