"""Rules that are well formed and hardly meant."""

from typing import Any

import pytest

from protocol.rules.book import parsed
from protocol.rules.doubts import doubts


def kinds(*contents: Any) -> list[tuple[int, str]]:
    return [(one.index, one.kind) for one in doubts(parsed({"category": "c", "contents": list(contents)}))]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("refund&&!refund", "never"),
        ("pay now&&!now", "never"),  # who says the one has said the other
        ("貸款||!贷款", "always"),
        ("款", "short_keyword"),
        ("refund||？", "unspeakable"),
        ({"expression": "boss:refund"}, "unknown_role"),
        ({"expression": "refund", "role": "boss"}, "unknown_role"),
    ],
)
def test_a_doubtful_rule_is_told_of(content: Any, kind: str) -> None:
    assert kinds("fine words", content) == [(1, kind)]


@pytest.mark.parametrize(
    "content",
    [
        "refund&&!refunded",
        "now&&!pay now",
        "!refund",
        {"expression": "agent:refund&&!customer:refund"},
        {"expression": "silence>3s&&!silence>9s"},
        {"expression": "refund||!refund", "count": 2},
        "||".join(f"word{number}&&!word{number}" for number in range(13)),
    ],
)
def test_a_rule_that_may_be_meant_is_not(content: Any) -> None:
    assert kinds(content) == []


def test_rules_that_differ_in_spelling_or_order_only_are_duplicates() -> None:
    assert kinds("refund&&Pay  now", "PAY NOW && refund", "refund||pay now") == [(1, "duplicate")]
    assert kinds("refund", {"expression": "refund", "count": 2}) == []
