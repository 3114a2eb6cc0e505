"""Full garbage collections come when they hold up least."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import suppress

import pytest

from gateway.assembly import garbage
from gateway.assembly.garbage import FEW_CALLS, OFTEN_S, SELDOM_S, collect_garbage, due, leave_full_collections_to_us


class Clock:
    """A second goes by whenever it is asked."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        self.now_s += 1.0
        return self.now_s

    def wall(self) -> float:
        return self.now_s


class Loop:
    """Of two of these nobody but the collector knows."""

    def __init__(self) -> None:
        self.other = self


@pytest.fixture
def as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


def test_with_few_calls_they_come_often_and_with_many_seldom() -> None:
    assert due(FEW_CALLS, OFTEN_S)
    assert not due(FEW_CALLS, OFTEN_S - 1)
    assert not due(FEW_CALLS + 1, SELDOM_S - 1)
    assert due(FEW_CALLS + 1, SELDOM_S)


async def test_python_makes_none_of_its_own_and_we_do(monkeypatch: pytest.MonkeyPatch, as_before: None) -> None:
    monkeypatch.setattr(garbage, "LOOK_EVERY_S", 0.0)
    full = asyncio.Event()

    def note(phase: str, told: dict[str, int]) -> None:
        if told["generation"] == 2 and phase == "stop":
            full.set()

    leave_full_collections_to_us()
    gc.callbacks.append(note)
    try:
        kept = [[Loop()] for _ in range(200_000)]
        assert not full.is_set(), f"{len(kept)} new objects, and Python looked at all of them"
        del kept
        collecting = asyncio.create_task(collect_garbage(lambda: 1000, Clock()))
        async with asyncio.timeout(60):
            await full.wait()
        collecting.cancel()
        with suppress(asyncio.CancelledError):
            await collecting
    finally:
        gc.callbacks.remove(note)
