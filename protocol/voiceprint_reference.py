"""Tables of the voiceprint API for docs/voiceprint.md, made from the table of its operations."""

from __future__ import annotations

from protocol.voiceprint import Code
from protocol.voiceprint_operations import OPERATIONS, Field


def operations() -> str:
    """One row for each operation: where it is, what it takes."""
    rows = ["| operation | fields | what it does |", "| --- | --- | --- |"]
    for one in OPERATIONS:
        fields = ", ".join(_told(field) for field in one.fields if field.kind != "ignored")
        rows.append(f"| {one.method} `{one.path}` | {fields} | {one.summary} |")
    return "\n".join(rows)


def codes() -> str:
    """One row for each result code."""
    rows = ["| code | msg begins with | when |", "| --- | --- | --- |"]
    rows += [f"| {code.value} | {code.message} | {code.cause} |" for code in Code]
    return "\n".join(rows)


def _told(field: Field) -> str:
    names = " or ".join(f"`{name}`" for name in (field.name, *field.also))
    default = "" if field.default is None else f" ({field.default})"
    return f"{names}{default}" if field.required else f"[{names}{default}]"
