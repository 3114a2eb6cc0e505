"""The order of an engine's work: pure, by a clock that the test holds."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.engines.deadline_queue import DeadlineQueue, QueueFull


@dataclass(eq=False)
class Job:
    name: str
    gone: bool = False
    dropped: bool = False


@dataclass
class Desk:
    """A queue, and what gave way in it."""

    limit: int = 1000
    dropped: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.queue = DeadlineQueue[Job](self.limit, gone=lambda job: job.gone or job.dropped, drop=self._drop)

    def _drop(self, job: Job) -> None:
        job.dropped = True
        self.dropped.append(job.name)

    def push(self, name: str, rank: int = 0, deadline_s: float = 0.0, **options: object) -> Job:
        job = Job(name)
        self.queue.push(job, rank, deadline_s, **options)  # type: ignore[arg-type]
        return job

    def order(self, now_s: float = 0.0) -> list[str]:
        names = []
        while (entry := self.queue.pop(now_s)) is not None:
            names.append(entry.item.name)
        return names


def test_ranks_then_deadlines_then_first_come() -> None:
    desk = Desk()
    for name, rank, deadline_s in [("d", 1, 1), ("c", 0, 5), ("a", 0, 2), ("b", 0, 2), ("e", 1, 2)]:
        desk.push(name, rank, deadline_s)
    assert desk.order() == ["a", "b", "c", "d", "e"]


def test_a_later_job_of_a_key_takes_the_place_of_a_replaceable_one() -> None:
    desk = Desk()
    desk.push("old", key="s", replaceable=True)
    desk.push("new", key="s", replaceable=True)
    desk.push("final", key="s")
    desk.push("other", key="t", replaceable=True)
    assert desk.dropped == ["old", "new"]
    assert desk.order() == ["final", "other"]


def test_what_is_stale_at_its_turn_gives_way() -> None:
    desk = Desk()
    desk.push("stale", stale_s=1.0)
    desk.push("fresh", stale_s=3.0)
    assert desk.order(now_s=2.0) == ["fresh"]
    assert desk.dropped == ["stale"]


def test_what_nobody_waits_for_is_passed_over_and_not_counted() -> None:
    desk = Desk()
    desk.push("left").gone = True
    desk.push("stays")
    assert len(desk.queue) == 1
    assert desk.order() == ["stays"]
    assert desk.dropped == []


def test_what_is_pushed_back_keeps_its_place_and_is_not_replaced_any_more() -> None:
    desk = Desk()
    desk.push("first", deadline_s=1, key="s", replaceable=True, stale_s=1)
    desk.push("second", deadline_s=2)
    begun = desk.queue.pop(0.0)
    assert begun is not None
    desk.queue.push_back(begun)
    desk.push("third", deadline_s=3, key="s", replaceable=True)
    assert desk.order(now_s=9.0) == ["first", "second", "third"]


def test_a_full_queue_drops_the_replaceable_job_due_last_and_else_refuses() -> None:
    desk = Desk(limit=2)
    desk.push("soon", rank=1, deadline_s=1, key="a", replaceable=True)
    desk.push("later", rank=1, deadline_s=5, key="b", replaceable=True)
    desk.push("last", rank=1, deadline_s=9, key="c", replaceable=True)
    assert desk.dropped == ["last"]
    desk.push("final")
    desk.push("another")
    assert desk.dropped == ["last", "later", "soon"]
    with pytest.raises(QueueFull):
        desk.push("one too many")
    assert desk.order() == ["final", "another"]


def test_overdue_is_the_worst_of_all_that_wait() -> None:
    desk = Desk()
    assert desk.queue.overdue_s(5.0) < -1e9
    desk.push("soon", rank=0, deadline_s=4.5)
    desk.push("partial", rank=1, deadline_s=3.0)
    desk.push("left", deadline_s=0.0).gone = True
    assert desk.queue.overdue_s(5.0) == 2.0


def test_what_is_cleared_is_handed_over() -> None:
    desk = Desk()
    desk.push("a", key="a", replaceable=True)
    assert [job.name for job in desk.queue.clear()] == ["a"]
    desk.push("b", key="a", replaceable=True)
    assert desk.dropped == []


# --- fairness: many calls, one engine, more work than it can do ---

FINAL_DEADLINE_S, PARTIAL_DEADLINE_S, PATIENCE_S = 1.0, 0.5, 1.5


@dataclass(frozen=True)
class Done:
    call: int
    nth: int
    kind: str
    asked_s: float
    begun_s: float


def played(finals: list[tuple[float, int]], cost_s: float, partials: list[tuple[float, int]]) -> list[Done]:
    """Every job that an engine of fixed cost did. `finals`, `partials`: (when asked for, by which call)."""
    desk = Desk()
    arrivals = sorted([(at, "final", call) for at, call in finals] + [(at, "partial", call) for at, call in partials])
    heapq.heapify(arrivals)
    counts: dict[tuple[str, int], int] = {}
    asked: dict[str, tuple[int, int, str, float]] = {}
    done: list[Done] = []
    now_s = 0.0
    while arrivals or len(desk.queue):
        while arrivals and (arrivals[0][0] <= now_s or not len(desk.queue)):
            at_s, kind, call = heapq.heappop(arrivals)
            now_s = max(now_s, at_s)
            nth = counts[kind, call] = counts.get((kind, call), 0) + 1
            name = f"{kind} {call} {nth}"
            asked[name] = call, nth, kind, at_s
            if kind == "final":
                desk.push(name, 0, at_s + FINAL_DEADLINE_S, key=f"{call}")
            else:
                due_s = at_s + PARTIAL_DEADLINE_S
                desk.push(name, 1, due_s, key=f"{call}", replaceable=True, stale_s=due_s + PATIENCE_S)
        entry = desk.queue.pop(now_s)
        if entry is not None:
            done.append(Done(*asked[entry.item.name], begun_s=now_s))
            now_s += cost_s
    return done


TIMES = st.floats(0, 20, allow_nan=False).map(lambda at: round(at, 3))
ASKED = st.lists(st.tuples(TIMES, st.integers(0, 5)), max_size=60)


@settings(max_examples=200, deadline=None)
@given(finals=ASKED, partials=ASKED, cost_s=st.sampled_from([0.01, 0.2, 1.0]))
def test_every_final_is_done_in_the_order_it_was_asked_for_over_all_calls(
    finals: list[tuple[float, int]], partials: list[tuple[float, int]], cost_s: float
) -> None:
    done = [one for one in played(finals, cost_s, partials) if one.kind == "final"]
    assert len(done) == len(finals)
    assert [one.asked_s for one in done] == sorted(one.asked_s for one in done)


@settings(max_examples=200, deadline=None)
@given(finals=ASKED, partials=ASKED, cost_s=st.sampled_from([0.01, 0.2, 1.0]))
def test_no_final_waits_for_more_than_the_finals_before_it_and_one_job_under_way(
    finals: list[tuple[float, int]], partials: list[tuple[float, int]], cost_s: float
) -> None:
    for one in (done for done in played(finals, cost_s, partials) if done.kind == "final"):
        before = sum(at_s <= one.asked_s for at_s, _ in finals)
        assert one.begun_s - one.asked_s <= cost_s * before + 1e-6


@settings(max_examples=100, deadline=None)
@given(calls=st.integers(2, 12), share=st.floats(1.0, 3.0))
def test_where_partials_are_more_than_capacity_every_call_gets_its_share(calls: int, share: float) -> None:
    hop_s = 0.7
    cost_s = share * hop_s / calls
    partials = [(round(hop_s * nth + 0.01 * call, 3), call) for nth in range(100) for call in range(calls)]
    counts = [0] * calls
    for one in played([], cost_s, partials):
        counts[one.call] += 1
    assert min(counts) >= 0.5 * sum(counts) / calls
    assert max(one.begun_s - one.asked_s for one in played([], cost_s, partials)) <= PARTIAL_DEADLINE_S + PATIENCE_S
