"""Which enrolled voices are closest to a print, by cosine: one set of vectors in memory for each (app, org, tag)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

import structlog

from gateway.ports import Embedding, Kind, VoiceprintRow
from gateway.voiceprint.nearest import NearestVectors, closest
from protocol.voiceprint import Scope

_log = structlog.get_logger()


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


class _Shelf:
    """The voices of one tag. Columns, not entries: a million objects would cost every collection of garbage."""

    def __init__(self, tag_id: str, dimensions: int) -> None:
        self.vectors = NearestVectors(dimensions)
        self._tag_id = tag_id
        self._ids: list[str] = []
        self._names: list[str] = []
        self._kinds: list[Kind] = []
        self._rows: dict[str, int] = {}

    def add(self, voice: VoiceprintRow, vector: Embedding) -> None:
        row = self.vectors.add(vector)
        if row == len(self._ids):
            self._ids.append("")
            self._names.append("")
            self._kinds.append("voice")
        self._ids[row], self._names[row], self._kinds[row] = voice.print_id, voice.name, voice.kind
        self._rows[voice.print_id] = row

    def remove(self, print_ids: Iterable[str]) -> None:
        rows = [row for print_id in print_ids if (row := self._rows.pop(print_id, None)) is not None]
        self.vectors.remove(rows)
        for row in rows:
            self._ids[row] = self._names[row] = ""

    def entry(self, row: int) -> Entry:
        return Entry(self._ids[row], self._tag_id, self._names[row], self._kinds[row])


class VoiceIndex:
    """All enrolled voices of one embedding space. A change is seen by the next search.

    Belongs to one event loop. Nothing of it is kept on disk: after a start it is made from the store, a second for
    100,000 voices, so that no file can hold a voice which the store has deleted. Call `close` after use.
    """

    def __init__(self, dimensions: int) -> None:
        self._dimensions = dimensions
        self._shelves: dict[tuple[str, str], dict[str, _Shelf]] = {}
        self._coding: dict[_Shelf, asyncio.Task[None]] = {}

    def __len__(self) -> int:
        return sum(len(shelf.vectors) for shelves in self._shelves.values() for shelf in shelves.values())

    @property
    def memory_bytes(self) -> int:
        """What prints and codes take, without names and ids (some 300 bytes a voice)."""
        return sum(shelf.vectors.memory_bytes for shelves in self._shelves.values() for shelf in shelves.values())

    def add(self, row: VoiceprintRow, vector: Embedding) -> None:
        """Add a voice by its print in this space, of unit length. Raises ValueError when that has another shape."""
        if vector.shape != (self._dimensions,):
            raise ValueError(f"the print of {row.print_id} has shape {vector.shape}, not ({self._dimensions},)")
        shelves = self._shelves.setdefault((row.app_id, row.org_id), {})
        if (shelf := shelves.get(row.tag_id)) is None:
            shelf = shelves[row.tag_id] = _Shelf(row.tag_id, self._dimensions)
        shelf.add(row, vector)

    def remove(self, app_id: str, org_id: str, tag_id: str, print_ids: Iterable[str]) -> None:
        """Forget voices; the ids that are not there are ignored."""
        shelves = self._shelves.get((app_id, org_id), {})
        if (shelf := shelves.get(tag_id)) is None:
            return
        shelf.remove(print_ids)
        if not len(shelf.vectors):
            del shelves[tag_id]
        if not shelves:
            del self._shelves[app_id, org_id]

    def holds(self, scope: Scope) -> bool:
        """Whether anybody is enrolled in the scope."""
        shelves = self._shelves.get((scope.app_id, scope.org_id), {})
        return bool(shelves) if scope.tag_id is None else scope.tag_id in shelves

    async def closest(self, scope: Scope, embedding: Embedding, top: int) -> list[Hit]:
        """The `top` voices of the scope with the greatest cosine to `embedding` (shape (d,), unit length), best first.

        The cosines are exact; among many thousands one of the later voices may be missed (see `nearest.closest`).
        """
        shelves = self._shelves.get((scope.app_id, scope.org_id), {})
        chosen = list(shelves.values() if scope.tag_id is None else filter(None, [shelves.get(scope.tag_id)]))
        for shelf in chosen:
            self._keep_fast(shelf)
        found = await closest([shelf.vectors for shelf in chosen], embedding, top)
        return [Hit(chosen[one.shelf].entry(one.row), one.cosine) for one in found]

    async def warm(self) -> None:
        """Return once every search is as fast as it gets. Without it that comes in the background, by searching."""
        for shelves in list(self._shelves.values()):
            for shelf in list(shelves.values()):
                self._keep_fast(shelf)
        await asyncio.gather(*self._coding.values())

    async def close(self) -> None:
        """End the work in the background."""
        coding = list(self._coding.values())
        for task in coding:
            task.cancel()
        await asyncio.gather(*coding, return_exceptions=True)

    def _keep_fast(self, shelf: _Shelf) -> None:
        if shelf.vectors.needs_codes and shelf not in self._coding:
            task = self._coding[shelf] = asyncio.create_task(shelf.vectors.make_codes(), name="voice-codes")
            task.add_done_callback(lambda done: self._coded(shelf, done))

    def _coded(self, shelf: _Shelf, done: asyncio.Task[None]) -> None:
        del self._coding[shelf]
        if not done.cancelled() and (fault := done.exception()) is not None:
            # Searches stay exact and right without; the next one tries again.
            _log.error("voiceprint.codes_failed", fault=repr(fault))
