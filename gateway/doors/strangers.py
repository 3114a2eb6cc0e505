"""Connections that have not shown yet what they want: at most so many, and the newest have the best chance."""

from __future__ import annotations

from typing import Protocol


class Connection(Protocol):
    """What can be cut."""

    def cut(self) -> None:
        """End the connection at once, without a word."""


class Strangers:
    """Knows the connections of one listener that have brought no whole request yet, in the order they came.

    Who means it is a stranger for one round trip; who drips headers, until the time-out. So when there are too many,
    the oldest goes: a flood of idle connections keeps nobody out.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: dict[Connection, None] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def enter(self, one: Connection) -> None:
        """`one` has come, or is idle again."""
        self._waiting.pop(one, None)
        self._waiting[one] = None
        if len(self._waiting) > self._limit:
            oldest = next(iter(self._waiting))
            del self._waiting[oldest]
            oldest.cut()

    def leave(self, one: Connection) -> None:
        """`one` has brought its request, or is gone."""
        self._waiting.pop(one, None)
