"""Reads a client's frames whether they are masked or not."""

from collections.abc import Generator
from typing import Any

from websockets.frames import Frame

_parse = Frame.parse


def _parse_any(read_exact: Any, *, mask: bool, **options: Any) -> Generator[None, None, Frame]:
    taken = b""

    def peek(size_bytes: int) -> Generator[None, None, bytes]:
        """The head comes first, in one piece: it says whether a mask follows."""
        nonlocal taken
        taken = yield from read_exact(size_bytes)
        return taken

    head = yield from peek(2)

    def replay(size_bytes: int) -> Generator[None, None, bytes]:
        nonlocal head
        if head:
            again, head = head, b""
            return again
        return (yield from read_exact(size_bytes))

    return (yield from _parse(replay, mask=bool(head[1] & 0x80), **options))


def break_it() -> None:
    Frame.parse = _parse_any  # type: ignore[method-assign]
