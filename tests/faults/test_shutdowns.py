"""A server that is told to go, told again, and cannot."""

from __future__ import annotations

import asyncio
import signal
from functools import partial

import pytest

from protocol.messages import GoingAway
from tests.faults.accounts import Outcome, account_for, eventually
from tests.faults.calls import CHUNK_PAUSE_S, NOBODY_COMES_BACK
from tests.faults.disks import delayed_syncs
from tests.faults.ledger import Ledger
from tests.faults.servers import PATIENCE_S, FaultServer, Serve
from tests.faults.softphone import CHUNK_SAMPLES, Softphone, whisper
from tests.faults.vendor import hanging, in_order, vendor_open

CALLS = 20
HANGS_S = 600
"""Longer than anybody here waits."""


async def talking(server: FaultServer, calls: int) -> tuple[list[Softphone], list[asyncio.Task[bool]]]:
    """Calls that go on until their sockets are gone; each has something acknowledged."""
    phones = [Softphone(server.ws, whisper(seed, 60_000)) for seed in range(calls)]
    await asyncio.gather(*(phone.__aenter__() for phone in phones))
    talks = [asyncio.create_task(phone.talk(pause_s=CHUNK_PAUSE_S * calls)) for phone in phones]
    await asyncio.gather(*(phone.acked(CHUNK_SAMPLES) for phone in phones))
    return phones, talks


async def tell_to_stop(serve: Serve, mutant: str = "") -> Outcome:
    """Stop a server in its calls, and start it again."""
    outcome = Outcome(tried=1)
    async with vendor_open() as vendor:
        start = partial(serve, environment=vendor.environment | NOBODY_COMES_BACK)
        server = await asyncio.to_thread(partial(start, mutant=mutant))
        phones, talks = await talking(server, CALLS)
        assert await asyncio.to_thread(server.stop) == 0, server.log
        await asyncio.gather(*talks)
        await asyncio.gather(*(phone.silence() for phone in phones))
        assert all(phone.of(GoingAway) for phone in phones), "every client is told"
        server = await asyncio.to_thread(start)
        await account_for(outcome, server, phones, vendor, patience_s=3 if mutant else PATIENCE_S)
    return outcome


@pytest.mark.row(28)
async def test_a_server_told_to_stop_in_twenty_calls_loses_nothing(serve: Serve, ledger: Ledger) -> None:
    (await tell_to_stop(serve)).enter(ledger, 28, f"SIGTERM with {CALLS} calls")


@pytest.mark.full
@pytest.mark.row(28)
async def test_that_check_sees_a_server_that_hangs_up_when_it_goes(serve: Serve) -> None:
    assert (await tell_to_stop(serve, "stop_forgets")).lost_samples > 0


async def stop_on_a_hanging_disk(serve: Serve, drain_s: float, then: signal.Signals | None) -> tuple[int, Outcome]:
    """The exit status of a server that is told to stop while no sync returns, and maybe told again; the costs."""
    outcome = Outcome(tried=1)
    async with vendor_open() as vendor:
        start = partial(serve, environment=vendor.environment | NOBODY_COMES_BACK | {"EARSHOT_DRAIN_S": str(drain_s)})
        server = await asyncio.to_thread(start)
        phones, talks = await talking(server, 2)
        async with delayed_syncs(server.pid, delay_s=HANGS_S):
            server.signal(signal.SIGTERM)
            await asyncio.gather(*(phone.silence() for phone in phones))
            if then is not None:
                server.signal(then)

            async def has_exited(server: FaultServer = server) -> bool:
                return server.has_exited

            await eventually(has_exited)
        status = await asyncio.to_thread(server.wait)
        await asyncio.gather(*talks)
        assert all(phone.of(GoingAway) for phone in phones), "every client is told"
        server = await asyncio.to_thread(start)
        await account_for(outcome, server, phones, vendor)
    return status, outcome


@pytest.mark.row(29)
async def test_a_server_on_a_disk_that_hangs_ends_by_itself_at_the_deadline(serve: Serve, ledger: Ledger) -> None:
    status, outcome = await stop_on_a_hanging_disk(serve, 1, None)
    assert status == 0
    outcome.enter(ledger, 29, "SIGTERM, the deadline passes on a hanging disk")


@pytest.mark.row(29)
async def test_a_second_signal_ends_a_server_at_once(serve: Serve, ledger: Ledger) -> None:
    status, outcome = await stop_on_a_hanging_disk(serve, HANGS_S, signal.SIGTERM)
    assert status == -signal.SIGTERM
    outcome.enter(ledger, 29, "SIGTERM twice on a hanging disk")


@pytest.mark.full
@pytest.mark.row(29)
async def test_a_voice_qc_that_hangs_holds_no_server_beyond_its_deadline(serve: Serve, ledger: Ledger) -> None:
    outcome = Outcome(tried=1)
    async with vendor_open() as vendor:
        back = asyncio.Event()
        vendor.before = hanging(back)
        environment = vendor.environment | NOBODY_COMES_BACK
        server = await asyncio.to_thread(partial(serve, environment=environment | {"EARSHOT_DRAIN_S": "1"}))
        async with Softphone(server.ws, whisper(29, 600)) as phone:
            await phone.talk()
            await phone.acked(phone.sent_samples)
            await phone.hang_up()

            async def asked() -> bool:
                return bool(vendor.requests)

            await eventually(asked)
            server.signal(signal.SIGTERM)
            assert await asyncio.to_thread(server.wait) == 0
        back.set()
        vendor.before = in_order
        server = await asyncio.to_thread(partial(serve, environment=environment))
        await account_for(outcome, server, [phone], vendor)
    outcome.enter(ledger, 29, "SIGTERM while voice QC hangs")
