"""The index against a plain scan, whatever is added, removed, coded and searched in between."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from numpy.typing import NDArray

from gateway.voiceprint import nearest
from gateway.voiceprint.codes import Codes
from gateway.voiceprint.nearest import NearestVectors, closest

D = 16
SMALL = {"BLOCK_ROWS": 96, "CODED_FROM_ROWS": 32, "TAIL_ROWS": 8, "INLINE_ROWS": 12, "INLINE_CODED_ROWS": 60}
"""So that a few dozen vectors see every path that hundreds of thousands take."""


def units(count: int, seed: int = 0, dimensions: int = D) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).standard_normal((count, dimensions)).astype(np.float32)
    scaled: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


@pytest.fixture
def small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SMALL.items():
            patch.setattr(nearest, name, value)
        yield


class AgainstAPlainScan(RuleBasedStateMachine):
    """With more candidates than rows the codes miss nothing, so both must agree on every row and its order."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        for name, value in SMALL.items():
            self.patch.setattr(nearest, name, value)
        self.runner = asyncio.Runner()
        self.index = NearestVectors(D)
        self.there: dict[int, NDArray[np.float32]] = {}
        self.coding: asyncio.Task[None] | None = None
        self.seed = 0

    @rule(count=st.integers(1, 40))
    def add(self, count: int) -> None:
        self.seed += 1
        for vector in units(count, self.seed):
            row = self.index.add(vector)
            assert row not in self.there
            self.there[row] = vector

    @precondition(lambda self: self.there)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        rows = data.draw(st.lists(st.sampled_from(sorted(self.there)), unique=True, max_size=30))
        self.index.remove(rows)
        for row in rows:
            del self.there[row]

    @precondition(lambda self: self.coding is None)
    @rule()
    def begin_coding(self) -> None:
        async def begin() -> asyncio.Task[None]:
            task = asyncio.create_task(self.index.make_codes())
            await asyncio.sleep(0)  # it has seen the vectors as they are now
            return task

        self.coding = self.runner.run(begin())

    @precondition(lambda self: self.coding is not None)
    @rule()
    def finish_coding(self) -> None:
        async def finish(task: asyncio.Task[None]) -> None:
            await task

        assert self.coding is not None
        self.runner.run(finish(self.coding))
        self.coding = None

    @rule(seed=st.integers(1000, 1010), top=st.integers(1, 12))
    def search(self, seed: int, top: int) -> None:
        query = units(1, seed)[0]
        found = self.runner.run(closest([self.index], query, top))
        wanted = sorted(self.there, key=lambda row: (-float(self.there[row] @ query), row))[:top]
        assert [one.row for one in found] == wanted
        for one in found:
            assert one.cosine == pytest.approx(float(self.there[one.row] @ query), abs=1e-6)

    @invariant()
    def counts(self) -> None:
        assert len(self.index) == len(self.there)

    def teardown(self) -> None:
        if self.coding is not None:
            self.finish_coding()
        self.runner.close()
        self.patch.undo()


TestAgainstAPlainScan = AgainstAPlainScan.TestCase
TestAgainstAPlainScan.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)


async def test_of_many_vectors_nearly_all_of_the_closest_are_found_and_their_cosines_are_exact() -> None:
    vectors, queries = units(nearest.CODED_FROM_ROWS + 3000, dimensions=64), units(30, 1, dimensions=64)
    index = NearestVectors(64)
    for vector in vectors:
        index.add(vector)
    await index.make_codes()
    assert not index.needs_codes
    found = [await closest([index], query, 10) for query in queries]
    kept = 0
    for query, hits in zip(queries, found, strict=True):
        cosines = vectors @ query
        kept += len({hit.row for hit in hits} & set(np.argsort(-cosines)[:10].tolist()))
        assert [hit.cosine for hit in hits] == pytest.approx(cosines[[hit.row for hit in hits]].tolist(), abs=1e-6)
    assert kept >= 0.98 * 10 * len(queries)


def code(index: NearestVectors, row: int) -> list[int]:
    codes = index._blocks[0].codes
    assert codes is not None
    unpacked: list[int] = codes.code(row).tolist()
    return unpacked


def nobodys_code(index: NearestVectors) -> list[int]:
    codes = index._blocks[0].codes
    assert codes is not None
    computed: list[int] = codes.code_of(np.zeros(D, np.float32)).tolist()
    return computed


async def test_a_removed_vector_and_its_code_are_overwritten_at_once(small: None) -> None:
    index = NearestVectors(D)
    for vector in units(80):
        index.add(vector)
    await index.make_codes()
    before, beside = code(index, 40), code(index, 41)
    index.remove([40])
    assert not index.vector(40).any()
    assert (code(index, 40), code(index, 41)) == (nobodys_code(index), beside)
    assert before != nobodys_code(index)


async def test_what_is_removed_while_codes_are_made_is_not_in_them(
    small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = NearestVectors(D)
    for vector in units(80):
        index.add(vector)
    made, go_on, plain = threading.Event(), threading.Event(), Codes.trained

    def held(vectors: NDArray[np.float32], live: NDArray[np.bool_]) -> Codes:
        codes = plain(vectors, live)
        made.set()
        go_on.wait(10)
        return codes

    monkeypatch.setattr(Codes, "trained", held)
    coding = asyncio.create_task(index.make_codes())
    await asyncio.to_thread(made.wait, 10)
    index.remove([40])
    go_on.set()
    await coding
    assert code(index, 40) == nobodys_code(index)


async def test_a_row_is_not_given_again_while_a_search_may_still_name_it(
    small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the search would answer the new voice with the old one's score."""
    index = NearestVectors(D)
    vectors = units(60)
    for vector in vectors:
        index.add(vector)
    reached, go_on, plain = threading.Event(), threading.Event(), nearest._closest

    def held(*arguments: object) -> object:
        found = plain(*arguments)  # type: ignore[arg-type]
        reached.set()
        go_on.wait(10)
        return found

    monkeypatch.setattr(nearest, "_closest", held)
    search = asyncio.create_task(closest([index], vectors[7], 3))
    await asyncio.to_thread(reached.wait, 10)
    index.remove([7])
    assert index.add(units(1, 5)[0]) != 7
    go_on.set()
    assert 7 not in [one.row for one in await search]
    assert index.add(units(1, 6)[0]) == 7


async def test_half_precision_takes_half_the_memory_and_keeps_the_order() -> None:
    whole, half = NearestVectors(D), NearestVectors(D, np.float16)
    for vector in units(64):
        whole.add(vector)
        half.add(vector)
    query = units(1, 3)[0]
    exact, near = await closest([whole], query, 5), await closest([half], query, 5)
    assert [one.row for one in near] == [one.row for one in exact]
    assert [one.cosine for one in near] == pytest.approx([one.cosine for one in exact], abs=1e-3)
    assert half.memory_bytes < 0.6 * whole.memory_bytes


async def test_several_sets_are_searched_as_one() -> None:
    sets = [NearestVectors(D) for _ in range(3)]
    vectors = units(30)
    for number, vector in enumerate(vectors):
        sets[number % 3].add(vector)
    query = units(1, 8)[0]
    best = np.argsort(-(vectors @ query))[:5].tolist()
    assert [3 * one.row + one.shelf for one in await closest(sets, query, 5)] == best
    assert await closest([], query, 5) == []


async def test_vectors_unlike_all_that_codes_were_trained_on_are_found(small: None) -> None:
    """Such codes may look all the same, and the scan of codes leaves out what it cannot tell apart."""
    index = NearestVectors(D)
    same = np.repeat(units(1, 1), 32, axis=0)
    for vector in same:
        index.add(vector)
    await index.make_codes()
    index.remove(range(32))
    others = units(20, 2)
    rows = [index.add(vector) for vector in others]
    found = await closest([index], others[13], 3)
    best = np.argsort(-(others @ others[13]))[:3]
    assert [one.row for one in found] == [rows[one] for one in best]
