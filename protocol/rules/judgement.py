"""The final, two-valued judgement of a recording for voice QC, by the evaluator that live calls use."""

from collections.abc import Collection, Iterable, Sequence

import msgspec

from protocol.rules.evaluator import CallEvaluator, Verdict
from protocol.rules.hearing import Evidence
from protocol.rules.matcher import Rule, RuleSet


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
) -> Judgement:
    """Judge a recording's sentences (all channels, in order) together, and each alone.

    `categories` limits the rules (None or empty: all). `pinyin` matches by sound for every rule, which
    needs a RuleSet compiled with it (else ValueError); without it only rules with `pinyin` set do. A
    keyword that matches by sound counts as said. Evidence names sentences by their index in `sentences`.
    """
    return Judgement(
        recording=_judged(ruleset, enumerate(sentences), categories, pinyin=pinyin),
        sentences=tuple(
            SentenceJudgement(text, _judged(ruleset, [(index, text)], categories, pinyin=pinyin))
            for index, text in enumerate(sentences)
        ),
    )


def _judged(
    ruleset: RuleSet,
    sentences: Iterable[tuple[int, str]],
    categories: Collection[str] | None,
    *,
    pinyin: bool,
) -> tuple[CategoryHit, ...]:
    evaluator = CallEvaluator(ruleset, categories, pinyin=pinyin)
    for index, text in sentences:
        evaluator.final(index, text)
    evaluator.close()
    # With all text final and the call over, only matching by sound can leave a verdict provisional.
    return _by_category(evaluator.verdicts())


def _by_category(verdicts: Iterable[Verdict]) -> tuple[CategoryHit, ...]:
    hits: dict[str, list[RuleHit]] = {}
    for verdict in verdicts:
        hit = RuleHit(verdict.rule, verdict.hits, verdict.made_true)
        hits.setdefault(verdict.rule.category, []).append(hit)
    return tuple(CategoryHit(category, tuple(rules)) for category, rules in hits.items())
