"""The final, two-valued judgement of a recording for voice QC, by the evaluator that live calls use."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from protocol.rules.acoustics import in_turn
from protocol.rules.circumstances import Said
from protocol.rules.evaluator import CallEvaluator
from protocol.rules.hearing import Evidence
from protocol.rules.matcher import Rule, RuleSet
from protocol.rules.record import Verdict


class RuleHit(msgspec.Struct, frozen=True):
    """A rule that is true: the positive keywords heard for it (none for a rule of negatives alone)."""

    rule: Rule
    evidence: tuple[Evidence, ...]
    made_true: str

    @property
    def keywords(self) -> tuple[str, ...]:
        """Each keyword once, as the rule spells it, in the order heard."""
        return tuple(dict.fromkeys(one.keyword for one in self.evidence))


class CategoryHit(msgspec.Struct, frozen=True):
    """A category with at least one true rule, in the order of its rules."""

    category: str
    rules: tuple[RuleHit, ...]

    @property
    def keywords(self) -> tuple[str, ...]:
        """Each keyword of its true rules once, in the order of the rules."""
        return tuple(dict.fromkeys(keyword for rule in self.rules for keyword in rule.keywords))


class SentenceJudgement(msgspec.Struct, frozen=True):
    """One sentence judged alone, as if it were the whole recording."""

    text: str
    categories: tuple[CategoryHit, ...]


class Judgement(msgspec.Struct, frozen=True):
    """`recording`: the categories its whole text hits. `sentences`: one judgement for each sentence given."""

    recording: tuple[CategoryHit, ...]
    sentences: tuple[SentenceJudgement, ...]


def judge(
    ruleset: RuleSet,
    sentences: Sequence[str],
    categories: Collection[str] | None = None,
    *,
    pinyin: bool = False,
    said: Sequence[Said] | None = None,
    speakers: Mapping[int, str] | None = None,
    duration_ms: int | None = None,
) -> Judgement:
    """Judge a recording's sentences (all channels, in order) together, and each alone.

    `categories` limits the rules (None or empty: all). `pinyin` matches by sound for every rule, which
    needs a RuleSet compiled with it (else ValueError); without it only rules with `pinyin` set do. A
    keyword that matches by sound counts as said. Evidence names sentences by their index in `sentences`.
    What rules with options ask for: `said`, who said each sentence and when, `speakers`, the names known, by index,
    and `duration_ms`, of the recording (default: the end of what was said).
    """
    facts = said or [Said()] * len(sentences)
    end_ms = duration_ms if duration_ms is not None else max((one.end_ms for one in facts), default=0)
    lines = [
        _Line(index, text, fact, (speakers or {}).get(index, ""))
        for index, (text, fact) in enumerate(zip(sentences, facts, strict=True))
    ]

    def alone(line: _Line) -> tuple[CategoryHit, ...]:
        evaluator = CallEvaluator(ruleset, categories, pinyin=pinyin)
        evaluator.opened(line.said.channel, 0)  # no silence is in a sentence
        return _judged(evaluator, [line], end_ms)

    whole = CallEvaluator(ruleset, categories, pinyin=pinyin)
    for begins, channel, begin_ms, stop_ms in in_turn((line.said.channel, *line.said.span_ms) for line in lines):
        if begins:
            whole.opened(channel, begin_ms)
        else:
            whole.spoke("", channel, begin_ms, stop_ms)
    return Judgement(
        recording=_judged(whole, lines, end_ms),
        sentences=tuple(SentenceJudgement(line.text, alone(line)) for line in lines),
    )


class _Line(NamedTuple):
    number: int
    text: str
    said: Said
    speaker: str


def _judged(evaluator: CallEvaluator, lines: Sequence[_Line], end_ms: int) -> tuple[CategoryHit, ...]:
    for line in lines:
        evaluator.final(line.number, line.text, line.said)
        if line.speaker:
            evaluator.labelled(line.number, line.speaker, stable=True)
    evaluator.close(end_ms)
    # With all text final and the call over, only matching by sound can leave a verdict provisional.
    return _by_category(evaluator.verdicts())


def _by_category(verdicts: Iterable[Verdict]) -> tuple[CategoryHit, ...]:
    hits: dict[str, list[RuleHit]] = {}
    for verdict in verdicts:
        hit = RuleHit(verdict.rule, verdict.hits, verdict.made_true)
        hits.setdefault(verdict.rule.category, []).append(hit)
    return tuple(CategoryHit(category, tuple(rules)) for category, rules in hits.items())
