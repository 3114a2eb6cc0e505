"""A server that is killed at any moment of its calls, and by any of its system calls."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Literal

import pytest
from aiohttp import web

from protocol.messages import Ended
from tests.faults.accounts import Outcome, account_for
from tests.faults.calls import NOBODY_COMES_BACK, killed_mid_call, whole_call
from tests.faults.disks import killed_at
from tests.faults.ledger import Ledger
from tests.faults.servers import FaultServer, Serve
from tests.faults.softphone import Softphone, whisper
from tests.faults.vendor import Step, at_first, vendor_open

Point = tuple[str, int]
"""A system call, and which one of those that a thread makes in a call: each thread counts for itself."""
CERTAIN: Sequence[Point] = (("rename", 1), ("fdatasync", 2), ("fsync", 3), ("write", 3), ("pwrite64", 2))
"""Every call comes to these: the recording gets its name, a commit, the name is made durable, a journal's record, the
head of a recording or a row of a table."""
LAST = {"fsync": 3, "fdatasync": 9, "write": 22, "pwrite64": 34}
"""So many of each a call makes at least, in the thread that makes most of them."""


async def kill_at_random_points(serve: Serve, seed: int, kills: int, mutant: str = "") -> Outcome:
    """Kill a server that has calls, start it again, and hold what it kept against what it had acknowledged."""
    random = Random(seed)
    outcome = Outcome(note=f"seed {seed}")
    async with vendor_open() as vendor:
        start = partial(serve, mutant=mutant, environment=vendor.environment | NOBODY_COMES_BACK)
        server = await asyncio.to_thread(start)
        everyone: list[Softphone] = []
        for _ in range(kills):
            phones = await killed_mid_call(server, random)
            everyone += phones
            server = await asyncio.to_thread(start)
            await account_for(outcome, server, phones, vendor, patience_s=5 if mutant else 60)
            outcome.tried += 1
        # Once more for all of them: later starts may have handed in a call of an earlier one again.
        outcome.tasks_created = sum(len(vendor.tasks_of(phone.pcm)) for phone in everyone if phone.acked_samples)
    return outcome


@pytest.mark.row(17)
@pytest.mark.timeout(1200)
async def test_a_server_killed_anywhere_in_a_call_keeps_what_it_acked_and_hands_it_in_once(
    serve: Serve, ledger: Ledger, seed: int, tries: Callable[[int, int], int]
) -> None:
    (await kill_at_random_points(serve, seed, tries(2, 50))).enter(ledger, 17, "kill -9 at a random point of a call")


@pytest.mark.row(17)
async def test_that_check_sees_an_ack_that_comes_too_early(serve: Serve) -> None:
    assert (await kill_at_random_points(serve, 3, 2, "ack_in_memory")).lost_samples > 0


async def kill_at_system_calls(serve: Serve, points: Sequence[Point]) -> tuple[Outcome, set[Point]]:
    """Kill a server as it begins its nth call of each kind; what came before is the other side of the one before.

    Also at which of the points it came to that.
    """
    outcome = Outcome()
    struck: set[Point] = set()
    async with vendor_open() as vendor:
        environment = vendor.environment | NOBODY_COMES_BACK
        for seed, (call, number) in enumerate(points):
            doomed = await asyncio.to_thread(partial(serve, f"{call}-{number}", environment=environment))
            phone = Softphone(doomed.ws, whisper(seed, 600))
            async with killed_at(doomed.pid, call, number):
                await whole_call(phone)
                if not phone.of(Ended):
                    assert await asyncio.to_thread(doomed.wait) == -signal.SIGKILL, doomed.log
                    struck.add((call, number))
            doomed.kill()
            server = await asyncio.to_thread(partial(serve, doomed.data.name, environment=environment))
            await account_for(outcome, server, [phone] if phone.messages else [], vendor)
            server.kill()
            outcome.tried += 1
    outcome.note = f"{len(struck)} times it came to that"
    return outcome, struck


@pytest.mark.row(19)
@pytest.mark.timeout(1200)
async def test_a_server_killed_by_any_of_its_writes_syncs_and_renames_keeps_what_it_acked(
    serve: Serve, ledger: Ledger, tries: Callable[[int, int], int]
) -> None:
    swept = [(call, number) for call, last in LAST.items() for number in range(1, last + 1, max(1, last // 8))]
    certain = CERTAIN[: tries(2, len(CERTAIN))]
    points = [*certain, *swept[: tries(0, len(swept))]]
    outcome, struck = await kill_at_system_calls(serve, points)
    assert struck >= set(certain), f"it came only to {struck}"
    outcome.enter(ledger, 19, "killed at its nth write, sync or rename")


Moment = tuple[Literal["before", "after"], Step]
TAKEN_UNSAID: Moment = ("after", "create")
"""Voice QC has taken the task, and the gateway does not know it."""
AROUND_THE_UPLOAD: Sequence[Moment] = (TAKEN_UNSAID, ("before", "token"), ("before", "create"), ("before", "result"))


async def kill_around_the_upload(serve: Serve, moments: Sequence[Moment], mutant: str = "") -> Outcome:
    """Kill a server before voice QC has a task, and after it has taken it."""
    outcome = Outcome()
    for seed, (side, step) in enumerate(moments):
        async with vendor_open() as vendor:
            start = partial(serve, f"{side}-{step}", mutant=mutant, environment=vendor.environment | NOBODY_COMES_BACK)
            server = await asyncio.to_thread(start)

            async def kill(server: FaultServer = server) -> web.Response | None:
                await asyncio.to_thread(server.kill)
                return None

            setattr(vendor, side, at_first(step, kill))
            async with Softphone(server.ws, whisper(seed, 600)) as phone:
                await phone.talk()
                await phone.hang_up()
                await phone.silence()
            server = await asyncio.to_thread(start)
            await account_for(outcome, server, [phone], vendor)
            outcome.tried += 1
    return outcome


@pytest.mark.row(19)
async def test_a_server_killed_on_either_side_of_the_upload_hands_a_call_in_once(
    serve: Serve, ledger: Ledger, tries: Callable[[int, int], int]
) -> None:
    moments = AROUND_THE_UPLOAD[: tries(2, 4)]
    (await kill_around_the_upload(serve, moments)).enter(ledger, 19, "killed before and after voice QC has the task")


@pytest.mark.row(19)
async def test_that_check_sees_an_upload_without_a_key(serve: Serve) -> None:
    outcome = await kill_around_the_upload(serve, [TAKEN_UNSAID], "no_idempotency_key")
    assert outcome.tasks_created > outcome.tasks_expected
