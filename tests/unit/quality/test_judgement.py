"""The judgement's fields: the recording as a whole, then each sentence alone."""

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.ports import StoredCategory
from gateway.quality.judgement import detection
from gateway.quality.order import Order
from protocol.quality_result import Sentence
from protocol.rules import Content

CATEGORIES = [
    StoredCategory("退款", "", ("缺货&&退款", "贷款")),
    StoredCategory("必说", "", ("!逾期",)),
    StoredCategory("会议", "", ("会议||例会",)),
]
SENTENCES = [
    Sentence(
        sentence=text,
        speaker_id=channel,
        begin_time=0,
        end_time=0,
        voice_speed=0,
        voice_power=0,
        begin_ms=begin_ms,
        end_ms=begin_ms + 2000,
    )
    for text, channel, begin_ms in (("现在缺货。", 0, 0), ("我要退款。", 1, 5000))
]


def _judged(
    *,
    detect: bool = True,
    explain: bool = True,
    categories: tuple[str, ...] = (),
    rules: Sequence[StoredCategory] = CATEGORIES,
    split: bool = False,
) -> dict[str, Any]:
    order = Order(
        kind="file",
        sample_rate_hz=8000,
        split=split,
        language="auto",
        detect=detect,
        explain=explain,
        categories=categories,
    )
    judged: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(detection(order, SENTENCES, 60_000, 7, rules)))
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


def _contents_hit(*contents: Content | str, split: bool = True) -> list[Any]:
    judged = _judged(rules=[StoredCategory("c", "", contents)], split=split)
    return [one for hit in judged["detection_result"] for one in hit["detail"]]


def test_a_rule_with_options_is_judged_by_who_speaks_and_names_its_options() -> None:
    by_customer = Content(expression="退款", role="customer", last_s=58)
    assert _contents_hit(by_customer, Content(expression="退款", role="agent"), "退款") == [
        {"content": "退款", "hit": True, "keyword": ["退款"], "options": {"role": "customer", "last_s": 58.0}},
        {"content": "退款", "hit": True, "keyword": ["退款"]},
    ]
    assert _contents_hit(by_customer, split=False) == []


def test_silence_is_judged_from_the_times_of_all_sentences() -> None:
    (hit,) = _contents_hit(Content(expression="silence>50s"), Content(expression="silence>54s"))
    assert (hit["content"], hit["keyword"]) == ("silence>50s", ["silence>50s"])
    judged = _judged(rules=[StoredCategory("c", "", (Content(expression="silence>1s"),))])
    assert [one["hit"] for one in judged["detection_detail"]["detail"]] == [False, False]


def test_rules_in_shadow_or_about_a_speakers_name_are_not_judged_here() -> None:
    assert _contents_hit(Content(expression="退款", shadow=True), Content(expression="!贷款", speaker="Ann")) == []
