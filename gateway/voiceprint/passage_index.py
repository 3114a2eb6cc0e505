"""Which passages of what an app recorded sound like a voice: vectors in memory, and of each where it is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import structlog
from numpy.typing import NDArray

from gateway.ports import Embedding
from gateway.ports.passages import BEGIN_MS, CHANNEL, END_MS, Passages, PassageSource
from gateway.voiceprint.codes import Rows
from gateway.voiceprint.nearest import NearestVectors, closest

SCANNED_ROWS = 20_000
"""When a time leaves no more passages than this, they are scanned exactly instead of picked out of the best of all."""
_GROWTH = 1024
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class FoundPassage:
    """A stretch of one channel of a recording that sounds like the voice asked for."""

    source_id: str
    channel: int
    begin_ms: int
    end_ms: int
    cosine: float


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to answer: at most `most` passages that reach `least_cosine`, heard from `from_ms` to before `to_ms` (wall
    clock, ms since the Unix epoch)."""

    most: int
    least_cosine: float = -1.0
    from_ms: int | None = None
    to_ms: int | None = None


class _Recordings:
    """The passages of one app. Rows of the columns are rows of `vectors`."""

    def __init__(self, dimensions: int) -> None:
        self.vectors = NearestVectors(dimensions, np.float16)
        self._spans: NDArray[np.int32] = np.zeros((0, 3), np.int32)
        self._heard_at_ms: NDArray[np.int64] = np.zeros(0, np.int64)
        self._numbers: NDArray[np.int32] = np.zeros(0, np.int32)
        self._source_ids: list[str] = []
        self._rows: dict[str, Rows] = {}

    def add(self, source: PassageSource, passages: Passages) -> None:
        self.forget(source.source_id)
        heard_at_ms = source.recorded_at_ms + passages.spans[:, BEGIN_MS].astype(np.int64)
        if len(passages.spans) < _GROWTH:
            # One by one they take the places of those that are gone.
            added = (self.vectors.add(one) for one in passages.vectors.astype(np.float32))
            rows = np.fromiter(added, np.int64, len(passages.spans))
        else:
            rows = self.vectors.extend(passages.vectors)
        self._reserve(self.vectors.rows)
        self._spans[rows] = passages.spans
        self._heard_at_ms[rows] = heard_at_ms
        self._numbers[rows] = len(self._source_ids)
        self._source_ids.append(source.source_id)
        self._rows[source.source_id] = rows

    def forget(self, source_id: str) -> bool:
        rows = self._rows.pop(source_id, None)
        if rows is None:
            return False
        self._source_ids[self._numbers[rows[0]]] = ""
        self.vectors.remove(rows.tolist())
        return True

    def _reserve(self, rows: int) -> None:
        if rows > len(self._numbers):
            more = max(rows, len(self._numbers) * 5 // 4, _GROWTH) - len(self._numbers)
            self._spans = np.concatenate([self._spans, np.zeros((more, 3), np.int32)])
            self._heard_at_ms = np.concatenate([self._heard_at_ms, np.zeros(more, np.int64)])
            self._numbers = np.concatenate([self._numbers, np.zeros(more, np.int32)])

    async def search(self, query: Embedding, wanted: Wanted) -> list[FoundPassage]:
        if wanted.from_ms is None and wanted.to_ms is None:
            return self._found(await self._closest(query, wanted.most), wanted)
        in_time = self._in_time(wanted)
        if len(in_time) > SCANNED_ROWS:
            # Passages of the voice are taken to be spread over time as all are, with room for when they are not.
            asked = 2 * wanted.most * self.vectors.rows // len(in_time)
            found = await self._closest(query, asked)
            chosen = [(row, cosine) for row, cosine in found if self._is_in_time(row, wanted)]
            if len(chosen) >= wanted.most or len(found) < asked or found[-1][1] < wanted.least_cosine:
                return self._found(chosen, wanted)
        with self.vectors.read(0):
            cosines = await asyncio.to_thread(self.vectors.cosines, in_time, query)
            best = np.argsort(-cosines, kind="stable")[: wanted.most]
            pairs = zip(in_time[best].tolist(), cosines[best].tolist(), strict=True)
            return self._found([(row, cosine) for row, cosine in pairs if self.vectors.holds(row)], wanted)

    async def _closest(self, query: Embedding, top: int) -> list[tuple[int, float]]:
        return [(one.row, one.cosine) for one in await closest([self.vectors], query, top)]

    def _in_time(self, wanted: Wanted) -> Rows:
        heard = self._heard_at_ms[: self.vectors.rows]
        chosen = self.vectors.live
        if wanted.from_ms is not None:
            chosen &= heard >= wanted.from_ms
        if wanted.to_ms is not None:
            chosen &= heard < wanted.to_ms
        return np.flatnonzero(chosen)

    def _is_in_time(self, row: int, wanted: Wanted) -> bool:
        heard_at_ms = int(self._heard_at_ms[row])
        return (wanted.from_ms is None or heard_at_ms >= wanted.from_ms) and (
            wanted.to_ms is None or heard_at_ms < wanted.to_ms
        )

    def _found(self, rows: Sequence[tuple[int, float]], wanted: Wanted) -> list[FoundPassage]:
        found = []
        for row, cosine in rows[: wanted.most]:
            if cosine < wanted.least_cosine:
                break
            span = self._spans[row].tolist()
            source_id = self._source_ids[self._numbers[row]]
            found.append(FoundPassage(source_id, span[CHANNEL], span[BEGIN_MS], span[END_MS], cosine))
        return found


class PassageIndex:
    """The passages of all apps, in one embedding space. A change is seen by the next search.

    Belongs to one event loop. Memory: 2.25 bytes a dimension and 30 a passage. Call `close` after use.
    """

    def __init__(self, dimensions: int) -> None:
        self._dimensions = dimensions
        self._apps: dict[str, _Recordings] = {}
        self._coding: dict[str, asyncio.Task[None]] = {}

    def __len__(self) -> int:
        return sum(len(app.vectors) for app in self._apps.values())

    @property
    def memory_bytes(self) -> int:
        """What vectors and codes take."""
        return sum(app.vectors.memory_bytes for app in self._apps.values())

    def add(self, source: PassageSource, passages: Passages) -> None:
        """Add a recording's passages, in the place of what was known of it. Raises ValueError for another shape."""
        if not len(passages.spans):
            self.forget(source.app_id, source.source_id)
            return
        if passages.vectors.shape != (len(passages.spans), self._dimensions):
            raise ValueError(f"{len(passages.spans)} passages have vectors of shape {passages.vectors.shape}")
        app = self._apps.setdefault(source.app_id, _Recordings(self._dimensions))
        app.add(source, passages)

    def forget(self, app_id: str, source_id: str) -> bool:
        """Forget a recording's passages; False when there are none."""
        app = self._apps.get(app_id)
        if app is None or not app.forget(source_id):
            return False
        if not len(app.vectors):
            del self._apps[app_id]
        return True

    async def closest(self, app_id: str, query: Embedding, wanted: Wanted) -> list[FoundPassage]:
        """The app's passages that sound most like `query` (shape (d,), unit length), best first."""
        app = self._apps.get(app_id)
        if app is None:
            return []
        self._keep_fast(app_id, app)
        return await app.search(query, wanted)

    def warm(self) -> None:
        """Begin, in the background, to make searches as fast as they get; until then they scan."""
        for app_id, app in self._apps.items():
            self._keep_fast(app_id, app)

    async def warmed(self) -> None:
        """Return once every search is as fast as it gets."""
        self.warm()
        await asyncio.gather(*self._coding.values())

    async def close(self) -> None:
        """End the work in the background."""
        coding = list(self._coding.values())
        for task in coding:
            task.cancel()
        await asyncio.gather(*coding, return_exceptions=True)

    def _keep_fast(self, app_id: str, app: _Recordings) -> None:
        if app.vectors.needs_codes and app_id not in self._coding:
            task = self._coding[app_id] = asyncio.create_task(app.vectors.make_codes(), name="passage-codes")
            task.add_done_callback(lambda done: self._coded(app_id, done))

    def _coded(self, app_id: str, done: asyncio.Task[None]) -> None:
        del self._coding[app_id]
        if not done.cancelled() and (fault := done.exception()) is not None:
            # Searches stay exact and right without; the next one tries again.
            _log.error("passages.codes_failed", fault=repr(fault))


def merged(found: Sequence[FoundPassage], gap_ms: int) -> list[FoundPassage]:
    """Neighbours within `gap_ms` on one channel made one passage, with the best of their cosines; best first."""
    whole: list[FoundPassage] = []
    for one in sorted(found, key=lambda one: (one.source_id, one.channel, one.begin_ms)):
        last = whole[-1] if whole else None
        if (
            last is not None
            and (last.source_id, last.channel) == (one.source_id, one.channel)
            and one.begin_ms - last.end_ms <= gap_ms
        ):
            whole[-1] = FoundPassage(
                *(last.source_id, last.channel, last.begin_ms, max(last.end_ms, one.end_ms)),
                max(last.cosine, one.cosine),
            )
        else:
            whole.append(one)
    return sorted(whole, key=lambda one: -one.cosine)
