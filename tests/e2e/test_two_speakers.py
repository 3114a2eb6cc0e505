"""Two people in one channel, over HTTP, as a caller of the vendor's API asks for it."""

import asyncio
import base64
import io
from typing import Any

import msgspec
import pytest

from protocol.quality import CREATE_PATH, RESULT_PATH, TOKEN_PATH
from tests.client import CALL_TIMEOUT_S, Account
from tests.e2e.script import AGENT, Recital, prepare
from tests.e2e.words import word_error_rate

pytestmark = [pytest.mark.models, pytest.mark.timeout(400)]


async def _judged(app: Account, session_id: str, pcm: bytes, rate_hz: int, **more: Any) -> dict[str, Any]:
    """The `result` of a task once it is done."""

    async def ask(method: str, path: str, **fields: Any) -> dict[str, Any]:
        body = io.BytesIO(msgspec.json.encode(fields))
        async with app.session.request(method, app.http + path, data=body) as response:
            answer = msgspec.json.decode(await response.read())
        assert answer.get("error_code", 0) == 0, answer
        return dict(answer)

    credentials = f"?grant_type=client_credentials&client_id={app.app_id}&client_secret={app.secret}"
    token = (await ask("POST", TOKEN_PATH + credentials))["access_token"]
    whose = {"access_token": token, "session_id": session_id}
    data = base64.b64encode(pcm).decode()
    await ask("POST", CREATE_PATH, speech_data=data, sample_rate=rate_hz, language="en", **whose, **more)
    async with asyncio.timeout(CALL_TIMEOUT_S):
        while (result := (await ask("GET", RESULT_PATH, **whose))["result"])["state"] in (0, 1):  # noqa: ASYNC110 -- callers poll
            await asyncio.sleep(0.2)
    assert result["state"] == 2, result
    return dict(result)


def _texts(script: Recital, channel: int) -> str:
    return " ".join(turn.text for turn in script.turns if turn.channel == channel)


@pytest.mark.parametrize("app", ["pair"], indirect=True)
async def test_two_people_in_one_channel_are_told_apart_and_named_where_that_is_asked_for(
    app: Account, script: Recital
) -> None:
    await prepare(app, script, ())
    pcm = script.mono.tobytes()
    vendor = await _judged(app, "vendor", pcm, script.rate_hz, pid=8953)
    named = await _judged(app, "named", pcm, script.rate_hz, pid=80006, role_num=2, speaker_names=True)
    for result in (vendor, named):
        sentences = result["asr_result"]
        for speaker in (0, 1):
            heard = " ".join(one["sentence"] for one in sentences if one["speaker_id"] == speaker)
            assert word_error_rate(_texts(script, speaker), heard) < 0.2
    assert {(one["speaker_id"], one.get("speaker_name")) for one in vendor["asr_result"]} == {(0, None), (1, None)}
    assert {(one["speaker_id"], one.get("speaker_name")) for one in named["asr_result"]} == {(0, AGENT), (1, None)}
