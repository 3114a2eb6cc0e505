"""A server that is told to go, told again, and cannot."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from protocol.messages import GoingAway
from tests.faults.accounts import Outcome, account_for
from tests.faults.calls import CHUNK_PAUSE_S, NOBODY_COMES_BACK
from tests.faults.disks import delayed_syncs
from tests.faults.ledger import Ledger
from tests.faults.servers import FaultServer, Serve
from tests.faults.softphone import CHUNK_SAMPLES, Softphone, whisper
from tests.faults.vendor import vendor_open

CALLS = 20
DRAIN_S = 10


async def talking(server: FaultServer, calls: int) -> tuple[list[Softphone], list[asyncio.Task[bool]]]:
    """Calls that go on until their sockets are gone; each has something acknowledged."""
    phones = [Softphone(server.ws, whisper(seed, 60_000)) for seed in range(calls)]
    await asyncio.gather(*(phone.__aenter__() for phone in phones))
    talks = [asyncio.create_task(phone.talk(pause_s=CHUNK_PAUSE_S * calls)) for phone in phones]
    await asyncio.gather(*(phone.acked(CHUNK_SAMPLES) for phone in phones))
    return phones, talks


async def tell_to_stop(
    serve: Serve, signals: Sequence[signal.Signals], *, calls: int = CALLS, environment: dict[str, str] | None = None
) -> Outcome:
    """Stop a server in its calls, and start it again."""
    outcome = Outcome(tried=1)
    async with vendor_open() as vendor:
        start = partial(serve, environment={**vendor.environment, **NOBODY_COMES_BACK, **(environment or {})})
        server = await asyncio.to_thread(start)
        phones, talks = await talking(server, calls)
        for number in signals:
            server.signal(number)
        status = await asyncio.to_thread(server.wait, DRAIN_S + 20)
        await asyncio.gather(*talks)
        await asyncio.gather(*(phone.silence() for phone in phones))
        assert status == 0, server.log
        assert all(phone.of(GoingAway) for phone in phones), "every client is told"
        server = await asyncio.to_thread(start)
        await account_for(outcome, server, phones, vendor)
    return outcome


@pytest.mark.row(28)
async def test_a_server_told_to_stop_in_twenty_calls_loses_nothing(serve: Serve, ledger: Ledger) -> None:
    (await tell_to_stop(serve, [signal.SIGTERM])).enter(ledger, 28, f"SIGTERM with {CALLS} calls")


@pytest.mark.row(29)
async def test_a_server_told_twice_to_stop_loses_nothing(serve: Serve, ledger: Ledger) -> None:
    (await tell_to_stop(serve, [signal.SIGTERM, signal.SIGTERM], calls=4)).enter(ledger, 29, "SIGTERM twice")


@pytest.mark.row(29)
async def test_a_server_that_cannot_stop_in_time_loses_nothing(serve: Serve, ledger: Ledger, tmp_path: Path) -> None:
    outcome = Outcome(tried=1)
    async with vendor_open() as vendor:
        start = partial(serve, environment=vendor.environment | NOBODY_COMES_BACK | {"EARSHOT_DRAIN_S": "1"})
        server = await asyncio.to_thread(start)
        phones, talks = await talking(server, 2)
        async with delayed_syncs(server.pid, delay_s=300):
            server.signal(signal.SIGTERM)
            # A disk that hangs holds the process at most as long as its supervisor waits.
            await asyncio.gather(*(phone.silence() for phone in phones))
            server.kill()
        await asyncio.gather(*talks)
        server = await asyncio.to_thread(start)
        await account_for(outcome, server, phones, vendor)
    outcome.enter(ledger, 29, "SIGTERM, the deadline passes on a hanging disk, kill -9")
