"""Which enrolled voices are closest: an exact cosine search in memory, one matrix for each (app, org, tag)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.ports import Embedding, Kind, VoiceprintRow
from protocol.voiceprint import Scope

INLINE_ROWS = 10_000
"""Up to this many voices the product takes under a millisecond and runs on the event loop; above, in a thread."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a hit needs to know about a voice."""

    print_id: str
    tag_id: str
    name: str
    kind: Kind = "voice"


@dataclass(frozen=True, slots=True)
class Hit:
    entry: Entry
    cosine: float


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """A shelf as it was when a search began. Of later changes it sees at most that a voice is gone."""

    vectors: NDArray[np.float32]
    penalties: NDArray[np.float32]
    entries: Sequence[Entry]


class _Shelf:
    """The voices of one tag: row i of the matrix is the voice of `entries[i]`.

    A search in a thread may be reading rows, so their vectors are never written again: adding writes past them,
    removing gives a row the penalty -inf, and once a quarter of the rows is gone the rest moves to new arrays.
    """

    def __init__(self, dimensions: int) -> None:
        self._vectors: NDArray[np.float32] = np.empty((4, dimensions), dtype=np.float32)
        self._penalties: NDArray[np.float32] = np.zeros(4, dtype=np.float32)
        self._entries: list[Entry] = []
        self._rows: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def snapshot(self) -> _Snapshot:
        size = len(self._entries)
        return _Snapshot(self._vectors[:size], self._penalties[:size], self._entries)

    def add(self, entry: Entry, vector: Embedding) -> None:
        size = len(self._entries)
        if size == len(self._vectors):
            self._move(list(range(size)), capacity=2 * size)
        self._vectors[size] = vector
        self._rows[entry.print_id] = size
        self._entries.append(entry)

    def remove(self, print_ids: Iterable[str]) -> None:
        for print_id in print_ids:
            if (row := self._rows.pop(print_id, None)) is not None:
                self._penalties[row] = -np.inf
        size = len(self._entries)
        if 4 * (size - len(self._rows)) > size:
            kept = list(self._rows.values())
            self._entries = [self._entries[row] for row in kept]
            self._rows = {entry.print_id: row for row, entry in enumerate(self._entries)}
            self._move(kept, capacity=max(4, len(kept)))

    def _move(self, kept: list[int], *, capacity: int) -> None:
        vectors = np.empty((capacity, self._vectors.shape[1]), dtype=np.float32)
        penalties = np.zeros(capacity, dtype=np.float32)
        vectors[: len(kept)] = self._vectors[kept]
        penalties[: len(kept)] = self._penalties[kept]
        self._vectors, self._penalties = vectors, penalties


class VoiceIndex:
    """All enrolled voices of one embedding space. A change is seen by the next search.

    Belongs to one event loop. Memory: 4 x `dimensions` bytes a voice, up to twice that after growth.
    """

    def __init__(self, dimensions: int) -> None:
        self._dimensions = dimensions
        self._shelves: dict[tuple[str, str], dict[str, _Shelf]] = {}

    def __len__(self) -> int:
        return sum(len(shelf) for shelves in self._shelves.values() for shelf in shelves.values())

    def add(self, row: VoiceprintRow, vector: Embedding) -> None:
        """Add a voice by its print in this space, of unit length. Raises ValueError when that has another shape."""
        if vector.shape != (self._dimensions,):
            raise ValueError(f"the print of {row.print_id} has shape {vector.shape}, not ({self._dimensions},)")
        shelves = self._shelves.setdefault((row.app_id, row.org_id), {})
        shelf = shelves.setdefault(row.tag_id, _Shelf(self._dimensions))
        shelf.add(Entry(row.print_id, row.tag_id, row.name, row.kind), vector)

    def remove(self, app_id: str, org_id: str, tag_id: str, print_ids: Iterable[str]) -> None:
        """Forget voices; the ids that are not there are ignored."""
        shelves = self._shelves.get((app_id, org_id), {})
        if (shelf := shelves.get(tag_id)) is None:
            return
        shelf.remove(print_ids)
        if not len(shelf):
            del shelves[tag_id]
        if not shelves:
            del self._shelves[app_id, org_id]

    def holds(self, scope: Scope) -> bool:
        """Whether anybody is enrolled in the scope."""
        shelves = self._shelves.get((scope.app_id, scope.org_id), {})
        return bool(shelves) if scope.tag_id is None else scope.tag_id in shelves

    async def closest(self, scope: Scope, embedding: Embedding, top: int) -> list[Hit]:
        """The `top` voices of the scope with the greatest cosine to `embedding` (shape (d,), unit length), best first.

        Equal cosines of one tag come in the order of enrolment.
        """
        shelves = self._shelves.get((scope.app_id, scope.org_id), {})
        chosen = shelves.values() if scope.tag_id is None else filter(None, [shelves.get(scope.tag_id)])
        snapshots = [shelf.snapshot() for shelf in chosen]
        if sum(len(snapshot.vectors) for snapshot in snapshots) <= INLINE_ROWS:
            return _closest(snapshots, embedding, top)
        return await asyncio.to_thread(_closest, snapshots, embedding, top)


def _closest(snapshots: Sequence[_Snapshot], embedding: Embedding, top: int) -> list[Hit]:
    hits: list[Hit] = []
    for snapshot in snapshots:
        cosines = snapshot.vectors @ embedding + snapshot.penalties
        rows = np.argpartition(-cosines, top)[:top] if len(cosines) > top else np.arange(len(cosines))
        alive = sorted(rows[cosines[rows] > -np.inf].tolist())
        hits += [Hit(snapshot.entries[row], float(cosines[row])) for row in alive]
    hits.sort(key=lambda hit: -hit.cosine)
    return hits[:top]
