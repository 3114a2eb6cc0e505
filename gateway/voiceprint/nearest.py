"""Which of many vectors are closest to one: exact while they are few, by compressed codes and exact re-scoring above.

Vectors lie in blocks. A block of some size has codes beside it, which one pass over all of them turns into candidates;
the candidates are scored exactly, so that only what is found depends on codes, never a score. Every vector is looked
at: no clusters to miss, no graph to build for minutes, and a row can be changed in place.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from gateway.voiceprint.codes import Codes, Cosines, Rows, Vectors

BLOCK_ROWS = 131_072
"""So many vectors have codes of their own, trained on them: making these anew takes a second, whatever lies beside."""
CODED_FROM_ROWS = 8_192
"""A block with fewer is scanned exactly, in under a millisecond."""
TAIL_ROWS = 2_048
"""So many vectors may have come since the codes were made; they are scanned exactly."""
RETRAIN_AT_GROWTH = 4
"""Codes trained on a quarter of what the block holds now are trained anew: the first to come may have been alike."""
CANDIDATES = 400
"""Scored exactly for a top ten; see BENCHMARKS.md for what fewer would miss."""
CANDIDATES_PER_HIT = 12
"""For longer answers: so many candidates for each."""
INLINE_ROWS = 10_000
INLINE_CODED_ROWS = 200_000
"""Up to so many, a search takes a millisecond and runs on the event loop; above, in a thread."""


class _Block:
    def __init__(self, dimensions: int, dtype: type[np.floating]) -> None:
        self.vectors = np.zeros((4, dimensions), dtype=dtype)
        self.live = np.zeros(4, dtype=np.bool_)
        self.size = 0
        self.codes: Codes | None = None
        self.changed: set[int] | None = None
        """Rows changed while codes are being made from how they were."""

    def reserve(self, rows: int) -> None:
        """Make room. Searches under way keep the arrays they have."""
        if rows > len(self.live):
            capacity = min(BLOCK_ROWS, max(rows, 2 * len(self.live)))
            vectors = np.zeros((capacity, self.vectors.shape[1]), dtype=self.vectors.dtype)
            live = np.zeros(capacity, dtype=np.bool_)
            vectors[: self.size], live[: self.size] = self.vectors[: self.size], self.live[: self.size]
            self.vectors, self.live = vectors, live

    @property
    def uncoded_rows(self) -> int:
        return self.size - (self.codes.rows if self.codes else 0)

    @property
    def needs_codes(self) -> bool:
        if self.codes is None:
            return int(np.count_nonzero(self.live)) >= CODED_FROM_ROWS
        if self.size == BLOCK_ROWS and self.uncoded_rows:
            return True
        return self.uncoded_rows >= TAIL_ROWS

    def change(self, row: int, vector: NDArray[np.float32], *, live: bool) -> None:
        self.vectors[row] = vector
        self.live[row] = live
        if self.codes is not None and row < self.codes.rows:
            self.codes.put(row, vector)
        if self.changed is not None:
            self.changed.add(row)


@dataclass(frozen=True, slots=True)
class _View:
    """A block as a search finds it. What changes meanwhile shows or does not; `live` is asked again afterwards."""

    shelf: int
    first_row: int
    vectors: Vectors
    live: NDArray[np.bool_]
    size: int
    codes: Codes | None


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A vector that was found: its row in the `shelf`-th of those searched."""

    shelf: int
    row: int
    cosine: float


class NearestVectors:
    """Vectors of unit length by row number; a number is given again once its vector was removed.

    Belongs to one event loop. A change is seen by the next search. A removed vector is overwritten at once, its code
    too. Memory: `dtype`'s bytes a dimension, and a quarter of a byte for codes; up to twice that after growth.
    """

    def __init__(self, dimensions: int, dtype: type[np.floating] = np.float32) -> None:
        """`dtype` float16 halves the memory; cosines then differ by some 0.0001. `dimensions` is even."""
        self._dimensions = dimensions
        self._dtype = dtype
        self._blocks: list[_Block] = []
        self._count = 0
        self._free: list[int] = []
        self._leaving: deque[tuple[int, int]] = deque()
        """Rows that a search under way may still name, each with the number of searches begun before it was removed."""
        self._searches: set[int] = set()
        self._begun = 0

    def __len__(self) -> int:
        return self._count

    @property
    def rows(self) -> int:
        """Row numbers are below this."""
        return (len(self._blocks) - 1) * BLOCK_ROWS + self._blocks[-1].size if self._blocks else 0

    @property
    def memory_bytes(self) -> int:
        """What vectors and codes take."""
        codes = sum(block.codes.memory_bytes for block in self._blocks if block.codes)
        return codes + sum(block.vectors.nbytes + block.live.nbytes for block in self._blocks)

    def add(self, vector: NDArray[np.float32]) -> int:
        """Add a vector; its row. Raises ValueError for another shape."""
        if vector.shape != (self._dimensions,):
            raise ValueError(f"the vector has shape {vector.shape}, not ({self._dimensions},)")
        earliest = min(self._searches, default=self._begun + 1)
        while self._leaving and self._leaving[0][0] < earliest:
            self._free.append(self._leaving.popleft()[1])
        if not self._free:
            return int(self.extend(vector[np.newaxis])[0])
        self._count += 1
        row = self._free.pop()
        self._blocks[row // BLOCK_ROWS].change(row % BLOCK_ROWS, vector, live=True)
        return row

    def extend(self, vectors: Vectors) -> Rows:
        """Add many vectors, shape (n, d), behind all others; their rows."""
        first, begin = self.rows, 0
        while begin < len(vectors):
            if not self._blocks or self._blocks[-1].size == BLOCK_ROWS:
                self._blocks.append(_Block(self._dimensions, self._dtype))
            block = self._blocks[-1]
            count = min(len(vectors) - begin, BLOCK_ROWS - block.size)
            block.reserve(block.size + count)
            block.vectors[block.size : block.size + count] = vectors[begin : begin + count]
            block.live[block.size : block.size + count] = True
            block.size += count
            begin += count
        self._count += len(vectors)
        return np.arange(first, first + len(vectors))

    def remove(self, rows: Iterable[int]) -> None:
        """Forget vectors that are there."""
        nothing = np.zeros(self._dimensions, dtype=np.float32)
        for row in rows:
            self._blocks[row // BLOCK_ROWS].change(row % BLOCK_ROWS, nothing, live=False)
            self._leaving.append((self._begun, row))
            self._count -= 1

    def vector(self, row: int) -> NDArray[np.float32]:
        vector: NDArray[np.float32] = self._blocks[row // BLOCK_ROWS].vectors[row % BLOCK_ROWS].astype(np.float32)
        return vector

    def cosines(self, rows: Rows, query: NDArray[np.float32]) -> Cosines:
        """Those of the vectors in some rows, for a caller that knows which rows matter. Blocks: 1 us a row."""
        cosines = np.empty(len(rows), np.float32)
        for number, block in enumerate(self._blocks):
            here = np.flatnonzero(rows // BLOCK_ROWS == number)
            cosines[here] = block.vectors[rows[here] % BLOCK_ROWS].astype(np.float32, copy=False) @ query
        return cosines

    @property
    def live(self) -> NDArray[np.bool_]:
        """Of each row whether it holds a vector; a copy."""
        return np.concatenate([block.live[: block.size] for block in self._blocks] or [np.empty(0, np.bool_)])

    @contextmanager
    def read(self, shelf: int) -> Iterator[list[_View]]:
        """The blocks for a search, and no row number given again until it is over."""
        self._begun = ticket = self._begun + 1
        self._searches.add(ticket)
        try:
            yield [
                _View(shelf, number * BLOCK_ROWS, block.vectors, block.live, block.size, block.codes)
                for number, block in enumerate(self._blocks)
            ]
        finally:
            self._searches.discard(ticket)

    def holds(self, row: int) -> bool:
        return bool(self._blocks[row // BLOCK_ROWS].live[row % BLOCK_ROWS])

    @property
    def needs_codes(self) -> bool:
        """Whether `make_codes` would make searches faster."""
        return any(block.needs_codes for block in self._blocks)

    async def make_codes(self) -> None:
        """Bring the codes up to date, a block at a time in a thread; searches and changes go on meanwhile.

        One at a time: the caller sees to that.
        """
        while block := next((block for block in self._blocks if block.needs_codes), None):
            vectors, live, codes = block.vectors[: block.size], block.live[: block.size].copy(), block.codes
            block.changed = set()
            try:
                grown = codes is not None and len(vectors) >= RETRAIN_AT_GROWTH * codes.trained_rows
                if codes is None or (grown and np.count_nonzero(live) >= CODED_FROM_ROWS):
                    fresh = await asyncio.to_thread(Codes.trained, vectors, live)
                else:
                    fresh = await asyncio.to_thread(codes.extended, vectors[codes.rows :])
                for row in block.changed:
                    if row < fresh.rows:
                        fresh.put(row, block.vectors[row].astype(np.float32))
                block.codes = fresh
            finally:
                block.changed = None


async def closest(shelves: Sequence[NearestVectors], query: NDArray[np.float32], top: int) -> list[Neighbour]:
    """The `top` vectors of all `shelves` with the greatest cosines to `query` (of unit length), best first.

    Equal cosines come by shelf and row. Of a shelf above `CODED_FROM_ROWS` some of the later ones may be missed; no
    cosine is ever wrong. What is answered is still there; rows are as they are now, so look them up before you wait.
    """
    with ExitStack() as reading:
        views = [view for number, shelf in enumerate(shelves) for view in reading.enter_context(shelf.read(number))]
        coded = sum(view.codes.rows for view in views if view.codes)
        scanned = sum(view.size for view in views) - coded
        if coded <= INLINE_CODED_ROWS and scanned <= INLINE_ROWS:
            found = _closest(views, query, top)
        else:
            found = await asyncio.to_thread(_closest, views, query, top)
        return [one for one in found if shelves[one.shelf].holds(one.row)]


def _closest(views: list[_View], query: NDArray[np.float32], top: int) -> list[Neighbour]:
    found = [*_coded_hits(views, query, top), *_scanned_hits(views, query, top)]
    if not found:
        return []
    shelves = np.concatenate([np.full(len(rows), view.shelf) for view, rows, _ in found])
    rows = np.concatenate([view.first_row + rows for view, rows, _ in found])
    cosines = np.concatenate([cosines for _, _, cosines in found])
    best = np.lexsort((rows, shelves, -cosines))[:top]
    return [
        Neighbour(shelf, row, cosine)
        for shelf, row, cosine in zip(shelves[best].tolist(), rows[best].tolist(), cosines[best].tolist(), strict=True)
    ]


def _coded_hits(views: list[_View], query: NDArray[np.float32], top: int) -> Iterator[tuple[_View, Rows, Cosines]]:
    """Of all coded blocks together the likeliest candidates, scored exactly."""
    faiss.omp_set_num_threads(1)
    count = max(CANDIDATES, CANDIDATES_PER_HIT * top)
    likely: list[tuple[_View, Rows, Cosines]] = []
    for view in views:
        if view.codes:
            if (found := view.codes.candidates(query, count)) is not None:
                likely.append((view, *found))
            else:
                yield _scanned(view, 0, view.codes.rows, query, top)
    near = np.concatenate([cosines for _, _, cosines in likely]) if likely else np.empty(0, np.float32)
    least = np.partition(near, -count)[-count] if len(near) > count else -np.inf
    for view, rows, cosines in likely:
        chosen = rows[cosines >= least]
        chosen = chosen[view.live[chosen]]
        yield view, chosen, view.vectors[chosen].astype(np.float32, copy=False) @ query


def _scanned_hits(views: list[_View], query: NDArray[np.float32], top: int) -> Iterator[tuple[_View, Rows, Cosines]]:
    """The best of each block's rows that have no codes."""
    for view in views:
        begin = view.codes.rows if view.codes else 0
        if begin < view.size:
            yield _scanned(view, begin, view.size, query, top)


def _scanned(view: _View, begin: int, end: int, query: NDArray[np.float32], top: int) -> tuple[_View, Rows, Cosines]:
    cosines = view.vectors[begin:end].astype(np.float32, copy=False) @ query
    cosines[~view.live[begin:end]] = -np.inf
    rows = np.arange(len(cosines))
    if len(cosines) > top:
        # All that equal the last of the best stay in, so that which of them comes first is by row.
        rows = np.flatnonzero(cosines >= np.partition(cosines, -top)[-top])
    rows = rows[cosines[rows] > -np.inf]
    return view, begin + rows, cosines[rows]
