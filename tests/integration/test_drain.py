"""A server that is told to go, in real processes: how it goes, how fast, and who comes after it."""

import asyncio
import os
import signal
import socket
import sqlite3
import sys
import time
import wave
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import aiohttp
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidMessage, InvalidStatus
from websockets.typing import Subprotocol

from gateway.stores.serving import served_at
from protocol.client import CallClient
from protocol.codec import SUBPROTOCOL, decode_server, encode
from protocol.messages import Ack, Error, GoingAway, Start
from protocol.voiceprint import signed_headers
from tests.client import until
from tests.earshot_process import HUMMED, EarshotProcess
from tests.integration.hummed import DIALOGUE, RATE_HZ, eventually, humming

HUNG = "tests.integration.hung_server"
ENVIRONMENT = {"EARSHOT_APPS": "demo:secret", "EARSHOT_QC_POLL_S": "0.05", "EARSHOT_RESUME_WINDOW_S": "0.2"}
START = Start(rate=RATE_HZ, channels=1, language="en")
CALLS = 20
OURS = [Subprotocol(SUBPROTOCOL)]


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"127.0.0.1:{taken.getsockname()[1]}"


def server_at(data: Path, *, module: str = HUMMED, **settings: str) -> EarshotProcess:
    more = {f"EARSHOT_{name.upper()}": value for name, value in settings.items()}
    return EarshotProcess(data, ENVIRONMENT | more, module=module)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


async def gone(server: EarshotProcess) -> int:
    """The exit status of a process that ends; one that hangs fails the test."""
    return await asyncio.to_thread(server.process.wait, 60)


def rows(data: Path) -> dict[str, str]:
    """The outbox as it stands on the disk: states by session."""
    with closing(sqlite3.connect(data / "earshot.db")) as database:
        return dict(database.execute("SELECT session_id, state FROM outbox"))


def recorded(data: Path, call_id: str) -> bytes:
    with wave.open(str(data / "recordings" / f"{call_id}.wav")) as wav:
        pcm: bytes = wav.readframes(wav.getnframes())
        return pcm


class Caller:
    """One call that goes on until the server says that it is going away."""

    def __init__(self, number: int, ws: str) -> None:
        # Each says something of its own, and a different length of it.
        self.pcm = humming((0, 100 + 20 * number), (100 + 5 * number, 900 + 40 * number))
        self.client = CallClient(ws, START, app_id="demo", secret="secret")

    async def run(self, begun: asyncio.Barrier) -> None:
        async with self.client as client:
            half = len(self.pcm) // 4 * 2
            await client.send_audio(self.pcm[:half])
            await until(client, Ack, lambda ack: ack.samples == half // 2)
            await begun.wait()
            await client.send_audio(self.pcm[half:])  # on its way when the signal comes
            await until(client, GoingAway)


async def test_twenty_calls_outlive_the_server_and_the_next_one_on_its_ports_has_each_once(data: Path) -> None:
    http, ws = free_address(), free_address()
    with server_at(data, http=http, ws=ws) as server:
        begun = asyncio.Barrier(CALLS + 1)
        callers = [Caller(number, server.ws) for number in range(CALLS)]
        running = [asyncio.create_task(caller.run(begun)) for caller in callers]
        await begun.wait()
        server.signal(signal.SIGTERM)
        await asyncio.gather(*running)
        assert await gone(server) == 0
    assert "not_stopped_in_time" not in server.log
    assert "Traceback" not in server.log
    with server_at(data, http=http, ws=ws) as successor:

        async def all_done() -> bool:
            return set(rows(data).values()) == {"done"} and len(rows(data)) == CALLS

        await eventually(all_done, patience_s=60)
        assert successor.stop() == 0
    assert set(rows(data)) == {caller.client.call_id for caller in callers}
    for caller in callers:
        kept = recorded(data, caller.client.call_id)
        assert len(kept) >= 2 * caller.client.acked_samples >= len(caller.pcm) // 4 * 2
        assert kept == caller.pcm[: len(kept)]
    finished = [line for line in successor.log.splitlines() if "quality_task_finished" in line]
    assert len(finished) == CALLS, "one task each"


@asynccontextmanager
async def raw_socket(server: EarshotProcess) -> AsyncIterator[int]:
    """A call whose client reads nothing after its first acks and never closes: a hanging softphone."""
    headers = signed_headers("demo", "secret", time.time())
    socket_ = await connect(server.ws, additional_headers=headers, subprotocols=OURS, compression=None, proxy=None)
    await socket_.send(encode(START), text=True)
    await socket_.recv()
    await socket_.send(DIALOGUE[:16000])
    socket_.transport.pause_reading()  # the closing handshake is never answered
    try:
        yield 0
    finally:
        socket_.transport.abort()


async def test_a_client_that_hangs_does_not_hold_the_server(data: Path) -> None:
    with server_at(data, drain_s="4") as server:
        async with raw_socket(server):
            server.signal(signal.SIGTERM)
            assert await gone(server) == 0
    assert "clients_cut_off" in server.log
    assert "not_stopped_in_time" not in server.log


@pytest.fixture
def black_hole() -> Iterator[str]:
    """A voice QC that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        yield f"http://127.0.0.1:{silent.getsockname()[1]}"


async def hung_up_call(server: EarshotProcess) -> str:
    async with CallClient(server.ws, START, app_id="demo", secret="secret") as client:
        await client.send_audio(DIALOGUE)
        await until(client, Ack, lambda ack: ack.samples == len(DIALOGUE) // 2)
        await client.hang_up(wait_qc_ms=0)
        return client.call_id


async def test_a_vendor_that_hangs_holds_neither_readiness_nor_the_end(data: Path, black_hole: str) -> None:
    with server_at(data, quality_url=black_hole, quality_app="a:b") as server:
        call_id = await hung_up_call(server)

        async def handed_in() -> bool:
            return call_id in rows(data)

        await eventually(handed_in)
        async with aiohttp.ClientSession() as http, http.get(server.http + "/readyz") as response:
            assert response.status == 200
        server.signal(signal.SIGTERM)
        assert await gone(server) == 0
    assert "not_stopped_in_time" not in server.log
    assert rows(data) == {call_id: "pending"}


async def test_what_hangs_beyond_the_deadline_is_left_behind(data: Path) -> None:
    with server_at(data, module=HUNG, drain_s="2") as server:
        async with CallClient(server.ws, START, app_id="demo", secret="secret") as client:
            await client.send_audio(DIALOGUE)
            await until(client, Ack, lambda ack: ack.samples == len(DIALOGUE) // 2)
            server.signal(signal.SIGTERM)
            await until(client, GoingAway)
        assert await gone(server) == 0, "though its event loop stands still"
    assert "not_stopped_in_time" in server.log
    with server_at(data) as successor:

        async def sealed() -> bool:
            return set(rows(data)) == {client.call_id}

        await eventually(sealed)
        assert successor.stop() == 0
    assert recorded(data, client.call_id) == DIALOGUE


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_it_at_once_and_costs_nothing(data: Path, second: signal.Signals) -> None:
    with server_at(data, module=HUNG, drain_s="3600") as server:
        async with CallClient(server.ws, START, app_id="demo", secret="secret") as client:
            await client.send_audio(DIALOGUE)
            await until(client, Ack, lambda ack: ack.samples == len(DIALOGUE) // 2)
            server.signal(signal.SIGTERM)
            await until(client, GoingAway)
        server.signal(second)
        assert await gone(server) == -second
    with server_at(data) as successor:

        async def sealed() -> bool:
            return set(rows(data)) == {client.call_id}

        await eventually(sealed)
        assert successor.stop() == 0
    assert recorded(data, client.call_id) == DIALOGUE


async def test_while_it_drains_it_says_so_to_whoever_asks(data: Path) -> None:
    with server_at(data, drain_s="3600") as server:
        async with raw_socket(server), aiohttp.ClientSession() as http:
            # Its hanging client keeps the server for a quarter of `drain_s`, at most two seconds.
            server.signal(signal.SIGTERM)

            async def not_ready() -> str:
                async with http.get(server.http + "/readyz") as response:
                    return (await response.json())["status"] if response.status == 503 else ""

            assert await eventually(not_ready) == "the server is shutting down"
            assert await gone(server) == 0


async def test_one_that_is_told_to_go_before_it_is_ready_goes(tmp_path: Path) -> None:
    data = tmp_path / "data"
    starting = server_at(data)
    try:

        async def begun() -> bool:
            return "loading the engines" in starting.log

        await eventually(begun, patience_s=60)
        starting.signal(signal.SIGTERM)
        assert await gone(starting) == 0
    finally:
        starting.kill()
    assert "Traceback" not in starting.log


# --- who comes after ---------------------------------------------------------------------------------------------


async def test_a_successor_takes_over_with_calls_in_progress(data: Path) -> None:
    http, ws = free_address(), free_address()
    with server_at(data, http=http, ws=ws) as first:
        async with CallClient(first.ws, START, app_id="demo", secret="secret") as client:
            await client.send_audio(DIALOGUE)
            await until(client, Ack, lambda ack: ack.samples == len(DIALOGUE) // 2)
            command = [sys.executable, "-m", HUMMED, "serve", "--replace", "--data", str(data)]
            settings = {"EARSHOT_HTTP": http, "EARSHOT_WS": ws, **ENVIRONMENT}
            successor = await asyncio.create_subprocess_exec(*command, env={**os.environ, **settings})
            try:
                await until(client, GoingAway)
                assert await gone(first) == 0

                async def serving() -> bool:
                    note = served_at(data)
                    return note is not None and note.pid == successor.pid

                await eventually(serving, patience_s=60)

                async def handed_in() -> bool:
                    return set(rows(data)) == {client.call_id}

                await eventually(handed_in)
            finally:
                successor.terminate()
                assert await successor.wait() == 0
    assert recorded(data, client.call_id) == DIALOGUE


async def test_a_second_server_on_a_data_folder_that_is_served_is_refused(data: Path) -> None:
    with server_at(data) as first:
        second = EarshotProcess(data, ENVIRONMENT, module=HUMMED)
        try:
            assert await gone(second) == 1
        finally:
            second.kill()
        assert f"process {first.process.pid} serves the data folder" in first.log
        assert "--replace" in first.log
        assert first.stop() == 0


async def test_new_calls_are_refused_with_a_code_that_says_come_back(data: Path) -> None:
    with server_at(data) as server:
        headers = signed_headers("demo", "secret", time.time())
        async with raw_socket(server):
            server.signal(signal.SIGTERM)
            codes = set()
            try:
                while True:  # until it no longer listens
                    try:
                        async with connect(
                            server.ws, additional_headers=headers, subprotocols=[Subprotocol(SUBPROTOCOL)], proxy=None
                        ):
                            pass
                    except InvalidStatus as refused:
                        codes.add((refused.response.status_code, b"shutting_down" in refused.response.body))
            except (OSError, InvalidMessage):
                pass
    assert codes == {(503, True)}


async def test_a_socket_that_has_not_spoken_yet_is_sent_away_too(data: Path) -> None:
    headers = signed_headers("demo", "secret", time.time())
    with server_at(data) as server:
        async with connect(
            server.ws, additional_headers=headers, subprotocols=[Subprotocol(SUBPROTOCOL)], proxy=None
        ) as silent:
            server.signal(signal.SIGTERM)
            error = decode_server(await silent.recv())
            assert isinstance(error, Error)
            assert (error.code, error.retryable) == ("shutting_down", True)
            assert await gone(server) == 0
    assert "clients_cut_off" not in server.log
