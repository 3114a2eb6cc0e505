"""Networks that lose, delay, squeeze and cut: every recording is what was sent, byte for byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from random import Random
from urllib.parse import urlsplit

import pytest

from protocol.client import CallClient, CallRefused
from protocol.messages import Ended
from tests.faults.accounts import Outcome, recordings_of
from tests.faults.cables import Cable, Relay, cable
from tests.faults.ledger import Ledger
from tests.faults.servers import APP_ID, SECRET, FaultServer, Serve
from tests.faults.softphone import START, whisper

LOSS_PERCENT = 5
CALL_MS = 3000
CHUNK_BYTES = 1600
AT_A_TIME = 25
PATIENCE_S = 300
CUT_SHARE, CUT_EVERY_S = 0.25, 0.4
"""Each connection is cut with this probability, so often: about half of the calls meet it once or more."""


@dataclass
class Line:
    """A server at the far end of a bad network, and the way to it."""

    server: FaultServer
    relay: Relay
    url: str
    """Of the native socket, by way of the relay."""


@asynccontextmanager
async def line(serve: Serve, wire: Cable, delay_s: float = 0.0) -> AsyncIterator[Line]:
    server = await asyncio.to_thread(
        partial(serve, wrap=wire.wrap, http=f"{wire.far}:0", ws=f"{wire.far}:0", environment=PATIENT)
    )
    port = urlsplit(server.ws).port
    assert port is not None
    relay = Relay(wire.far, port, delay_s)
    async with relay.open() as address:
        yield Line(server, relay, f"ws://{address}/v1/calls")


PATIENT = {"EARSHOT_AUDIO_TIMEOUT_S": "120", "EARSHOT_FIRST_MESSAGE_TIMEOUT_S": "120"}


async def call(one: Line, pcm: bytes, pace_s: float) -> str:
    """A whole call with the client SDK, which must see it through by itself; its id."""
    while True:
        client = CallClient(one.url, START, app_id=APP_ID, secret=SECRET)
        try:
            await client.__aenter__()
            break
        except (OSError, CallRefused, EOFError):
            continue  # cut before there was a call: the next try begins one
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_speak(client, pcm, pace_s))
            async for message in client:
                if isinstance(message, Ended):
                    assert message.reason in ("hangup", "qc_pending"), message
    finally:
        await client.__aexit__(None, None, None)
    return client.call_id


async def _speak(client: CallClient, pcm: bytes, pace_s: float) -> None:
    for at in range(0, len(pcm), CHUNK_BYTES):
        await client.send_audio(pcm[at : at + CHUNK_BYTES])
        await asyncio.sleep(pace_s)
    await client.hang_up(wait_qc_ms=0)


async def many_calls(one: Line, seeds: Iterable[int], pace_s: float) -> Outcome:
    """Calls, some at a time; every recording is held against what was sent."""
    outcome = Outcome()
    free = asyncio.Semaphore(AT_A_TIME)

    async def single(seed: int) -> None:
        pcm = whisper(seed, CALL_MS)
        async with free, asyncio.timeout(PATIENCE_S):
            call_id = await call(one, pcm, pace_s)
            (recorded,) = await recordings_of(one.server, [call_id], PATIENCE_S)
        outcome.tried += 1
        outcome.acked_samples += len(pcm) // 2
        outcome.altered += recorded is not None and recorded != pcm
        outcome.lost_samples += len(pcm) // 2 - len(recorded or b"") // 2

    await asyncio.gather(*(single(seed) for seed in seeds))
    return outcome


async def cutting(relay: Relay, random: Random) -> None:
    while True:
        await asyncio.sleep(CUT_EVERY_S)
        relay.cut(random, CUT_SHARE)


@pytest.mark.row(33)
@pytest.mark.timeout(1200)
async def test_connections_cut_at_random_over_a_network_that_loses_packets_cost_no_byte(
    serve: Serve, ledger: Ledger, seed: int, tries: Callable[[int, int], int]
) -> None:
    random = Random(seed)
    with cable() as wire:
        wire.lose(LOSS_PERCENT)
        async with line(serve, wire) as one:
            cutter = asyncio.create_task(cutting(one.relay, random))
            outcome = await many_calls(one, range(tries(20, 1000)), pace_s=0.02)
            cutter.cancel()
            outcome.note = f"{one.relay.cuts} cuts, {LOSS_PERCENT} % loss, seed {seed}; all that was sent counts"
            assert one.relay.cuts > 0
    outcome.enter(ledger, 33, f"connections cut at random, {LOSS_PERCENT} % loss")


@pytest.mark.full
@pytest.mark.row(33)
@pytest.mark.timeout(300)
async def test_a_slow_narrow_line_that_loses_packets_costs_no_byte(serve: Serve, ledger: Ledger) -> None:
    with cable() as wire:
        wire.lose(LOSS_PERCENT)
        wire.narrow(256)
        async with line(serve, wire, delay_s=0.15) as one:
            outcome = await many_calls(one, range(10), pace_s=0.0)
    outcome.enter(ledger, 33, f"{LOSS_PERCENT} % loss, 150 ms each way, 256 kbit/s")


@pytest.mark.row(33)
@pytest.mark.timeout(300)
async def test_a_line_that_is_dead_for_a_while_costs_no_byte(
    serve: Serve, ledger: Ledger, tries: Callable[[int, int], int]
) -> None:
    dead_s = tries(1, 10)
    with cable() as wire:
        async with line(serve, wire) as one:
            calls = asyncio.create_task(many_calls(one, range(4), pace_s=0.05))
            await asyncio.sleep(1)
            wire.pull()
            await asyncio.sleep(dead_s)
            wire.plug()
            outcome = await calls
    outcome.enter(ledger, 33, f"the line is dead for {dead_s} s")
