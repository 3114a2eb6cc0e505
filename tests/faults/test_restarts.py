"""A server killed while its calls go on: the client SDK sees them through to its successor, and nothing is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from random import Random
from urllib.parse import urlsplit

import pytest

from protocol.client import CallClient
from protocol.messages import Ended
from tests.faults.accounts import Outcome, eventually, recordings_of, undelivered
from tests.faults.calls import ABOUT_A_CALL_S, CALL_MS, CHUNK_PAUSE_S
from tests.faults.ledger import Ledger
from tests.faults.servers import APP_ID, PATIENCE_S, SECRET, FaultServer, Serve
from tests.faults.softphone import CHUNK_SAMPLES, START, whisper
from tests.faults.vendor import vendor_open

CALLS_AT_A_TIME = 2


async def kill_and_go_on(serve: Serve, seed: int, kills: int) -> Outcome:
    """Kill a server in the middle of calls whose clients come back to the next one on the same port."""
    random = Random(seed)
    outcome = Outcome(note=f"seed {seed}; all that was sent counts")
    async with vendor_open() as vendor:
        start = partial(serve, environment=vendor.environment)
        server = await asyncio.to_thread(start)
        again = partial(start, http=urlsplit(server.http).netloc, ws=urlsplit(server.ws).netloc)
        for _ in range(kills):
            voices = [whisper(random.getrandbits(32), CALL_MS) for _ in range(CALLS_AT_A_TIME)]
            begun = [asyncio.Event() for _ in voices]
            calls = [asyncio.create_task(_whole_call(server, pcm, it)) for pcm, it in zip(voices, begun, strict=True)]
            await asyncio.gather(*(one.wait() for one in begun))
            await asyncio.sleep(random.uniform(0, 1.2 * ABOUT_A_CALL_S))
            server.kill()
            server = await asyncio.to_thread(again)
            call_ids = await asyncio.gather(*calls)
            recordings = await recordings_of(server, call_ids, PATIENCE_S)

            async def all_handed_in(server: FaultServer = server) -> bool:
                return undelivered(server.data) == 0

            await eventually(all_handed_in)
            for pcm, recorded in zip(voices, recordings, strict=True):
                outcome.acked_samples += len(pcm) // 2
                outcome.lost_samples += max(0, len(pcm) // 2 - len(recorded or b"") // 2)
                outcome.altered += recorded is not None and recorded != pcm
                outcome.tasks_created += len(vendor.tasks_of(pcm))
                outcome.tasks_expected += 1
            outcome.tried += 1
    return outcome


async def _whole_call(server: FaultServer, pcm: bytes, begun: asyncio.Event) -> str:
    """A call from start to verdict, on whatever server there is; its id."""
    async with (
        asyncio.timeout(2 * PATIENCE_S),
        CallClient(server.ws, START, app_id=APP_ID, secret=SECRET) as client,
        asyncio.TaskGroup() as group,
    ):
        begun.set()
        group.create_task(_speak(client, pcm))
        async for message in client:
            if isinstance(message, Ended):
                assert (message.reason, message.samples) == ("hangup", len(pcm) // 2)
    return client.call_id


async def _speak(client: CallClient, pcm: bytes) -> None:
    for at in range(0, len(pcm), 2 * CHUNK_SAMPLES):
        await client.send_audio(pcm[at : at + 2 * CHUNK_SAMPLES])
        await asyncio.sleep(CHUNK_PAUSE_S)
    await client.hang_up()


@pytest.mark.row(17)
@pytest.mark.timeout(1200)
async def test_calls_go_on_when_their_server_is_killed_and_started_again(
    serve: Serve, ledger: Ledger, seed: int, tries: Callable[[int, int], int]
) -> None:
    outcome = await kill_and_go_on(serve, seed, tries(1, 25))
    outcome.enter(ledger, 17, "kill -9 and start again, the client goes on")
