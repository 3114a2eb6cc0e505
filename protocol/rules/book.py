"""Rules as people write and keep them: categories of contents, each a vendor's expression or one with options."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta

from protocol.rules.grammar import RuleSyntaxError, parse
from protocol.rules.matcher import Rule, RuleSet
from protocol.rules.options import Options, conditions

MAX_CATEGORIES = 10_000
MAX_CONTENTS = 1000


class Content(Options, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """An expression with options. In it, `customer:refund` and `silence>10s` are more than keywords."""

    expression: str
    pinyin: bool = False
    """Chinese keywords also match by their sound where exact is the default: in voice QC."""
    shadow: bool = False
    """Judged and counted, but it alerts nobody."""

    @property
    def options(self) -> Options:
        """What it asks beyond the vendor's language."""
        return Options(**{name: getattr(self, name) for name in Options.__struct_fields__})


AnyContent: TypeAlias = str | Content


class Category(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A category of rules; `contents` hold plain strings (the vendor's language) or objects."""

    category: Annotated[str, Meta(min_length=1, max_length=256)]
    contents: Annotated[tuple[AnyContent, ...], Meta(min_length=1, max_length=MAX_CONTENTS)]
    description: Annotated[str, Meta(max_length=4096)] = ""
    shadow: bool = False
    """Puts every content in shadow."""


class BookError(ValueError):
    """A category that can't be taken: which, the index of the wrong content (None: the category itself), and why.

    `expected` says what should stand where the fault is; `fault` has its position and caret, when it lies in an
    expression.
    """

    def __init__(self, category: str, index: int | None, expected: str, fault: RuleSyntaxError | None = None) -> None:
        self.category = category
        self.index = index
        self.expected = expected
        self.fault = fault
        self.position = None if fault is None else fault.position
        where = f'category "{category}"' if category else "the rules"
        place = "" if index is None else f", contents[{index}]"
        super().__init__(f"{where}{place}: {expected if fault is None else fault}")


def parsed(category: Any) -> Category:
    """A category out of decoded JSON or TOML, every expression well formed. Raises BookError for its first fault."""
    taken, faults = examined(category)
    if faults:
        raise faults[0]
    assert taken is not None
    return taken


def examined(category: Any) -> tuple[Category | None, list[BookError]]:
    """A category (None when it can't be read at all) and everything that is wrong with it."""
    name = category.get("category") if isinstance(category, dict) else None
    name = name if isinstance(name, str) else ""
    contents = category.get("contents") if isinstance(category, dict) else None
    if not isinstance(contents, list | tuple):
        return None, [_unreadable(name, None, category, Category)]
    faults = []
    for index, content in enumerate(contents):
        fault = _fault_of(name, index, content)
        if fault is not None:
            faults.append(fault)
    try:
        # The contents are looked at one by one above, to name the one that is wrong.
        shell = msgspec.convert({**category, "contents": contents[:MAX_CONTENTS] if faults else contents}, Category)
    except msgspec.ValidationError:
        return None, faults or [_unreadable(name, None, category, Category)]
    return shell, faults


def rules_of(category: Category, version: int) -> list[Rule]:
    """The rules of a category, in order."""
    return [_rule(category, content, version) for content in category.contents]


def plain(contents: Iterable[AnyContent]) -> tuple[str, ...]:
    """The contents that a vendor understands."""
    return tuple(content for content in contents if isinstance(content, str))


def expression_of(content: AnyContent) -> str:
    """The expression of a content, whatever else it asks."""
    return content if isinstance(content, str) else content.expression


def all_rules(categories: Iterable[tuple[str, Sequence[AnyContent]]], version: int) -> list[Rule]:
    """The rules of categories by name, in order."""
    return [
        rule
        for name, contents in categories
        for rule in rules_of(Category(category=name, contents=tuple(contents)), version)
    ]


def compiled(categories: Iterable[tuple[str, Sequence[AnyContent]]], version: int, *, pinyin: bool = False) -> RuleSet:
    """The same, ready to be matched; raises RuleSetError for an expression that doesn't parse."""
    return RuleSet(all_rules(categories, version), pinyin=pinyin)


def _rule(category: Category, content: AnyContent, version: int) -> Rule:
    if isinstance(content, str):
        if not category.shadow:
            return Rule(category.category, content, version)
        return Rule(category.category, content, version, shadow=True)
    return Rule(
        category.category,
        content.expression,
        version,
        pinyin=content.pinyin,
        options=content.options,
        shadow=content.shadow or category.shadow,
    )


def _fault_of(name: str, index: int, content: Any) -> BookError | None:
    try:
        taken: AnyContent = msgspec.convert(content, str | Content)
    except msgspec.ValidationError:
        return _unreadable(name, index, content, Content)
    try:
        tree = parse(expression_of(taken), extended=isinstance(taken, Content))
        if isinstance(taken, Content):
            conditions(taken.expression, tree, taken.options)
    except RuleSyntaxError as fault:
        return BookError(name, index, fault.expected, fault)
    return None


def _unreadable(name: str, index: int | None, found: Any, wanted: type) -> BookError:
    """What msgspec has against it, said once."""
    if not isinstance(found, dict):
        kind = "a string or an object with expression" if wanted is Content else "an object with category and contents"
        return BookError(name, index, f"expected {kind}")
    try:
        msgspec.convert(found, wanted)
    except msgspec.ValidationError as fault:
        return BookError(name, index, str(fault))
    raise AssertionError("it can be read after all")
