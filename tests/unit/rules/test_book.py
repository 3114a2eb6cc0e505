"""Categories as people write them: taken, or refused with the place of every fault."""

from typing import Any

import msgspec
import pytest

from protocol.rules import BookError, Content, Options, Rule
from protocol.rules.book import Category, compiled, examined, parsed, plain, rules_of

FULL = Content(
    expression="customer:a&&b", pinyin=True, speaker="Ann", first_s=30, count=2, order=True, within_ms=500, shadow=True
)


def category(*contents: Any, **more: Any) -> dict[str, Any]:
    return {"category": "c", "contents": list(contents), **more}


def test_contents_are_strings_or_objects_and_come_back_as_they_were() -> None:
    taken = parsed(category("a||b", msgspec.to_builtins(FULL), description="why"))
    assert taken.contents == ("a||b", FULL)
    assert msgspec.json.decode(msgspec.json.encode(taken), type=Category) == taken
    assert plain(taken.contents) == ("a||b",)


def test_a_string_is_the_vendors_rule_and_an_object_one_with_options() -> None:
    options = Options(speaker="Ann", first_s=30, count=2, order=True, within_ms=500)
    assert rules_of(parsed(category("a", msgspec.to_builtins(FULL))), 3) == [
        Rule("c", "a", 3),
        Rule("c", "customer:a&&b", 3, pinyin=True, options=options, shadow=True),
    ]


def test_a_category_in_shadow_puts_all_its_rules_there_and_changes_no_other_meaning() -> None:
    first, second = rules_of(parsed(category("silence>3s", {"expression": "b"}, shadow=True)), 1)
    assert (first.shadow, first.options, second.shadow, second.options) == (True, None, True, Options())


@pytest.mark.parametrize(
    ("content", "index", "position", "expected"),
    [
        ("a&&", 1, 3, 'a keyword, "!" or "("'),
        ({"expression": "a", "cuont": 2}, 1, None, "unknown field `cuont`"),
        ({"expression": "a", "count": 0}, 1, None, ">= 1"),
        ({"expression": "a", "first_s": -1}, 1, None, "> 0"),
        ({"pinyin": True}, 1, None, "expression"),
        (5, 1, None, "a string or an object with expression"),
        ({"expression": "silence<3s"}, 1, 7, "silence>10s"),
        ({"expression": "a&&silence>"}, 1, 10, "silence>10s"),
        ({"expression": "talkover>2"}, 1, 8, "talkover>2s"),
        ({"expression": "rate>0"}, 1, 4, "rate>300"),
        ({"expression": "a||agent:"}, 1, 9, 'a keyword after "agent:"'),
        ({"expression": "agent:silence>3s"}, 1, 0, "without a role"),
        ({"expression": "a", "first_s": 3, "last_s": 3}, 1, 0, "first_s or last_s, not both"),
        ({"expression": "a||b", "order": True}, 1, 0, "two or more keywords joined"),
        ({"expression": "a&&(b||c&&d)", "order": True}, 1, 7, "a plain keyword"),
        ({"expression": "a&&silence>3s", "within_ms": 9}, 1, 3, "a plain keyword"),
    ],
)
def test_a_fault_is_named_with_its_category_index_position_and_what_was_expected(
    content: Any, index: int, position: int | None, expected: str
) -> None:
    with pytest.raises(BookError, match="contents") as fault:
        parsed(category("good", content))
    assert (fault.value.category, fault.value.index, fault.value.position) == ("c", index, position)
    assert expected in fault.value.expected


@pytest.mark.parametrize(
    ("book", "expected"),
    [
        ({"category": "", "contents": ["a"]}, "length >= 1"),
        ({"category": "c"}, "missing required field `contents`"),
        ({"category": "c", "contents": []}, "length >= 1"),
        ({"category": "c", "contents": ["a"] * 1001}, "length <= 1000"),
        ({"category": "c", "contents": "a"}, "Expected `array`"),
        ({"category": "c", "contents": ["a"], "shade": 1}, "unknown field"),
        ([], "an object with category and contents"),
    ],
)
def test_what_is_no_category_is_refused_as_a_whole(book: Any, expected: str) -> None:
    with pytest.raises(BookError) as fault:
        parsed(book)
    assert fault.value.index is None
    assert expected in str(fault.value)


def test_every_fault_of_a_category_is_found() -> None:
    taken, faults = examined(category("a&&", "good", {"expression": "("}))
    assert taken is not None
    assert [fault.index for fault in faults] == [0, 2]


def test_rules_with_other_options_are_other_rules_and_have_another_digest() -> None:
    one = compiled([("c", ["a", Content(expression="a", count=2), Content(expression="a", count=2)])], 1)
    other = compiled([("c", ["a", Content(expression="a", count=3)])], 1)
    assert len(one.rules) == len(other.rules) == 2
    assert one.digest != other.digest
    assert (one.version, compiled([], 4).digest == compiled([], 5).digest) == (1, True)
