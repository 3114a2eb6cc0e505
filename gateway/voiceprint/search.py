"""Which enrolled voices are closest to a print, by cosine: a set of vectors in memory for each (app, org, tag)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import structlog

from gateway.ports import Embedding, Kind, VoiceprintRow
from gateway.voiceprint import nearest
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
    """Voices that are searched together. Columns, not entries: a million objects would cost each garbage collection."""

    def __init__(self, dimensions: int) -> None:
        self.vectors = NearestVectors(dimensions)
        self.is_large = False
        self._ids: list[str] = []
        self._tags: list[str] = []
        self._names: list[str] = []
        self._kinds: list[Kind] = []
        self._rows: dict[str, int] = {}

    def add(self, entry: Entry, vector: Embedding) -> None:
        row = self.vectors.add(vector)
        if row == len(self._ids):
            self._ids.append("")
            self._tags.append("")
            self._names.append("")
            self._kinds.append("voice")
        self._ids[row], self._tags[row], self._names[row], self._kinds[row] = (
            *(entry.print_id, entry.tag_id, entry.name, entry.kind),
        )
        self._rows[entry.print_id] = row

    def remove(self, print_ids: Iterable[str]) -> None:
        rows = [row for print_id in print_ids if (row := self._rows.pop(print_id, None)) is not None]
        self.vectors.remove(rows)
        for row in rows:
            self._ids[row] = self._tags[row] = self._names[row] = ""

    def entry(self, row: int) -> Entry:
        return Entry(self._ids[row], self._tags[row], self._names[row], self._kinds[row])

    def voices(self) -> Iterator[tuple[Entry, Embedding]]:
        return ((self.entry(row), self.vectors.vector(row)) for row in self._rows.values())


class _Organisation:
    """A shelf for each tag and, where there are several, one for all voices of small tags.

    A search of the whole organisation then goes through few large sets, however many tags there are: each that is too
    small for codes would be scanned. It costs the voices of small tags twice the memory.
    """

    def __init__(self, dimensions: int) -> None:
        self.tags: dict[str, _Shelf] = {}
        self.small: _Shelf | None = None
        self._dimensions = dimensions

    @property
    def shelves(self) -> list[_Shelf]:
        return [*self.tags.values(), *([self.small] if self.small else [])]

    def add(self, entry: Entry, vector: Embedding) -> None:
        if (shelf := self.tags.get(entry.tag_id)) is None:
            shelf = self.tags[entry.tag_id] = _Shelf(self._dimensions)
        shelf.add(entry, vector)
        if self.small is None and len(self.tags) > 1:
            self.small = _Shelf(self._dimensions)
            for known in self.tags.values():
                if not known.is_large:
                    for one in known.voices():
                        self.small.add(*one)
        elif self.small is not None and not shelf.is_large:
            self.small.add(entry, vector)
        if not shelf.is_large and len(shelf.vectors) >= nearest.CODED_FROM_ROWS:
            shelf.is_large = True
            if self.small is not None:
                self.small.remove(entry.print_id for entry, _ in shelf.voices())

    def remove(self, tag_id: str, print_ids: Iterable[str]) -> None:
        if (shelf := self.tags.get(tag_id)) is None:
            return
        gone = list(print_ids)
        shelf.remove(gone)
        if self.small is not None and not shelf.is_large:
            self.small.remove(gone)
        if not len(shelf.vectors):
            del self.tags[tag_id]

    def searched(self, tag_id: str | None) -> list[_Shelf]:
        """The shelves to look in for one tag, or (None) for all."""
        if tag_id is not None:
            return [self.tags[tag_id]] if tag_id in self.tags else []
        if self.small is None:
            return list(self.tags.values())
        return [self.small, *(shelf for shelf in self.tags.values() if shelf.is_large)]


class VoiceIndex:
    """All enrolled voices of one embedding space. A change is seen by the next search.

    Belongs to one event loop. Nothing of it is kept on disk: after a start it is made from the store, two seconds for
    100,000 voices, so that no file can hold a voice which the store has deleted. Call `close` after use.
    """

    def __init__(self, dimensions: int) -> None:
        self._dimensions = dimensions
        self._organisations: dict[tuple[str, str], _Organisation] = {}
        self._coding: dict[_Shelf, asyncio.Task[None]] = {}

    def __len__(self) -> int:
        return sum(len(tag.vectors) for one in self._organisations.values() for tag in one.tags.values())

    @property
    def memory_bytes(self) -> int:
        """What prints and codes take, without names and ids (some 350 bytes a voice)."""
        return sum(shelf.vectors.memory_bytes for one in self._organisations.values() for shelf in one.shelves)

    def add(self, row: VoiceprintRow, vector: Embedding) -> None:
        """Add a voice by its print in this space, of unit length. Raises ValueError when that has another shape."""
        if vector.shape != (self._dimensions,):
            raise ValueError(f"the print of {row.print_id} has shape {vector.shape}, not ({self._dimensions},)")
        if (one := self._organisations.get((row.app_id, row.org_id))) is None:
            one = self._organisations[row.app_id, row.org_id] = _Organisation(self._dimensions)
        one.add(Entry(row.print_id, row.tag_id, row.name, row.kind), vector)

    def remove(self, app_id: str, org_id: str, tag_id: str, print_ids: Iterable[str]) -> None:
        """Forget voices; the ids that are not there are ignored."""
        if (one := self._organisations.get((app_id, org_id))) is None:
            return
        one.remove(tag_id, print_ids)
        if not one.tags:
            del self._organisations[app_id, org_id]

    def holds(self, scope: Scope) -> bool:
        """Whether anybody is enrolled in the scope."""
        one = self._organisations.get((scope.app_id, scope.org_id))
        return one is not None and (scope.tag_id is None or scope.tag_id in one.tags)

    async def closest(self, scope: Scope, embedding: Embedding, top: int) -> list[Hit]:
        """The `top` voices of the scope with the greatest cosine to `embedding` (shape (d,), unit length), best first.

        The cosines are exact; among many thousands one of the later voices may be missed (see `nearest.closest`).
        """
        one = self._organisations.get((scope.app_id, scope.org_id))
        chosen = one.searched(scope.tag_id) if one is not None else []
        for shelf in chosen:
            self._keep_fast(shelf)
        found = await closest([shelf.vectors for shelf in chosen], embedding, top)
        return [Hit(chosen[near.shelf].entry(near.row), near.cosine) for near in found]

    async def warm(self) -> None:
        """Return once every search is as fast as it gets. Without it that comes in the background, by searching."""
        for one in self._organisations.values():
            for shelf in one.shelves:
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
