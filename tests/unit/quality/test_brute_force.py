"""The verdict that voice QC answers is the one that a plain reading of the rules gives, for any rules and any words."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway.ports import StoredCategory
from gateway.quality.judgement import detection
from gateway.quality.order import Order
from protocol.quality_result import Sentence
from protocol.rules import format_expression, parse
from tests.unit.rules.naive import contains, positive_keywords, true_for
from tests.unit.rules.strategies import expressions, sentences

contents = st.lists(expressions().map(format_expression), min_size=1, max_size=3, unique=True).map(tuple)
rule_books = st.dictionaries(st.sampled_from(["one", "two", "three"]), contents, max_size=3)
transcripts = st.lists(sentences, max_size=5)
asked = st.lists(st.sampled_from(["one", "two", "unknown"]), max_size=2, unique=True).map(tuple)


def answered(book: dict[str, tuple[str, ...]], said: list[str], categories: tuple[str, ...]) -> dict[str, Any]:
    """The judgement's fields as a caller gets them."""
    order = Order(
        kind="file",
        sample_rate_hz=8000,
        split=False,
        language="auto",
        detect=True,
        explain=True,
        categories=categories,
    )
    spoken = [
        Sentence(
            sentence=text,
            speaker_id=0,
            begin_time=at,
            end_time=at + 1,
            voice_speed=0,
            voice_power=0,
            begin_ms=at * 1000,
            end_ms=at * 1000 + 900,
        )
        for at, text in enumerate(said)
    ]
    stored = [StoredCategory(name, "", rules) for name, rules in book.items()]
    answer = detection(order, spoken, len(said) * 1000, 1, stored)
    whole: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(answer))
    return whole


def plainly(book: dict[str, tuple[str, ...]], said: list[str]) -> dict[str, tuple[str, ...]]:
    """The categories that a text hits, each with the rules that do."""
    hits = {name: tuple(rule for rule in rules if true_for(parse(rule), said)) for name, rules in book.items()}
    return {name: rules for name, rules in hits.items() if rules}


def heard(rules: tuple[str, ...], said: list[str]) -> set[str]:
    words = {word for rule in rules for word in positive_keywords(parse(rule))}
    return {word.replace(" ", "") for word in words if any(contains(text, word) for text in said)}


def same(hits: list[dict[str, Any]], plain: dict[str, tuple[str, ...]], said: list[str]) -> None:
    assert {hit["category"]: tuple(one["content"] for one in hit["detail"]) for hit in hits} == plain
    for hit in hits:
        assert {word.replace(" ", "") for word in hit["keyword"]} == heard(plain[hit["category"]], said)
        for one in hit["detail"]:
            assert one["hit"] is True
            assert {word.replace(" ", "") for word in one["keyword"]} == heard((one["content"],), said)


@given(rule_books, transcripts, asked)
def test_verdicts_and_keywords_are_those_of_brute_force(
    book: dict[str, tuple[str, ...]], said: list[str], categories: tuple[str, ...]
) -> None:
    answer = answered(book, said, categories)
    wanted = {name: rules for name, rules in book.items() if not categories or name in categories}
    recording = plainly(wanted, said)
    assert answer["pass_detection"] == ("failed" if recording else "success")
    same(answer["detection_result"], recording, said)
    assert answer.get("unknown_categories", []) == [name for name in categories if name not in book]
    detail = answer["detection_detail"]
    assert detail["hit"] is bool(recording)
    assert {word for hit in answer["detection_result"] for word in hit["keyword"]} == set(detail["keyword"])
    assert [one["text"] for one in detail["detail"]] == said
    for one in detail["detail"]:
        plain = plainly(wanted, [one["text"]])
        assert one["hit"] is bool(plain)
        assert all(hit["hit"] is True for hit in one["detail"])
        same(one["detail"], plain, [one["text"]])
