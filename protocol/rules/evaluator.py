"""The rules on one call as it goes on: texts in, changed verdicts out. Live calls and final QC both use it."""

from collections.abc import Callable, Collection, Iterable
from typing import Literal, TypeAlias

from protocol.rules.acoustics import Acoustics, Sounded
from protocol.rules.circumstances import Circumstances, Hole, Said, SentenceId
from protocol.rules.hearing import EXACT, Evidence, Heard, HeardByKeyword, Hearing, Sentence
from protocol.rules.matcher import CompiledRule, Hit, RuleIdentity, RuleSet
from protocol.rules.record import Record, Verdict
from protocol.rules.standing import for_good, part_true, stand
from protocol.rules.text import count_words
from protocol.rules.view import View

Scope: TypeAlias = Literal["recording", "sentence"]

_UNKNOWN = Said()
_LAST = 1 << 62  # partial text sorts after all final text
_Fact: TypeAlias = Callable[["CallEvaluator"], object]


class CallEvaluator:
    """The state of all rules over one call.

    Feed it the partial and final text of sentences and the end of the call; each answers the verdicts that
    changed, in the order of the rules. Rules with options also want to know who says what and when (`said`), of
    utterances (`opened`, `spoke`), labels (`labelled`), holes (`lost`) and how much of the call is settled (`settled`).
    `categories` limits the rules (None or empty: all of them). `pinyin` lets every rule match by sound, which needs a
    RuleSet compiled with it (else ValueError); without it only rules with `pinyin` set do. Deterministic; work is for
    the rules touched, but for `close()`.
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
        self._scope: Scope = scope
        self._per_sentence = scope == "sentence"
        self._pinyin = pinyin
        self._records: dict[int, Record] = {}
        self._recording = Hearing()
        self._open_sentences: dict[SentenceId, Hearing] = {}
        self._finished: set[SentenceId] = set()
        self._closed = False
        # Rules that silence makes true, not yet found true by a sentence that holds none of their keywords.
        self._silent = [index for index in ruleset.silent if self._selected(index)]
        self._around = Circumstances()
        self._acoustics = Acoustics((n, one) for n, one in ruleset.measures.items() if one.kind != "rate")
        self._rates = {n: one for n, one in ruleset.measures.items() if one.kind == "rate"}
        self._sounded: dict[int, int] = {}
        self._born: dict[SentenceId, int] = {}
        self._since: dict[RuleIdentity, int] = {}
        self._touched: set[int] = set()
        self._whole = View(None, self._around)
        self._views: dict[int, View] = {}
        # Rules whose window ends at a time of its own, the next first.
        self._windows = sorted((index for index in ruleset.early if self._selected(index)), key=self._window_ms)
        self._late: list[tuple[int, SentenceId, Hearing]] = []
        self._facts: list[_Fact] = []
        self._growing: dict[SentenceId, list[tuple[str, Said]]] = {}

    # --- what is said ---

    def partial(self, sentence_id: SentenceId, text: str, said: Said = _UNKNOWN) -> list[Verdict]:
        """Take a sentence's text so far, in place of an earlier partial one; ignored once it has its final text.

        Partial text raises alerts and takes none back. Raises ValueError after `close()`.
        """
        self._require_open(f"partial text of sentence {sentence_id!r}")
        if sentence_id in self._finished:
            return []
        self._growing.setdefault(sentence_id, []).append((text, said))
        heard = self._heard(Sentence(sentence_id, text, said, self._birth(sentence_id), _LAST, partial=True))
        unit, hearing = self._unit(sentence_id)
        return self._update(self._holding(hearing.add_partial(sentence_id, heard)), unit, hearing, {})

    def final(self, sentence_id: SentenceId, text: str, said: Said = _UNKNOWN) -> list[Verdict]:
        """Take a sentence's final text; raises ValueError if it has one already, or after `close()`."""
        self._require_open(f"final text of sentence {sentence_id!r}")
        if sentence_id in self._finished:
            raise ValueError(f"sentence {sentence_id!r} already has its final text")
        self._growing.pop(sentence_id, None)
        self._facts.append(lambda it: it.final(sentence_id, text, said))
        sentence = Sentence(sentence_id, text, said, self._birth(sentence_id), len(self._finished), partial=False)
        heard = self._heard(sentence)
        unit, hearing = self._unit(sentence_id)
        touched = self._holding(hearing.add_final(sentence_id, heard))
        self._finished.add(sentence_id)
        if self._per_sentence:
            hearing.closed = True
            hearing.span_ms = said.span_ms
            del self._open_sentences[sentence_id]
            self._late += [(index, sentence_id, hearing) for index in touched & self._ruleset.late]
            # Rules that this sentence makes true by what it doesn't hold; after that they are so for good.
            touched.update(self._silent)
        verdicts = self._update(touched, unit, hearing, heard)
        if self._per_sentence:
            records = self._records
            self._silent = [one for one in self._silent if one not in records or records[one].verdict.state != "final"]
            for index in touched & records.keys():
                records[index].fold(sentence_id)
        return verdicts

    # --- what happens beside ---

    def opened(self, channel: int, begin_ms: int) -> list[Verdict]:
        """Somebody begins to speak on a channel."""
        self._facts.append(lambda it: it.opened(channel, begin_ms))
        return self._measured(self._acoustics.opened(channel, begin_ms)) if self._acoustics.wanted else []

    def spoke(self, sentence_id: SentenceId, channel: int, begin_ms: int, end_ms: int) -> list[Verdict]:
        """An utterance is over."""
        self._facts.append(lambda it: it.spoke(sentence_id, channel, begin_ms, end_ms))
        if not self._acoustics.wanted:
            return []
        return self._measured(self._acoustics.spoke(channel, begin_ms, end_ms), sentence_id)

    def labelled(self, sentence_id: SentenceId, name: str, *, stable: bool) -> list[Verdict]:
        """Who speaks in a sentence, as far as known (empty: nobody known); a later label takes its place."""
        if self._around.labels.get(sentence_id) == (name, stable):
            return []
        self._facts.append(lambda it: it.labelled(sentence_id, name, stable=stable))
        self._around.labels[sentence_id] = name, stable
        unit = sentence_id if self._per_sentence else None
        hearing = self._open_sentences.get(sentence_id) if self._per_sentence else self._recording
        return [] if hearing is None else self._update(self._ruleset.personal & self._touched, unit, hearing, {})

    def lost(self, channel: int, role: str, begin_ms: int, end_ms: int) -> list[Verdict]:
        """Audio of a channel that nobody heard: it may hide words."""
        self._facts.append(lambda it: it.lost(channel, role, begin_ms, end_ms))
        self._around.lose(Hole(channel, role, begin_ms, end_ms))
        return self._measured(self._acoustics.lost(begin_ms, end_ms))

    def settled(self, until_ms: int) -> list[Verdict]:
        """All that was said before `until_ms` has its final text, and all that will be said begins later."""
        if until_ms <= self._around.settled_ms or self._closed:
            return []
        self._around.settled_ms = until_ms
        changed = self._measured(self._acoustics.passed(until_ms))
        past = 0
        while past < len(self._windows) and self._window_ms(self._windows[past]) <= until_ms:
            past += 1
        over, self._windows = self._windows[:past], self._windows[past:]
        return changed + ([] if self._per_sentence else self._update(over, None, self._recording, {}))

    def close(self, end_ms: int | None = None) -> list[Verdict]:
        """End the call: what was not heard is false. Raises ValueError if it has ended already.

        A sentence that never got its final text settles nothing: its keywords stay provisional. `end_ms`: where the
        call ended on the media clock, for what must be said in its last seconds.
        """
        self._require_open("the end of the call")
        self._closed = True
        self._around.end_ms = end_ms if end_ms is not None else self._around.settled_ms
        self._around.settled_ms = max(self._around.settled_ms, self._around.end_ms)
        changed = self._measured(self._acoustics.passed(self._around.end_ms))
        if self._per_sentence:
            late = (self._update([index], unit, hearing, {}) for index, unit, hearing in self._late)
            return changed + [verdict for verdicts in late for verdict in verdicts]
        self._recording.closed = True
        return changed + self._update(self._touched | set(self._silent), None, self._recording, {})

    # --- how it stands ---

    @property
    def holes(self) -> list[Hole]:
        """Those long enough to hide a word."""
        return self._around.holes

    def verdicts(self) -> list[Verdict]:
        """All rules that stand now, final or provisional, in the order of the rules; `added` is empty."""
        current = (self._records[index].current() for index in sorted(self._records))
        return [verdict for verdict in current if verdict is not None]

    def rejudged(self, categories: Collection[str]) -> "CallEvaluator":
        """The same call judged by other categories from its beginning on."""
        return self._again(self._ruleset, categories, self._since)

    def under(self, ruleset: RuleSet) -> "CallEvaluator":
        """The same call under another version of the rules, which applies from the next sentence on.

        A rule that was there before goes on as if nothing had happened. For a new one, keywords count from the next
        sentence that begins; but a word that forbids it counts whenever it was said. Raises ValueError after `close()`.
        """
        self._require_open("a new version of the rules")
        known = {compiled.rule.identity for compiled in self._ruleset.compiled}
        since = {
            one: self._since.get(one, 0) if one in known else len(self._born)
            for one in (compiled.rule.identity for compiled in ruleset.compiled)
        }
        return self._again(ruleset, self._categories, since)

    def _again(self, ruleset: RuleSet, categories: Collection[str], since: dict[RuleIdentity, int]) -> "CallEvaluator":
        again = CallEvaluator(ruleset, categories, self._scope, pinyin=self._pinyin)
        again._since = {one: births for one, births in since.items() if births}
        again._born = dict(self._born)
        for fact in self._facts:
            fact(again)
        for sentence_id, texts in self._growing.items():
            for text, said in texts:
                again.partial(sentence_id, text, said)
        again.settled(self._around.settled_ms)
        return again

    # --- inside ---

    def _require_open(self, event: str) -> None:
        if self._closed:
            raise ValueError(f"{event} came after the call had ended")

    def _birth(self, sentence_id: SentenceId) -> int:
        return self._born.setdefault(sentence_id, len(self._born))

    def _heard(self, sentence: Sentence) -> HeardByKeyword:
        heard = sentence.located(self._find(sentence.text))
        if self._rates and not sentence.partial:
            self._add_rates(sentence, heard)
        return heard

    def _add_rates(self, sentence: Sentence, heard: HeardByKeyword) -> None:
        text, said = sentence.text, sentence.said
        words, duration_ms = count_words(text), said.end_ms - said.begin_ms
        for keyword_id, measure in self._rates.items():
            if measure.holds_for(words, duration_ms):
                times_ms = said.span_ms
                evidence = Evidence(sentence.sentence_id, text, 0, len(text), str(measure), "exact", times_ms)
                heard[keyword_id] = [Heard(sentence.order, 0, keyword_id, EXACT, evidence, said, sentence.born)]

    def _measured(self, sounded: Iterable[Sounded], sentence_id: SentenceId = "") -> list[Verdict]:
        """What silence and talk-over make of the rules; judged by the sentence, each stands for itself."""
        changed: list[Verdict] = []
        for keyword_id, begin_ms, end_ms in sounded:
            nth = self._sounded[keyword_id] = self._sounded.get(keyword_id, 0) + 1
            said = Said(-1, "", begin_ms, end_ms)
            spelling = self._ruleset.keywords[keyword_id]
            evidence = Evidence(sentence_id, "", 0, 0, spelling, "exact", (begin_ms, end_ms))
            heard = {keyword_id: [Heard(len(self._finished), nth, keyword_id, EXACT, evidence, said, len(self._born))]}
            unit, hearing = None, self._recording
            if self._per_sentence:
                unit, hearing = f"{spelling} at {begin_ms}", Hearing()
                hearing.closed = True
            touched = self._holding(hearing.add_final(unit or f"{spelling} at {begin_ms}", heard))
            changed += self._update(touched, unit, hearing, heard)
        return changed

    def _find(self, text: str) -> list[Hit]:
        return self._ruleset.find(text, pinyin=self._pinyin or self._ruleset.has_pinyin_rules)

    def _unit(self, sentence_id: SentenceId) -> tuple[SentenceId | None, Hearing]:
        if not self._per_sentence:
            return None, self._recording
        return sentence_id, self._open_sentences.setdefault(sentence_id, Hearing())

    def _selected(self, index: int) -> bool:
        return not self._categories or self._ruleset.compiled[index].rule.category in self._categories

    def _holding(self, keyword_ids: Iterable[int]) -> set[int]:
        rules_of = self._ruleset.rules_of
        if not self._categories:
            return {index for keyword_id in keyword_ids for index in rules_of[keyword_id]}
        return {index for keyword_id in keyword_ids for index in rules_of[keyword_id] if self._selected(index)}

    def _window_ms(self, index: int) -> float:
        asked = self._ruleset.compiled[index].conditions
        assert asked is not None and asked.options.first_s is not None
        return asked.options.first_s * 1000

    def _view(self, compiled: CompiledRule) -> View:
        if compiled.conditions is None and not self._since:
            return self._whole
        view = self._views.get(compiled.index)
        if view is None:
            since = self._since.get(compiled.rule.identity, 0) if self._since else 0
            view = self._views[compiled.index] = View(compiled, self._around, since)
        return view

    def _update(
        self, rules: Iterable[int], unit: SentenceId | None, hearing: Hearing, heard: HeardByKeyword
    ) -> list[Verdict]:
        """Judge these rules anew; `heard`: what the final text that is the occasion holds."""
        changed = []
        for index in sorted(rules):
            self._touched.add(index)
            verdict = self._judge(index, unit, hearing, heard)
            if verdict is not None:
                changed.append(verdict)
        return changed

    def _judge(self, index: int, unit: SentenceId | None, hearing: Hearing, heard: HeardByKeyword) -> Verdict | None:
        compiled = self._ruleset.compiled[index]
        record = self._records.get(index)
        by_sound = self._pinyin or compiled.rule.pinyin
        view = self._view(compiled)
        if record is None:
            first = stand(compiled, hearing, told=None, by_sound=by_sound, view=view)
            if first is None:
                return None
            record = self._records[index] = Record(compiled)
            return record.put(unit, first)
        before = record.standings.get(unit)
        if before is not None and before.state == "final" and view.plain:
            # True for good: there is only evidence to add.
            new = list(for_good(compiled, heard, by_sound=by_sound))
            return record.extend(before, new, part_true(compiled, hearing, before, by_sound=by_sound)) if new else None
        told = record.told if before is not None and before.state == "provisional" else None
        standing = stand(compiled, hearing, told=told, by_sound=by_sound, view=view)
        if before is not None and before.state == "final" and (standing is None or standing.state != "final"):
            return None  # a label that changed, or text that came too late for its window, undoes nothing
        return record.put(unit, standing)
