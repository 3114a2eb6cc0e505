"""Rows 8 to 12: peers that are too slow, too fast, too quiet, or gone without a word."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, suppress
from urllib.parse import urlsplit

import pytest

from tests.faults.ledger import Ledger
from tests.faults.networks import SERVER, Network, Unavailable, network
from tests.faults.raw import BINARY, GONE, PING, TEXT, RawSocket, frame, started_call, upgrade
from tests.faults.servers import PATIENCE_S, Serve
from tests.faults.witness import recording_of, unharmed_call
from tests.integration.hummed import eventually

ENOUGH_S = 3
"""A time-out for tests: whoever means well is in time, also on a machine under load."""
SHORT_S = 2
"""A mutant is not waited for: what must happen has happened by then on any server that does it at all."""

# --- row 8 -------------------------------------------------------------------------------------------------------

DRIPPERS = 50
DRIP_S = 0.1


async def drip(address: str) -> None:
    """Bring a request's head byte by byte, never its end, until the server has had enough."""
    parts = urlsplit(address)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(b"GET /v1/calls HTTP/1.1\r\nHost: here\r\nX-Slow: ")
    try:
        while not reader.at_eof():
            writer.write(b"x")
            with suppress(TimeoutError):
                async with asyncio.timeout(DRIP_S):
                    await reader.read(4096)
    except ConnectionError:
        pass
    finally:
        writer.transport.abort()


async def check_drippers(serve: Serve, timeout_s: float, patience_s: float = 60) -> int:
    server = serve(environment={"EARSHOT_HANDSHAKE_TIMEOUT_S": str(timeout_s)})
    async with unharmed_call(server) as app, asyncio.timeout(patience_s), asyncio.TaskGroup() as drippers:
        for address in (server.http, server.ws):
            for _ in range(DRIPPERS):
                drippers.create_task(drip(address))
        status, _ = await app.get("/v1/calls")
        assert status == 200
        async with started_call(server.ws) as another:
            assert await another.ends() == 1000
    return 2 * DRIPPERS


@pytest.mark.row(8)
@pytest.mark.parametrize("timeout_s", [ENOUGH_S, pytest.param(10, marks=pytest.mark.full)])
async def test_who_drips_a_request_is_cut_on_both_listeners(serve: Serve, ledger: Ledger, timeout_s: float) -> None:
    tried = await check_drippers(serve, timeout_s)
    ledger.add(
        row=8, fault="request head that never ends, on both listeners", tried=tried, note=f"cut after {timeout_s} s"
    )


@pytest.mark.full
@pytest.mark.row(8)
async def test_the_check_sees_a_server_that_waits_for_drippers(serve: Serve) -> None:
    with pytest.raises(TimeoutError):
        await check_drippers(serve, timeout_s=3600, patience_s=SHORT_S)


# --- row 9 -------------------------------------------------------------------------------------------------------


async def check_silence(serve: Serve, mutant: str = "") -> int:
    short = {"EARSHOT_FIRST_MESSAGE_TIMEOUT_S": f"{ENOUGH_S}", "EARSHOT_AUDIO_TIMEOUT_S": f"{ENOUGH_S}"}
    server = serve(mutant=mutant, environment=short)

    async def is_timed_out(wire: RawSocket) -> None:
        assert await wire.closed() == 1008
        assert wire.error_codes == ["timeout"]

    async with unharmed_call(server), started_call(server.ws) as paused, AsyncExitStack() as stack:
        await paused.tell(type="pause")
        mute = [await stack.enter_async_context(await upgrade(server.ws)) for _ in range(3)]
        silent = [await stack.enter_async_context(started_call(server.ws)) for _ in range(3)]
        for wire in silent:
            await wire.send(frame(BINARY, bytes(160)))
        await asyncio.gather(*(is_timed_out(wire) for wire in mute + silent))
        # It has been as quiet, for longer.
        await paused.tell(type="ping", id="still here")
        await paused.until("pong")
        await paused.tell(type="continue")
        await is_timed_out(paused)
    return len(mute + silent) + 1


@pytest.mark.row(9)
async def test_who_says_nothing_is_timed_out_unless_paused(serve: Serve, ledger: Ledger) -> None:
    ledger.add(row=9, fault="no first message; no audio", tried=await check_silence(serve))


@pytest.mark.full
@pytest.mark.row(9)
async def test_the_check_sees_a_server_that_takes_a_pause_for_silence(serve: Serve) -> None:
    with pytest.raises(AssertionError, match="closed 1008 before pong"):
        await check_silence(serve, "pause_is_silence")


# --- row 10 ------------------------------------------------------------------------------------------------------

FLOOD = 20_000


async def check_floods(serve: Serve, environment: Mapping[str, str] | None = None) -> int:
    server = serve(environment=environment)
    floods = (
        frame(PING, b"x"),
        frame(TEXT, b'{"type":"ping"}'),
        frame(TEXT, b'{"type":"mark","name":"x"}'),
        frame(BINARY, b""),
    )
    for one in floods:
        async with unharmed_call(server), started_call(server.ws) as wire:
            with suppress(ConnectionError):
                await asyncio.gather(wire.send(one * FLOOD), read_on(wire))
            assert await wire.ends() == 1008
            assert wire.error_codes == ["too_fast"]
    return len(floods) * FLOOD


async def read_on(wire: RawSocket) -> None:
    """Take what comes while a flood is sent, or it would only show how a slow reader is treated."""
    with suppress(AssertionError, asyncio.IncompleteReadError, TimeoutError):
        await wire.until("error", patience_s=10)


@pytest.mark.row(10)
async def test_a_flood_closes_with_1008_and_costs_no_other_call_anything(serve: Serve, ledger: Ledger) -> None:
    ledger.add(row=10, fault="20,000 pings, tiny messages or empty frames at once", tried=await check_floods(serve))


@pytest.mark.full
@pytest.mark.row(10)
async def test_the_check_sees_a_server_that_takes_any_number(serve: Serve) -> None:
    with pytest.raises(AssertionError, match="1008"):
        await check_floods(serve, {"EARSHOT_MAX_MESSAGES_PER_S": "0"})


# --- row 11 ------------------------------------------------------------------------------------------------------


QUICK_PINGS = {"EARSHOT_PING_INTERVAL_S": "0.5", "EARSHOT_PING_TIMEOUT_S": f"{ENOUGH_S}"}
HALF_A_SECOND = b"".join((at % 100).to_bytes(2, "little") for at in range(4000))
"""Too soft for anybody to hear words in it."""


@pytest.fixture
def own_network() -> Iterator[Network]:
    with ExitStack() as stack:
        try:
            yield stack.enter_context(network())
        except Unavailable as reason:
            pytest.skip(str(reason))


async def check_half_open(
    serve: Serve, own_network: Network, environment: Mapping[str, str], *, paused: bool, patience_s: float = PATIENCE_S
) -> int:
    """A call whose client is cut off in the middle, without either end being told."""
    server = serve(
        wrap=own_network.wrap,
        http=f"{SERVER}:0",
        ws=f"{SERVER}:0",
        environment={"EARSHOT_RESUME_WINDOW_S": "0.5", **environment},
    )
    async with unharmed_call(server) as app, await upgrade(server.ws) as wire:
        call_id = str((await wire.start())["call_id"])
        await wire.send(frame(BINARY, HALF_A_SECOND))
        await wire.until("ack", samples=len(HALF_A_SECOND) // 2)
        if paused:
            await wire.tell(type="pause")
            await wire.tell(type="ping", id="it knows")
            await wire.until("pong")
        port = wire.writer.get_extra_info("sockname")[1]
        assert server.holds_socket_to(port)
        own_network.drop_packets_of(port)

        async def is_lost() -> bool:
            _, told = await app.get(f"/v1/calls/{call_id}")
            return b'"reason":"lost"' in told

        async def socket_is_gone() -> bool:
            return not server.holds_socket_to(port)

        assert await recording_of(app, call_id, patience_s) == HALF_A_SECOND
        await eventually(is_lost, patience_s)
        await eventually(socket_is_gone, patience_s)
    return len(HALF_A_SECOND) // 2


@pytest.mark.full  # the closing handshake with nobody takes its whole time-out
@pytest.mark.row(11)
async def test_the_call_of_a_peer_that_is_gone_without_a_word_is_ended_and_sealed(
    serve: Serve, own_network: Network, ledger: Ledger
) -> None:
    samples = await check_half_open(serve, own_network, {"EARSHOT_AUDIO_TIMEOUT_S": f"{ENOUGH_S}"}, paused=False)
    ledger.add(row=11, fault="peer gone without a word", tried=1, acked_samples=samples, lost_samples=0)


@pytest.mark.row(11)
async def test_a_peer_that_is_gone_in_a_pause_is_missed_too(serve: Serve, own_network: Network, ledger: Ledger) -> None:
    samples = await check_half_open(serve, own_network, QUICK_PINGS, paused=True)
    ledger.add(row=11, fault="peer gone in a pause", tried=1, acked_samples=samples, lost_samples=0)


@pytest.mark.row(11)
async def test_a_client_that_answers_no_ping_is_let_go_in_a_pause(serve: Serve, ledger: Ledger) -> None:
    server = serve(environment=QUICK_PINGS)
    async with unharmed_call(server), started_call(server.ws) as dumb, started_call(server.ws) as paused:
        dumb.answers_pings = False
        for wire in (paused, dumb):
            await wire.tell(type="pause")
        # As quiet, for as long, but for its answers: they are given while it reads.
        polite = asyncio.create_task(paused.until("ended"))
        assert await dumb.closed() == 1011
        await paused.tell(type="hangup", wait_qc_ms=0)
        await polite
    ledger.add(row=11, fault="client that answers no ping", tried=1)


@pytest.mark.full
@pytest.mark.row(11)
async def test_the_check_sees_a_server_that_misses_nobody(serve: Serve, own_network: Network) -> None:
    patient = {"EARSHOT_AUDIO_TIMEOUT_S": "3600"}
    with pytest.raises((AssertionError, TimeoutError)):
        await check_half_open(serve, own_network, patient, paused=False, patience_s=SHORT_S)


# --- row 12 ------------------------------------------------------------------------------------------------------

SENTENCES = 1900
SENTENCE = "x" * 4000
"""Each comes back as a message; together they are more than a socket's buffers and what the server keeps for one."""
MOST_FOR_A_SLOW_READER_BYTES = 40 * 1024 * 1024
"""All that was said is kept for the call's record and for `resume`, so it costs something; but not without end."""


async def check_slow_reader(serve: Serve) -> int:
    server = serve(environment={"EARSHOT_MAX_MESSAGES_PER_S": "500"})  # and 2000 at once
    async with unharmed_call(server) as app:
        before_bytes = server.memory_bytes
        async with await upgrade(server.ws, receive_buffer_bytes=4096) as wire:
            started = await wire.start()
            await wire.send(frame(BINARY, HALF_A_SECOND))
            for number in range(SENTENCES):
                await wire.tell(type="transcript", text=f"{number} {SENTENCE}", begin_ms=0, end_ms=1)
            await asyncio.to_thread(server.wait_for_line, "client_cut_off", patience_s=PATIENCE_S)
            assert server.peak_memory_bytes - before_bytes < MOST_FOR_A_SLOW_READER_BYTES
            assert await wire.closed() in (1008, GONE)
        call_id = str(started["call_id"])
        async with await upgrade(server.ws) as again:
            await again.tell(
                type="resume", call_id=call_id, resume_token=started["resume_token"], last_seq=started["seq"]
            )
            assert (await again.until("resumed"))["samples"] == len(HALF_A_SECOND) // 2
            await again.tell(type="hangup", wait_qc_ms=0)
            await again.until("ended")
            numbered = [message["seq"] for message in again.texts if message["seq"]]
            assert numbered == list(range(2, len(numbered) + 2)), "each message once, in order"
            said = [message for message in again.texts if message["type"] == "transcript" and message["final"]]
            assert [str(message["text"]).split()[0] for message in said] == [str(at) for at in range(len(said))]
        assert await recording_of(app, call_id) == HALF_A_SECOND
    return len(said)


@pytest.mark.row(12)
async def test_a_slow_reader_is_cut_off_and_finds_everything_when_it_comes_back(serve: Serve, ledger: Ledger) -> None:
    said = await check_slow_reader(serve)
    ledger.add(
        row=12,
        fault="client that does not read",
        tried=1,
        acked_samples=len(HALF_A_SECOND) // 2,
        lost_samples=0,
        note=f"{said} messages found again",
    )
