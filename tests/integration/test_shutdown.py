"""What a server's end costs the calls that run: nothing that was acknowledged, whether it was told to go or killed."""

import asyncio
import io
import signal
import wave
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.ports import StoredCategory
from protocol.client import CallClient
from protocol.messages import Ack, Ended, GoingAway, Segment, Start
from tests.client import Account, account, play, until
from tests.earshot_process import HUMMED, EarshotProcess
from tests.integration.hummed import DIALOGUE, RATE_HZ, eventually, humming

ENVIRONMENT = {"EARSHOT_APPS": "demo:secret", "EARSHOT_QC_POLL_S": "0.05", "EARSHOT_RESUME_WINDOW_S": "1"}
START = Start(rate=RATE_HZ, channels=1, language="en")
SAMPLES = len(DIALOGUE) // 2


def server_on(data: Path) -> EarshotProcess:
    return EarshotProcess(data, ENVIRONMENT, module=HUMMED)


def client_of(server: EarshotProcess) -> AbstractAsyncContextManager[Account]:
    return account(server.http, server.ws, "demo", "secret")


async def half_a_call(app: Account, and_then: Callable[[CallClient], Awaitable[None]]) -> tuple[str, int]:
    """Send a dialogue without hanging up, then do something; the call's id and the samples acknowledged by then."""
    await app.quality.add_rule("demo", StoredCategory("Money back", "", ("refund",)))
    async with CallClient(app.ws, START, app_id="demo", secret="secret") as client:
        await client.send_audio(DIALOGUE)
        await until(client, Segment, lambda one: one.state == "closed")
        await and_then(client)
        return client.call_id, client.acked_samples


async def is_recovered_and_judged_once(data: Path, call_id: str, acked_samples: int) -> None:
    """Its client does not come back: the next process hangs it up after its window."""
    with server_on(data) as server:
        async with client_of(server) as app:

            async def judged() -> Any:
                _, body = await app.get(f"/v1/calls/{call_id}")
                told = msgspec.json.decode(body)
                return told if told["state"] == "judged" else None

            told = await eventually(judged)
            status, body = await app.get(f"/v1/calls/{call_id}/recording")
            assert told["reason"] == "lost"
            assert told["segments"], "what was found before is kept"
            assert told["qc"]["result"]["session_id"] == call_id
            assert {hit["category"] for hit in told["qc"]["result"]["detection_result"]} == {"Money back"}
            settled = {alert["status"] for alert in told["alerts"]}
            assert settled == ({"confirmed"} if told["alerts"] else set())
            with wave.open(io.BytesIO(body)) as wav:
                kept = wav.readframes(wav.getnframes())
            assert status == 200
            assert len(kept) >= 2 * acked_samples
            assert kept == DIALOGUE[: len(kept)]
            _, body = await app.get("/v1/calls")
            assert [one["call_id"] for one in msgspec.json.decode(body)["calls"]] == [call_id]
        assert server.stop() == 0
    assert server.log.count("quality_task_finished") == 1, "one recording, one task, over all starts"
    with server_on(data) as third:
        async with client_of(third) as app:
            log = await play(app, START, humming((0, 200)), speed=0)  # what is waiting would be done before this
            assert log.one(Ended).reason == "hangup"
        assert third.stop() == 0
    assert third.log.count(f"session_id={call_id}") == 1


async def test_a_call_survives_an_orderly_shutdown(tmp_path: Path) -> None:
    with server_on(tmp_path / "data") as server:

        async def tell_it_to_stop(client: CallClient) -> None:
            server.signal(signal.SIGTERM)
            goodbye = await until(client, GoingAway)
            assert goodbye.deadline_ms == 10_000

        async with client_of(server) as app:
            call_id, acked = await half_a_call(app, tell_it_to_stop)
        assert await asyncio.to_thread(server.process.wait, 30) == 0
    assert "Traceback" not in server.log
    await is_recovered_and_judged_once(tmp_path / "data", call_id, acked)


async def test_a_call_survives_a_killed_server(tmp_path: Path) -> None:
    with server_on(tmp_path / "data") as server:

        async def kill_it(client: CallClient) -> None:
            await until(client, Ack, lambda ack: ack.samples == SAMPLES)
            server.kill()

        async with client_of(server) as app:
            call_id, acked = await half_a_call(app, kill_it)
    assert acked == SAMPLES
    await is_recovered_and_judged_once(tmp_path / "data", call_id, acked)


async def test_a_call_that_waits_for_its_verdict_when_the_server_stops_gets_it_at_the_next_start(
    tmp_path: Path,
) -> None:
    # A vendor that nobody answers for keeps the call waiting.
    nowhere = {"EARSHOT_QUALITY_URL": "http://127.0.0.1:9", "EARSHOT_QUALITY_APP": "demo:secret"}
    with EarshotProcess(tmp_path / "data", ENVIRONMENT | nowhere, module=HUMMED) as server:
        async with (
            client_of(server) as app,
            CallClient(app.ws, START, app_id="demo", secret="secret") as client,
        ):
            await client.send_audio(DIALOGUE)
            await client.hang_up()
            await until(client, Ack, lambda ack: ack.samples == SAMPLES)

            async def sealed() -> bool:
                status, _ = await app.get(f"/v1/calls/{client.call_id}/recording")
                return status == 200

            await eventually(sealed)
            server.signal(signal.SIGTERM)
            await until(client, GoingAway)
        assert await asyncio.to_thread(server.process.wait, 30) == 0
    with server_on(tmp_path / "data") as second:
        async with client_of(second) as app:

            async def judged() -> bool:
                _, body = await app.get(f"/v1/calls/{client.call_id}")
                return bool(msgspec.json.decode(body)["state"] == "judged")

            await eventually(judged, patience_s=60)
        assert second.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_an_idle_server_leaves_at_once_and_takes_its_note_with_it(tmp_path: Path, number: signal.Signals) -> None:
    with server_on(tmp_path / "data") as server:
        assert (tmp_path / "data" / "serving.json").exists()
        server.signal(number)
        assert server.process.wait(30) == 0
        assert not (tmp_path / "data" / "serving.json").exists()
