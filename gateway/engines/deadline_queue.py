"""The order in which an engine's jobs are begun: a pure queue, told the time.

Lower ranks first, then earlier deadlines, then first come, first served: over all calls alike, so that a call waits for
what was due before its own jobs and for nothing else. A full queue drops the replaceable job that is due last (the next
one will come); when none is left that could give way, it refuses.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Generic, TypeVar

T = TypeVar("T")


class QueueFull(Exception):
    """As many jobs wait as may, and none of them could give way."""


@dataclass(order=True, slots=True)
class Waiting(Generic[T]):
    """One job in the queue."""

    rank: int
    deadline_s: float
    number: int
    item: T = field(compare=False)
    key: str | None = field(compare=False)
    """Names what a later job of the same key replaces; None: nothing does."""
    stale_s: float = field(compare=False, default=inf)
    """Not worth beginning after this."""


class DeadlineQueue(Generic[T]):
    """`gone` says of an item that nobody waits for it any more; `drop` is told of each that gives way."""

    def __init__(self, limit: int, gone: Callable[[T], bool], drop: Callable[[T], None]) -> None:
        self._limit = limit
        self._gone = gone
        self._drop = drop
        self._heap: list[Waiting[T]] = []
        self._replaceable: dict[str, Waiting[T]] = {}
        self._number = 0

    def __len__(self) -> int:
        """Jobs that somebody waits for."""
        return sum(not self._gone(entry.item) for entry in self._heap)

    def push(
        self,
        item: T,
        rank: int,
        deadline_s: float,
        key: str | None = None,
        *,
        replaceable: bool = False,
        stale_s: float = inf,
    ) -> None:
        """Queue a job. A replaceable one of its key gives way to it; the new one itself may be what gives way.

        What replaces its like takes over its place: else a call that asks often would never have its turn.
        Raises QueueFull.
        """
        if key is not None and (older := self._replaceable.pop(key, None)) is not None:
            self._drop(older.item)
            if replaceable and older.rank == rank:
                deadline_s = min(deadline_s, older.deadline_s)
        self._number += 1
        entry = Waiting(rank, deadline_s, self._number, item, key if replaceable else None, stale_s)
        if not self._has_room_for(entry):
            return
        if entry.key is not None:
            self._replaceable[entry.key] = entry
        heapq.heappush(self._heap, entry)

    def push_back(self, entry: Waiting[T]) -> None:
        """Queue again what was begun and not done, in its old place; nothing replaces it from here on."""
        entry.key, entry.stale_s = None, inf
        heapq.heappush(self._heap, entry)

    def pop(self, now_s: float) -> Waiting[T] | None:
        """The job to begin now; None when none waits. What has gone stale gives way here."""
        while self._heap:
            entry = heapq.heappop(self._heap)
            if entry.key is not None and self._replaceable.get(entry.key) is entry:
                del self._replaceable[entry.key]
            if self._gone(entry.item):
                continue
            if now_s <= entry.stale_s:
                return entry
            self._drop(entry.item)
        return None

    def overdue_s(self, now_s: float) -> float:
        """How far beyond its deadline the job is that should have begun first; below zero: none is."""
        return max((now_s - entry.deadline_s for entry in self._heap if not self._gone(entry.item)), default=-inf)

    def clear(self) -> list[T]:
        """Empty the queue; what was in it."""
        items = [entry.item for entry in self._heap]
        self._heap.clear()
        self._replaceable.clear()
        return items

    def _has_room_for(self, entry: Waiting[T]) -> bool:
        if len(self._heap) < self._limit:
            return True
        self._heap = [waiting for waiting in self._heap if not self._gone(waiting.item)]
        heapq.heapify(self._heap)
        if len(self._heap) < self._limit:
            return True
        last = max([*self._replaceable.values(), *([entry] if entry.key is not None else [])], default=None)
        if last is None:
            raise QueueFull
        self._drop(last.item)
        if last is entry:
            return False
        assert last.key is not None
        del self._replaceable[last.key]
        self._heap.remove(last)
        heapq.heapify(self._heap)
        return True
