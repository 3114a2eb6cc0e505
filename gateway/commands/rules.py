"""`earshot rules check`: the faults of a file of rules, each with a caret under it."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from protocol.rules.book import BookError, Category, examined, parsed
from protocol.rules.doubts import Doubt, doubts


@click.group()
def rules() -> None:
    """Look after quality rules."""


@rules.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
def check(file: Path, as_json: bool) -> None:
    """Check the rules in FILE ("-": what comes in), printing every fault with a caret under it. Exit 1: there are some.

    JSON: a category {"category", "contents"}, a list of them, or {"categories": [...]}, as /v1/rules takes them.
    TOML: the same as [[category]] tables, where "name" may stand for "category". Anything else: one expression a line,
    lines that begin with # left out.
    """
    report = examine(file.name, _text_of(file))
    click.echo(json.dumps(report.as_json(), ensure_ascii=False, indent=2) if as_json else "\n".join(report.lines()))
    if report.errors:
        raise SystemExit(1)


@dataclass(frozen=True, slots=True)
class Remark:
    """A fault or a doubt; `line` counts from 1, None when it cannot be told."""

    line: int | None
    category: str
    index: int | None
    message: str
    position: int | None = None
    expected: str = ""
    caret: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What is to say about a file."""

    file: str
    rules: int
    errors: tuple[Remark, ...]
    warnings: tuple[Remark, ...]

    def lines(self) -> Iterator[str]:
        """For people."""
        for word, remarks in (("error", self.errors), ("warning", self.warnings)):
            for one in remarks:
                where = self.file if one.line is None else f"{self.file}:{one.line}"
                category = f'category "{one.category}": ' if one.category else ""
                yield f"{where}: {word}: {category}{one.message}"
                yield from (f"    {row}" for row in one.caret.splitlines())
        errors, warnings = _count(len(self.errors), "error"), _count(len(self.warnings), "warning")
        yield f"{_count(self.rules, 'rule')}: {errors}, {warnings}"

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        errors = [
            {
                "category": one.category,
                "index": one.index,
                "line": one.line,
                "position": one.position,
                "expected": one.expected,
                "message": one.message,
            }
            for one in self.errors
        ]
        warnings = [
            {"category": one.category, "index": one.index, "line": one.line, "kind": one.kind, "message": one.message}
            for one in self.warnings
        ]
        return {"file": self.file, "rules": self.rules, "errors": errors, "warnings": warnings}


def examine(name: str, text: str) -> Report:
    """Everything wrong or doubtful about the rules in `text`; its form goes by the name, or by a look at it."""
    form = _form(name, text)
    try:
        categories = _read(form, text)
    except json.JSONDecodeError as fault:
        return Report(name, 0, (Remark(fault.lineno, "", None, f"not JSON: {fault.msg}"),), ())
    except tomllib.TOMLDecodeError as fault:
        return Report(name, 0, (Remark(None, "", None, f"not TOML: {fault}"),), ())
    except RecursionError:
        return Report(name, 0, (Remark(None, "", None, "nested too deep to be rules"),), ())
    lines = _Lines(text, form)
    errors: list[Remark] = []
    warnings: list[Remark] = []
    count = 0
    for category in categories:
        taken, faults = examined(category)
        places = lines.of(category)
        count += len(places)
        errors += (_error(fault, places) for fault in faults)
        if taken is not None and not faults:
            warnings += (_warning(doubt, places) for doubt in doubts(taken))
    return Report(name, count, tuple(errors), tuple(warnings))


def categories_of(file: Path) -> list[Category]:
    """The rules in a file. Raises ClickException with every fault that `earshot rules check` would show."""
    text = _text_of(file)
    report = examine(file.name, text)
    if report.errors:
        raise click.ClickException("\n".join(["the rules cannot be used", *replace(report, warnings=()).lines()]))
    return [parsed(category) for category in _read(_form(file.name, text), text)]


def _error(fault: BookError, places: list[int | None]) -> Remark:
    line = places[fault.index] if fault.index is not None and fault.index < len(places) else None
    syntax = fault.fault
    if syntax is None:
        where = "" if fault.index is None else f"contents[{fault.index}]: "
        return Remark(line, fault.category, fault.index, f"{where}{fault.expected}", expected=fault.expected)
    return Remark(line, fault.category, fault.index, str(syntax), syntax.position, syntax.expected, syntax.caret())


def _warning(doubt: Doubt, places: list[int | None]) -> Remark:
    message = f"contents[{doubt.index}] {doubt.message}"
    return Remark(places[doubt.index], doubt.category, doubt.index, message, kind=doubt.kind)


# --- the file ---


def _text_of(file: Path) -> str:
    try:
        return sys.stdin.read() if file.name == "-" else file.read_text("utf-8-sig")
    except OSError as fault:
        raise click.ClickException(f"{file} cannot be read: {fault.strerror}") from fault
    except UnicodeDecodeError as fault:
        raise click.ClickException(f"{file} is not UTF-8 text: {fault.reason} at byte {fault.start}") from fault


def _form(name: str, text: str) -> str:
    for form in ("json", "toml"):
        if name.endswith(f".{form}"):
            return form
    if name == "-" and text.lstrip().startswith("[["):
        return "toml"
    return "json" if name == "-" and text.lstrip()[:1] in ("{", "[") else "text"


def _read(form: str, text: str) -> list[Any]:
    if form == "text":
        return [{"category": "rules", "contents": [line for _, line in _expressions(text)]}] if text.strip() else []
    book = json.loads(text) if form == "json" else tomllib.loads(text)
    if isinstance(book, dict) and "contents" not in book:
        book = book.get("categories", book.get("category", book))
    return [_named(one) for one in (book if isinstance(book, list) else [book])]


def _named(category: Any) -> Any:
    if isinstance(category, dict) and "category" not in category and "name" in category:
        category = {**category, "category": category["name"]}
        del category["name"]
    return category


def _expressions(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line.strip()


class _Lines:
    """Finds the lines of contents, reading on from where the last one was found."""

    def __init__(self, text: str, form: str) -> None:
        self._text = text
        self._numbers = [number for number, _ in _expressions(text)] if form == "text" else None
        self._at = 0

    def of(self, category: Any) -> list[int | None]:
        """The line of each content of a category."""
        contents = category.get("contents") if isinstance(category, dict) else None
        if not isinstance(contents, list):
            return []
        if self._numbers is not None:
            return [*self._numbers]
        return [self._line(one.get("expression") if isinstance(one, dict) else one) for one in contents]

    def _line(self, expression: Any) -> int | None:
        if not isinstance(expression, str):
            return None
        written = (json.dumps(expression, ensure_ascii=False), json.dumps(expression), f"'{expression}'")
        found = [at for one in written if (at := self._text.find(one, self._at)) >= 0]
        if not found:
            return None
        self._at = min(found) + 1
        return self._text.count("\n", 0, min(found)) + 1


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
