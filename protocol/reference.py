"""The parts of `docs/protocol.md` that the types and tables of this package know best, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from protocol import descriptions, examples, watching
from protocol.asyncapi import CLIENT_KINDS, HEADER_FIELDS, SERVER_KINDS, TOLD_KINDS, WATCHER_KINDS, schemas
from protocol.errors import CLOSE_CODES, CODES, REFUSALS, ErrorCode

_ON_EVERY_SERVER_MESSAGE = ("call_id", "seq", "at_ms")
_WATCH_PARTS = ("LatestText", "AlertInBrief")
_PARTS = ("Word", "Candidate", "Evidence", "Missed")


def client_messages() -> str:
    return _messages("client", examples.CLIENT, CLIENT_KINDS)


def server_messages() -> str:
    return _messages("server", examples.SERVER, SERVER_KINDS)


def watcher_messages() -> str:
    return _messages("watcher", examples.WATCHER, WATCHER_KINDS)


def told_messages() -> str:
    """What a watcher is told beside a call's own messages."""
    return _messages("told", examples.TOLD, TOLD_KINDS, hidden=())


def watch_parts() -> str:
    """The objects inside what a watcher is told."""
    components = schemas()
    return "\n\n".join(
        f"#### {name}\n\n{components[name]['description']}\n\n{_fields(components[name])}" for name in _WATCH_PARTS
    )


def watch_errors() -> str:
    return _codes(watching.CODES.values())


def parts() -> str:
    """The objects inside server messages."""
    components = schemas()
    return "\n\n".join(
        f"#### {name}\n\n{components[name]['description']}\n\n{_fields(components[name])}" for name in _PARTS
    )


def errors() -> str:
    return _codes(CODES.values())


def _codes(entries: Iterable[ErrorCode]) -> str:
    return _table(
        ("code", "close", "retryable", "meaning", "what to do"),
        (
            (f"`{one.code}`", str(one.close or "stays open"), "yes" if one.retryable else "no", one.meaning, one.remedy)
            for one in entries
        ),
    )


def refusals() -> str:
    return _table(("status", "code", "meaning"), ((str(one.status), f"`{one.code}`", one.meaning) for one in REFUSALS))


def close_codes() -> str:
    return _table(("close code", "meaning"), ((str(code), meaning) for code, meaning in sorted(CLOSE_CODES.items())))


def framed_header() -> str:
    return _table(
        ("offset", "bytes", "field", "type", "value"),
        ((str(offset), str(size), name, kind, meaning) for offset, size, name, kind, meaning in HEADER_FIELDS),
    )


def _messages(
    side: str,
    samples: Sequence[Struct],
    kinds: Iterable[type[Struct]],
    hidden: Sequence[str] = _ON_EVERY_SERVER_MESSAGE,
) -> str:
    components, by_kind = schemas(), {type(sample): sample for sample in samples}
    sections = []
    for kind in kinds:
        schema = components[kind.__name__]
        example = msgspec.json.encode(by_kind[kind]).decode()
        parts = [f"#### `{kind.__struct_config__.tag}`", descriptions.meaning(kind), _fields(schema, hidden)]
        sections.append("\n\n".join([*filter(None, parts), f"```json {side}\n{example}\n```"]))
    return "\n\n".join(sections)


def _fields(schema: dict[str, Any], hidden: Sequence[str] = ()) -> str:
    names = [name for name in schema["properties"] if name != "type" and name not in hidden]
    if not names:
        return ""
    from_client = schema.get("additionalProperties") is False
    rows = []
    for name in names:
        field = schema["properties"][name]
        default = [_default(name, field, schema)] if from_client else []
        rows.append([f"`{name}`", _type(field), *default, field["description"]])
    return _table(["field", "type", *(["default"] if from_client else []), "meaning"], rows)


def _default(name: str, field: dict[str, Any], schema: dict[str, Any]) -> str:
    if name in schema["required"]:
        return "required"
    return f"`{msgspec.json.encode(field['default']).decode()}`" if field.get("default") is not None else "absent"


def _type(field: dict[str, Any]) -> str:
    if "anyOf" in field:
        return _type(next(one for one in field["anyOf"] if one.get("type") != "null"))
    if "$ref" in field:
        return str(field["$ref"]).rpartition("/")[2]
    if "enum" in field:
        return " \\| ".join(f"`{value}`" for value in field["enum"])
    if field["type"] == "array":
        return f"list of {_type(field['items'])}"
    limits = [f"{field[key]} {word}" for key, word in _LIMITS.items() if key in field]
    return ", ".join([str(field["type"]), *limits])


_LIMITS = {
    "minLength": "characters at least",
    "maxLength": "characters at most",
    "minimum": "at least",
    "maximum": "at most",
}


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
