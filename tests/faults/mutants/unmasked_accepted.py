"""Reads a client's frames whether they are masked or not."""

from collections.abc import Generator
from typing import Any

from websockets.frames import Frame

_parse = Frame.parse


def _parse_any(read_exact: Any, *, mask: bool, **options: Any) -> Generator[None, None, Frame]:
    head = yield from read_exact(2)  # its last byte says whether a mask follows

    def replay(size_bytes: int) -> Generator[None, None, Any]:
        nonlocal head
        if head:
            again, head = head, b""
            return again
        return (yield from read_exact(size_bytes))

    return (yield from _parse(replay, mask=bool(head[1] & 0x80), **options))


def break_it() -> None:
    Frame.parse = _parse_any  # type: ignore[method-assign]
