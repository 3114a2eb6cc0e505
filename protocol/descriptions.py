"""What the message types say of themselves: docstrings of classes, and of fields the string that follows each."""

from __future__ import annotations

import ast
import inspect
import sys
from functools import cache
from types import ModuleType

from msgspec import Struct


def meaning(kind: type[Struct]) -> str:
    """The class's docstring on one line. Raises ValueError when it has none of its own."""
    text = kind.__dict__.get("__doc__")
    if not text:
        raise ValueError(f"{kind.__name__} has no docstring")
    return _on_one_line(text)


def fields(kind: type[Struct]) -> dict[str, str]:
    """What each field means, inherited ones first. Raises ValueError when a field says nothing."""
    described: dict[str, str] = {}
    for owner in reversed(kind.__mro__):
        if owner.__module__.startswith("protocol."):
            described |= _in_module(sys.modules[owner.__module__]).get(owner.__name__, {})
    silent = [name for name in kind.__struct_fields__ if name not in described]
    if silent:
        raise ValueError(f"{kind.__name__} does not say what {', '.join(silent)} means")
    return {name: described[name] for name in kind.__struct_fields__}


@cache
def _in_module(module: ModuleType) -> dict[str, dict[str, str]]:
    tree = ast.parse(inspect.getsource(module))
    return {node.name: _of_class(node) for node in tree.body if isinstance(node, ast.ClassDef)}


def _of_class(node: ast.ClassDef) -> dict[str, str]:
    described = {}
    for field, after in zip(node.body, node.body[1:], strict=False):
        match field, after:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                described[name] = _on_one_line(text)
    return described


def _on_one_line(text: str) -> str:
    return " ".join(text.split())
