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
    SentenceVerdict,
)


def detection(order: Order, sentences: Sequence[str], version: int, categories: Sequence[StoredCategory]) -> Detection:
    """What the rules of `version` make of a recording's sentences. Blocking: compiles all rules.

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
    judgement = rules.judge(rules.RuleSet.from_categories(wanted, version), sentences)
    judged = Detection(
        pass_detection="failed" if judgement.recording else "success",
        detection_result=tuple(_recording_hit(hit, explain=order.explain) for hit in judgement.recording),
        rules_version=version,
        unknown_categories=unknown or msgspec.UNSET,
    )
    if not order.explain:
        return judged
    return msgspec.structs.replace(judged, detection_detail=_detail(judgement))


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
    return tuple(ContentVerdict(content=one.rule.expression, hit=True, keyword=one.keywords) for one in hit.rules)


def _once(keywords: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(keywords))
