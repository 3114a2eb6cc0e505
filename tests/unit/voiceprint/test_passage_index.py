"""The passages in memory against a plain list of them, and what becomes of neighbours."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gateway.ports.passages import Passages, PassageSource
from gateway.voiceprint import nearest, passage_index
from gateway.voiceprint.passage_index import FoundPassage, PassageIndex, Wanted, merged

D = 16
HOUR_MS = 3_600_000


def source(number: int, app_id: str = "acme") -> PassageSource:
    return PassageSource(f"call{number}", app_id, "call", "", number * HOUR_MS, HOUR_MS, "indexed")


def passages(number: int, count: int) -> Passages:
    vectors = np.random.default_rng(number).standard_normal((count, D))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    spans = [(n % 2, 10_000 * n, 10_000 * n + 3000) for n in range(count)]
    return Passages("toy", np.asarray(spans, np.int32).reshape(-1, 3), vectors.astype(np.float16))


def query(seed: int) -> NDArray[np.float32]:
    vector = np.random.default_rng(seed).standard_normal(D).astype(np.float32)
    unit: NDArray[np.float32] = vector / np.linalg.norm(vector)
    return unit


def plainly(there: dict[int, int], voice: NDArray[np.float32], wanted: Wanted) -> list[tuple[str, int]]:
    scored = []
    for number, count in there.items():
        kept = passages(number, count)
        for span, cosine in zip(kept.spans.tolist(), (kept.vectors.astype(np.float32) @ voice).tolist(), strict=True):
            at_ms = number * HOUR_MS + span[1]
            early = wanted.from_ms is not None and at_ms < wanted.from_ms
            late = wanted.to_ms is not None and at_ms >= wanted.to_ms
            if cosine >= wanted.least_cosine and not early and not late:
                scored.append((-cosine, f"call{number}", span[1]))
    return [(source_id, begin_ms) for _, source_id, begin_ms in sorted(scored)[: wanted.most]]


@settings(max_examples=40, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 25)), max_size=25),
    hours=st.tuples(st.none() | st.integers(0, 13), st.none() | st.integers(0, 13)),
    least=st.sampled_from([-1.0, 0.0, 0.3]),
    most=st.integers(1, 40),
    scanned=st.sampled_from([0, 40, 10_000]),
)
async def test_after_any_changes_the_index_finds_what_a_plain_scan_finds(
    changes: list[tuple[int, int]], hours: tuple[int | None, int | None], least: float, most: int, scanned: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"BLOCK_ROWS": 96, "CODED_FROM_ROWS": 32, "TAIL_ROWS": 8, "INLINE_ROWS": 20}.items():
            patch.setattr(nearest, name, value)
        patch.setattr(passage_index, "SCANNED_ROWS", scanned)
        index, there = PassageIndex(D), dict[int, int]()
        for number, count in changes:
            if count == 0:
                assert index.forget("acme", f"call{number}") == (number in there)
                there.pop(number, None)
            else:
                index.add(source(number), passages(number, count))
                there[number] = count
            await index.closest("acme", query(number), Wanted(3))  # may begin to make codes
        assert len(index) == sum(there.values())
        wanted = Wanted(most, least, *(None if hour is None else hour * HOUR_MS for hour in hours))
        found = await index.closest("acme", query(99), wanted)
        assert [(one.source_id, one.begin_ms) for one in found] == plainly(there, query(99), wanted)
        assert await index.closest("rival", query(99), wanted) == []
        await index.close()


async def test_vectors_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"3 passages have vectors of shape \(3, 16\)"):
        PassageIndex(8).add(source(1), passages(1, 3))


async def test_a_recording_without_passages_takes_away_what_was_known_of_it() -> None:
    index = PassageIndex(D)
    index.add(source(1), passages(1, 3))
    index.add(source(1), passages(1, 0))
    assert (len(index), index.memory_bytes) == (0, 0)


def found(begin_ms: int, end_ms: int, cosine: float, source_id: str = "a", channel: int = 0) -> FoundPassage:
    return FoundPassage(source_id, channel, begin_ms, end_ms, cosine)


def test_neighbours_are_one_passage_with_the_best_of_their_scores() -> None:
    apart = [found(0, 5000, 0.6), found(5000, 9000, 0.8), found(9900, 12000, 0.7), found(20_000, 22_000, 0.75)]
    assert merged(apart, 1000) == [found(0, 12000, 0.8), found(20_000, 22_000, 0.75)]


def test_channels_and_recordings_are_never_merged() -> None:
    several = [found(0, 5000, 0.9), found(5000, 9000, 0.8, channel=1), found(5000, 9000, 0.7, source_id="b")]
    assert merged(several, 1000) == several
