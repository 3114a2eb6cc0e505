"""A voice found again in a call that both parties share a line in, and in a file: by the real models."""

import io
import wave
from typing import Any

import aiohttp
import msgspec
import pytest

from protocol.messages import Start
from tests.client import Account, play
from tests.e2e.script import AGENT, Recital, prepare
from tests.integration.hummed import eventually

pytestmark = [pytest.mark.models, pytest.mark.timeout(400)]

SPEED = 4.0
PATIENCE_S = 120


async def passages(app: Account) -> list[dict[str, Any]]:
    status, body = await app.get(f"/v1/voices/{AGENT}/passages?tag_id=agents&limit=100")
    assert status == 200
    found: list[dict[str, Any]] = msgspec.json.decode(body)["passages"]
    return found


def stereo_wav(script: Recital) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as wav:
        wav.setnchannels(2)
        wav.setsampwidth(2)
        wav.setframerate(script.rate_hz)
        wav.writeframes(script.samples.tobytes())
    return file.getvalue()


def are_all_that_the_agent_said(found: list[dict[str, Any]], script: Recital) -> None:
    """Every passage lies in one of the agent's turns, and every turn has one."""
    turns = [turn for turn in script.turns if turn.channel == 0]
    heard = {script.turn_of(0, (one["begin_ms"] + one["end_ms"]) // 2, slack_ms=300).begin_ms for one in found}
    assert heard == {turn.begin_ms for turn in turns}


@pytest.mark.parametrize("app", ["found"], indirect=True)
async def test_what_an_enrolled_agent_said_is_found_in_a_call_and_in_a_file(app: Account, script: Recital) -> None:
    await prepare(app, script, ())
    start = Start(rate=16000, channels=1, language="en")
    assert script.rate_hz == start.rate
    log = await play(app, start, script.mono.tobytes(), speed=SPEED)
    found = await eventually(lambda: passages(app), PATIENCE_S)
    assert {(one["call_id"], one["channel"]) for one in found} == {(log.call_id, 0)}
    are_all_that_the_agent_said(found, script)

    form = aiohttp.FormData()
    form.add_field("audio", io.BytesIO(stereo_wav(script)), filename="call.wav")
    async with app.session.post(f"{app.http}/v1/passages/files", data=form, headers=app.headers) as response:
        file_id = msgspec.json.decode(await response.read())["file_id"]

    async def in_the_file() -> list[dict[str, Any]]:
        return [one for one in await passages(app) if one.get("file_id") == file_id]

    found = await eventually(in_the_file, PATIENCE_S)
    assert {one["channel"] for one in found} == {0}
    are_all_that_the_agent_said(found, script)
