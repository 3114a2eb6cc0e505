"""Nodes of one cluster in one process: calls that move between them, and what the one that lost a call may still do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from gateway.stores.memory_cluster import MemoryRegistry
from protocol.errors import CODES
from protocol.messages import Ack, Ended, Error, Gap, Hangup, Replaced, Resume, Resumed, Segment
from tests.integration.world import BooksInMemory, Options, WallClock, Wire, World, running
from tests.unit.call.sound import silence, voice

SPEECH = silence(300) + voice(2000) + silence(1000)


class SharedBooks(BooksInMemory):
    """Rules that all nodes find; what one tidies up is its own alone."""

    async def keep_only(self, digests: Collection[str]) -> int:
        return 0


@asynccontextmanager
async def nodes(tmp_path: Path, *, replicated: bool) -> AsyncIterator[tuple[World, World, MemoryRegistry]]:
    shared, books = MemoryRegistry(WallClock()), SharedBooks()
    options = Options(replicated=replicated)
    async with (
        running(tmp_path / "a", options, shared=shared, books=books) as a,
        running(tmp_path / "b", options, shared=shared, books=books) as b,
    ):
        yield a, b, shared


def resume_of(wire: Wire, **changes: object) -> Resume:
    started = wire.started
    fields = {"call_id": started.call_id, "resume_token": started.resume_token, "last_seq": wire.log[-1].seq, **changes}
    return Resume(**fields)  # type: ignore[arg-type]


def leases_run_out(shared: MemoryRegistry) -> None:
    for call in shared.calls.values():
        call.until_s = 0.0


async def say(wire: Wire, pcm: bytes, acked: int) -> None:
    await wire.send(pcm)
    await wire.until(Ack, lambda ack: ack.samples == acked)


async def test_a_call_goes_on_at_another_node_and_the_first_one_lets_it_go(tmp_path: Path) -> None:
    async with nodes(tmp_path, replicated=True) as (a, b, _):
        async with a.call() as first, b.wire() as second:
            call_id = first.started.call_id
            await say(first, SPEECH, len(SPEECH) // 2)
            await second.send(resume_of(first))
            resumed = await second.until(Resumed)
            assert resumed.samples == len(SPEECH) // 2
            with suppress(ConnectionClosed):
                await first.send(SPEECH)  # the old socket still talks, to a node that has lost the call
            assert await first.closed() == (1000, "replaced")
            assert isinstance(first.log[-1], Replaced)
            assert a.calls.sessions == []
            await second.send(SPEECH)
            await second.send(Hangup())
            ended = await second.until(Ended)
        assert ended.samples == len(SPEECH)
        assert b.recorded_pcm(call_id) == SPEECH * 2
        seqs = [message.seq for message in [*first.log, *second.log] if message.seq]
        assert seqs == sorted(set(seqs)), "no number twice"
        assert list(b.tasks.tasks) == [call_id]
        assert list(a.tasks.tasks) == []
        assert len(first.logged(Segment) + second.logged(Segment)) == 4


async def test_what_the_node_that_lost_a_call_still_has_goes_when_the_call_is_done(tmp_path: Path) -> None:
    async with nodes(tmp_path, replicated=True) as (a, b, _):
        async with a.call() as first, b.wire() as second:
            await say(first, SPEECH, len(SPEECH) // 2)
            await second.send(resume_of(first))
            await second.until(Resumed)
            await a.cluster.owners.look_round()
            assert (await first.closed())[1] == "replaced"
            await a.cluster.owners.look_round()
            assert a.unfinished == {first.started.call_id}
            await second.send(Hangup())
            await second.until(Ended)
            await b.calls.filed(first.started.call_id)
        await a.cluster.owners.look_round()
        assert a.unfinished == set()


async def test_only_the_newest_node_hands_a_call_in(tmp_path: Path) -> None:
    async with nodes(tmp_path, replicated=True) as (a, b, _):
        async with a.call() as first:
            call_id = first.started.call_id
            await say(first, SPEECH, len(SPEECH) // 2)
            async with b.wire() as second:
                await second.send(resume_of(first))
                await second.until(Resumed)
                with suppress(ConnectionClosed):
                    await first.send(Hangup())
                assert await first.closed() == (1000, "replaced")
                assert first.logged(Ended) == []
                await second.send(Hangup())
                await second.until(Ended)
        assert (len(a.tasks.tasks), len(b.tasks.tasks)) == (0, 1)
        assert b.recorded_pcm(call_id) == SPEECH


async def test_a_call_that_comes_back_to_its_first_node_has_everything(tmp_path: Path) -> None:
    async with nodes(tmp_path, replicated=True) as (a, b, _), a.call() as first:
        call_id = first.started.call_id
        await say(first, SPEECH, len(SPEECH) // 2)
        async with b.wire() as second:
            await second.send(resume_of(first))
            await second.until(Resumed)
            await say(second, SPEECH, len(SPEECH))
            last_seq = second.log[-1].seq
        async with a.wire() as third:
            await third.send(resume_of(first, last_seq=last_seq))
            resumed = await third.until(Resumed)
            assert resumed.samples == len(SPEECH)
            await say(third, SPEECH, 3 * len(SPEECH) // 2)
            await third.send(Hangup())
            await third.until(Ended)
        assert a.recorded_pcm(call_id) == SPEECH * 3
        assert (len(a.tasks.tasks), len(b.tasks.tasks)) == (1, 0)


async def test_another_app_s_call_cannot_be_taken_over(tmp_path: Path) -> None:
    async with nodes(tmp_path, replicated=True) as (a, b, _), a.call() as first:
        await say(first, SPEECH, len(SPEECH) // 2)
        async with b.wire(app_id="other") as thief:
            await thief.send(resume_of(first))
            error = await thief.until(Error)
        assert error.code == "cluster_unavailable", "as a call that no node has told of"
        async with b.wire() as forger:
            await forger.send(resume_of(first, resume_token="forged"))
            error = await forger.until(Error)
        assert error.code == "unknown_call"
        await say(first, SPEECH, len(SPEECH))


async def test_without_a_tail_a_node_that_is_well_keeps_its_call(tmp_path: Path) -> None:
    async with nodes(tmp_path, replicated=False) as (a, b, _), a.call() as first:
        await say(first, SPEECH, len(SPEECH) // 2)
        async with b.wire() as second:
            await second.send(resume_of(first))
            error = await second.until(Error)
        assert (error.code, error.retryable) == ("held_elsewhere", True)
        assert "a" in error.message
        await say(first, SPEECH, len(SPEECH))


def test_the_codes_of_a_cluster_are_retryable() -> None:
    assert CODES["held_elsewhere"].retryable
    assert CODES["cluster_unavailable"].retryable


@pytest.mark.parametrize("knows", [True, False])
async def test_without_a_tail_a_lost_node_leaves_a_declared_hole(tmp_path: Path, knows: bool) -> None:
    async with nodes(tmp_path, replicated=False) as (a, b, shared), a.call() as first:
        call_id = first.started.call_id
        samples = len(SPEECH) // 2
        await say(first, SPEECH, samples)
        (session,) = a.calls.sessions
        await a.cluster.owners.look_round()
        leases_run_out(shared)
        async with b.wire() as second:
            await second.send(resume_of(first, from_sample=samples if knows else None))
            resumed = await second.until(Resumed)
            assert resumed.samples == samples
            gap = await second.until(Gap)
            assert (gap.from_sample, gap.to_sample, gap.cause) == (0, samples, "node")
            assert gap.seq > first.log[-1].seq
            await say(second, SPEECH, 2 * samples)
            await a.cluster.owners.look_round()
            assert not session.attached
            assert (await first.closed())[1] == "replaced"
            await second.send(Hangup())
            await second.until(Ended)
        assert b.recorded_pcm(call_id) == bytes(len(SPEECH)) + SPEECH
        assert {one.segment_id for one in first.logged(Segment)}.isdisjoint(
            {one.segment_id for one in second.logged(Segment)}
        )
        assert (len(a.tasks.tasks), len(b.tasks.tasks)) == (0, 1)


@pytest.mark.parametrize("sealed", [True, False])
async def test_the_part_of_a_node_that_comes_back_late_fills_the_hole(tmp_path: Path, sealed: bool) -> None:
    async with nodes(tmp_path, replicated=False) as (a, b, shared), a.call() as first:
        call_id = first.started.call_id
        samples = len(SPEECH) // 2
        await say(first, SPEECH, samples)
        leases_run_out(shared)
        async with b.wire() as second:
            await second.send(resume_of(first, from_sample=samples))
            await second.until(Resumed)
            await say(second, SPEECH, 2 * samples)
            if not sealed:
                await a.cluster.owners.look_round()
                await b.cluster.owners.look_round()
            await second.send(Hangup())
            await second.until(Ended)
            await b.calls.filed(call_id)
        verdict = b.records.records["demo", call_id].document["qc"]
        for _ in range(2):
            await a.cluster.owners.look_round()
            await b.cluster.owners.look_round()
        assert b.recorded_pcm(call_id) == SPEECH * 2
        assert shared.late == {}
        record = b.records.records["demo", call_id]
        assert record.document["qc"] == verdict
        assert record.state == "judged"
        if sealed:
            assert [gap["filled"] for gap in record.document["gaps"]] == [True]
            assert [one.get("late") for one in record.document["segments"]] == [True, None]
        await a.cluster.owners.look_round()
        assert a.unfinished == set()
        assert len(b.tasks.tasks) == 1


async def test_a_call_that_nobody_comes_back_for_is_judged_by_another_node(tmp_path: Path) -> None:
    async with nodes(tmp_path, replicated=True) as (a, b, shared):
        async with a.call() as first:
            call_id = first.started.call_id
            await say(first, SPEECH, len(SPEECH) // 2)
            shared.calls[call_id].until_s = 0.0
            await b.calls.adopt(call_id)
            await b.records.judged.wait()
        assert b.recorded_pcm(call_id) == SPEECH
        assert b.records.records["demo", call_id].document["reason"] == "lost"
        assert (len(a.tasks.tasks), len(b.tasks.tasks)) == (0, 1)


async def test_of_two_sockets_that_bring_a_call_to_the_same_node_the_newer_wins(tmp_path: Path) -> None:
    async with nodes(tmp_path, replicated=True) as (a, b, shared), a.call() as first:
        await say(first, SPEECH, len(SPEECH) // 2)
        async with b.wire() as second, b.wire() as third:
            await asyncio.gather(second.send(resume_of(first)), third.send(resume_of(first)))
            await asyncio.gather(second.until(Resumed), third.until(Resumed))
        assert shared.calls[first.started.call_id].epoch == 2, "it was taken over once"
        assert len(b.calls) == 1
