"""How loud a call is, over HTTP: while it goes on, from its recording, and to whom."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.app import EarshotServer
from protocol.client import CallClient
from protocol.messages import Ack, Start
from tests.client import Account, play, until
from tests.integration.hummed import DIALOGUE, RATE_HZ, client_of, serving

START = Start(rate=RATE_HZ, channels=1, language="en")
DIALOGUE_MS = len(DIALOGUE) // 2 * 1000 // RATE_HZ


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EarshotServer]:
    async with serving(tmp_path / "data", apps="demo:secret,other:hidden", qc_poll_s=0.05) as one:
        yield one


@pytest.fixture
async def app(server: EarshotServer) -> AsyncIterator[Account]:
    async with client_of(server) as one:
        yield one


async def levels(app: Account, call_id: str, query: str = "", status: int = 200) -> Any:
    given, body = await app.get(f"/v1/calls/{call_id}/levels{query}")
    assert given == status, body
    return msgspec.json.decode(body)


async def test_a_call_is_measured_while_it_goes_on_and_the_same_afterwards(app: Account) -> None:
    client = CallClient(app.ws, START, app_id=app.app_id, secret=app.secret)
    async with client:
        await client.send_audio(DIALOGUE)
        await until(client, Ack, lambda ack: ack.samples == len(DIALOGUE) // 2)
        live = await levels(app, client.call_id, "?step_ms=50")
        part = await levels(app, client.call_id, "?step_ms=50&from_ms=420&to_ms=1000")
        await client.hang_up()
        async for _ in client:
            pass
    assert live["duration_ms"] == DIALOGUE_MS
    (channel,) = live["channels"]
    assert len(channel) == DIALOGUE_MS // 50
    assert set(channel[:8]) == {-90}
    assert min(channel[8:78]) > -30
    assert part["from_ms"] == 400
    assert part["channels"] == [channel[8:20]]
    assert await levels(app, client.call_id, "?step_ms=50") == live


async def test_levels_of_what_is_foreign_gone_or_asked_wrongly_are_refused(server: EarshotServer, app: Account) -> None:
    log = await play(app, START, DIALOGUE, speed=0)
    async with client_of(server, "other", "hidden") as stranger:
        refusal = await levels(stranger, log.call_id, status=404)
        assert refusal["code"] == "unknown_call"
    assert (await levels(app, "never-was", status=404))["code"] == "unknown_call"
    for query in ("?step_ms=9", "?step_ms=x", "?from_ms=-1", "?from_ms=20&to_ms=10", "?to_ms=999999999999"):
        assert (await levels(app, log.call_id, query, status=400))["code"] == "bad_parameter"
    async with app.session.get(f"{app.http}/v1/calls/{log.call_id}/levels") as response:
        assert response.status == 401
    (server.settings.data_path / "recordings" / f"{log.call_id}.wav").unlink()
    assert (await levels(app, log.call_id, status=404))["code"] == "no_recording"
