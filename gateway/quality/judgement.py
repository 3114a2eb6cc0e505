"""From the evaluator's judgement to the fields of the API: the recording as a whole, then each sentence alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from gateway.ports import StoredCategory
from gateway.quality.order import Order
from protocol import rules
from protocol.quality_result import (
    CategoryHit,
    CategoryVerdict,
    ContentVerdict,
    Detection,
    DetectionDetail,
    Sentence,
    SentenceVerdict,
)
from protocol.rules.book import all_rules

ROLES = ("agent", "customer")
"""Who speaks on the channels of a recording in stereo, as a call's `start` has it by default."""


def detection(
    order: Order,
    sentences: Sequence[Sentence],
    duration_ms: int,
    version: int,
    categories: Sequence[StoredCategory],
) -> Detection:
    """What the rules of `version` make of a recording's sentences. Blocking: compiles all rules.

    Rules in shadow, and those that ask for a speaker's name, which nobody knows here, are left out.
    A category asked for that does not exist (any more) is named in `unknown_categories`; the others still count.
    Raises RuleSetError if a kept rule is not well formed.
    """
    if not order.detect:
        nothing = DetectionDetail(hit=False, keyword=(), detail=())
        return Detection(detection_detail=nothing) if order.explain else Detection()
    wanted = {
        one.category: one.contents for one in categories if not order.categories or one.category in order.categories
    }
    unknown = tuple(name for name in dict.fromkeys(order.categories) if name not in wanted)
    judgement = rules.judge(
        rules.RuleSet(filter(_judged_here, all_rules(wanted.items(), version))),
        [one.sentence for one in sentences],
        said=[_said(one, split=order.split) for one in sentences],
        duration_ms=duration_ms,
    )
    judged = Detection(
        pass_detection="failed" if judgement.recording else "success",
        detection_result=tuple(_recording_hit(hit, explain=order.explain) for hit in judgement.recording),
        rules_version=version,
        unknown_categories=unknown or msgspec.UNSET,
    )
    if not order.explain:
        return judged
    return msgspec.structs.replace(judged, detection_detail=_detail(judgement))


def _judged_here(rule: rules.Rule) -> bool:
    return not rule.shadow and not (rule.options and rule.options.speaker)


def _said(sentence: Sentence, *, split: bool) -> rules.Said:
    # Speakers told apart in one channel have no roles, and the channel that a rule may ask for is still that one.
    channel = sentence.speaker_id if split else 0
    return rules.Said(channel, ROLES[channel % 2] if split else "mixed", sentence.begin_ms, sentence.end_ms)


def _recording_hit(hit: rules.CategoryHit, *, explain: bool) -> CategoryHit:
    detail = _contents(hit) if explain else msgspec.UNSET
    return CategoryHit(category=hit.category, keyword=hit.keywords, detail=detail)


def _detail(judgement: rules.Judgement) -> DetectionDetail:
    return DetectionDetail(
        hit=bool(judgement.recording),
        keyword=_once(keyword for hit in judgement.recording for keyword in hit.keywords),
        detail=tuple(
            SentenceVerdict(
                text=sentence.text,
                hit=bool(sentence.categories),
                detail=tuple(
                    CategoryVerdict(category=hit.category, hit=True, keyword=hit.keywords, detail=_contents(hit))
                    for hit in sentence.categories
                ),
            )
            for sentence in judgement.sentences
        ),
    )


def _contents(hit: rules.CategoryHit) -> tuple[ContentVerdict, ...]:
    return tuple(
        ContentVerdict(
            content=one.rule.expression,
            hit=True,
            keyword=one.keywords,
            options=msgspec.UNSET if one.rule.options is None else one.rule.options,
        )
        for one in hit.rules
    )


def _once(keywords: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(keywords))
