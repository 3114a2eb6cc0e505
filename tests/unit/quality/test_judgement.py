"""The judgement's fields: the recording as a whole, then each sentence alone."""

from typing import Any

import msgspec

from gateway.ports import StoredCategory
from gateway.quality.judgement import detection
from gateway.quality.order import Order

CATEGORIES = [
    StoredCategory("退款", "", ("缺货&&退款", "贷款")),
    StoredCategory("必说", "", ("!逾期",)),
    StoredCategory("会议", "", ("会议||例会",)),
]
SENTENCES = ["现在缺货。", "我要退款。"]


def _judged(*, detect: bool = True, explain: bool = True, categories: tuple[str, ...] = ()) -> dict[str, Any]:
    order = Order(
        kind="file",
        sample_rate_hz=8000,
        split=False,
        language="auto",
        detect=detect,
        explain=explain,
        categories=categories,
    )
    judged: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(detection(order, SENTENCES, 7, CATEGORIES)))
    return judged


def test_the_recording_is_judged_over_all_sentences_and_each_sentence_alone() -> None:
    judged = _judged(categories=("退款", "会议"))
    hit = {"content": "缺货&&退款", "hit": True, "keyword": ["缺货", "退款"]}
    assert judged == {
        "pass_detection": "failed",
        "detection_result": [{"category": "退款", "keyword": ["缺货", "退款"], "detail": [hit]}],
        "detection_detail": {
            "hit": True,
            "keyword": ["缺货", "退款"],
            "detail": [
                {"text": "现在缺货。", "hit": False, "detail": []},
                {"text": "我要退款。", "hit": False, "detail": []},
            ],
        },
        "rules_version": 7,
    }


def test_a_rule_of_negatives_alone_hits_without_keywords() -> None:
    judged = _judged(categories=("必说",))
    assert judged["detection_result"][0]["keyword"] == []
    content = {"content": "!逾期", "hit": True, "keyword": []}
    category = {"category": "必说", "hit": True, "keyword": [], "detail": [content]}
    assert judged["detection_detail"]["detail"][0] == {"text": "现在缺货。", "hit": True, "detail": [category]}


def test_nothing_hit_passes() -> None:
    judged = _judged(categories=("会议",))
    assert judged["pass_detection"] == "success"
    assert judged["detection_result"] == []
    assert judged["detection_detail"]["hit"] is False


def test_without_detail_the_detail_is_an_empty_object() -> None:
    judged = _judged(explain=False, categories=("退款",))
    assert judged["detection_result"] == [{"category": "退款", "keyword": ["缺货", "退款"]}]
    assert judged["detection_detail"] == {}


def test_without_detection_all_passes_with_empty_lists() -> None:
    assert _judged(detect=False) == {
        "pass_detection": "success",
        "detection_result": [],
        "detection_detail": {"hit": False, "keyword": [], "detail": []},
    }


def test_a_category_that_does_not_exist_is_named_and_the_others_still_count() -> None:
    judged = _judged(categories=("退款", "旧的"))
    assert judged["pass_detection"] == "failed"
    assert judged["unknown_categories"] == ["旧的"]
