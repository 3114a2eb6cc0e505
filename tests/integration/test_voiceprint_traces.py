"""What a server leaves behind: nothing of a deleted voice in any file, and no secret in any log."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from protocol import voiceprint_openapi as openapi
from protocol.voiceprint import sign, signed_headers
from tests.earshot_process import HUMMED, EarshotProcess
from tests.voices import SpectrumEmbedder, voice, wav

APP, SECRET = "shop", "canary-5f1e-app-secret"
SCOPE = {"org_id": "org", "tag_id": "tag"}
NAME = "Zebulon Quagmire-Featherstonehaugh"


class Caller:
    """Asks one server, as one app."""

    def __init__(self, server: EarshotProcess, session: aiohttp.ClientSession) -> None:
        self._server = server
        self._session = session

    async def ask(self, method: str, path: str, audio: bytes | None = None, **fields: str) -> Any:
        headers = signed_headers(APP, SECRET, time.time())
        data = None if audio is None else aiohttp.FormData({**SCOPE, **fields})
        if data is not None:
            assert audio is not None
            data.add_field("audio", audio, filename="a.wav", content_type="audio/wav")
        params = {**SCOPE, **fields} if data is None else {}
        url = self._server.http + path
        async with self._session.request(method, url, headers=headers, data=data, params=params) as response:
            return await response.json()

    async def play(self, link: str) -> tuple[int, bytes]:
        async with self._session.get(link) as response:
            return response.status, await response.read()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as one:
        yield one


def files_with(folder: Path, traces: dict[str, bytes]) -> set[tuple[str, str]]:
    """Which trace stands in which file."""
    found = set()
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            found |= {(what, path.name) for what, trace in traces.items() if trace in data}
    return found


@pytest.mark.parametrize("how", ["del-spk-name", "delete-speakers", "delete-all", "update"])
async def test_of_a_deleted_voice_no_file_of_a_running_server_holds_anything(
    tmp_path: Path, session: aiohttp.ClientSession, how: str
) -> None:
    with EarshotProcess(tmp_path / "data", {"EARSHOT_APPS": f"{APP}:{SECRET}"}, module=HUMMED) as server:
        caller = Caller(server, session)
        for number in range(3):
            await caller.ask("POST", "/voiceid/register", wav(voice(10 + number)), spk_name=f"other {number}")
        await caller.ask("POST", "/voiceid/register", wav(voice(1)), spk_name=NAME)
        link = (await caller.ask("GET", "/voiceid/voice-url", spk_name=NAME))["data"]["audio_path"]
        status, flac = await caller.play(link)
        assert status == 200
        embedding = await SpectrumEmbedder().embed(voice(1), 16000)
        middle = len(flac) // 2
        traces = {"print": embedding.astype("<f4").tobytes()[:32], "audio": flac[middle : middle + 64]}
        if how != "update":
            traces["name"] = NAME.encode()
        assert {what for what, _ in files_with(tmp_path / "data", traces)} == set(traces), "they can be found"

        if how == "update":
            done = await caller.ask("POST", "/voiceid/update", wav(voice(2)), spk_name=NAME)
        elif how == "delete-all":
            done = await caller.ask("GET", "/voiceid/delete-all")
        else:
            named = {"spk_name" if how == "del-spk-name" else "speaker": NAME}
            done = await caller.ask("GET", f"/voiceid/{how}", None, **named)
        assert done == {"code": "0", "msg": "success"}
        assert files_with(tmp_path / "data", traces) == set()
        assert (await caller.play(link))[0] == 404
        hits = (await caller.ask("POST", "/voiceid/recognize", wav(voice(1))))["data"]
        assert all(hit["spk_name"] != NAME or hit["score"] < 99 for hit in hits)
        assert NAME not in server.log


async def test_no_secret_comes_into_the_log_of_a_server_whatever_is_asked(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    """Every route, with good, wrong and malformed credentials and secrets in every field, at the loudest log level."""
    environment = {"EARSHOT_APPS": f"{APP}:{SECRET}", "EARSHOT_LOG_LEVEL": "debug"}
    secrets = {SECRET, "canary-wrong", "canary-link", "canary-token"}
    with EarshotProcess(tmp_path / "data", environment, module=HUMMED) as server:
        caller = Caller(server, session)
        await caller.ask("POST", "/voiceid/register", wav(voice(1)), spk_name="a")
        link = (await caller.ask("GET", "/voiceid/voice-url", spk_name="a"))["data"]["audio_path"]
        assert (await caller.play(link))[0] == 200
        assert (await caller.play(link[:-4]))[0] == 403
        secrets |= {link.rpartition("sig=")[2], link.rpartition("sig=")[2][:-4]}
        now = str(int(time.time()))
        wrong = (
            signed_headers(APP, "canary-wrong", time.time()),
            {"X-App-Key": APP, "X-Timestamp": now, "X-App-Signature": "canary-wrong"},
            {"X-App-Key": "canary-wrong", "X-Timestamp": "canary-wrong", "X-App-Signature": "canary-wrong"},
            {"Authorization": "Basic " + base64.b64encode(f"{APP}:canary-wrong".encode()).decode()},
            {"Authorization": "Basic canary-wrong"},
            signed_headers(APP, SECRET, time.time()),
        )
        secrets |= {headers["X-App-Signature"] for headers in wrong if "X-App-Signature" in headers}
        asked = 0
        for path, item in openapi.document()["paths"].items():
            for method in item:
                for headers in wrong:
                    signa = sign(APP, now, SECRET)
                    query = {**SCOPE, "audio": "http://u:canary-link@127.0.0.1/a?k=canary-token", "spk_name": "b"}
                    if "X-App-Key" not in headers and "Authorization" not in headers:
                        query |= {"appid": APP, "ts": now, "signa": signa}
                    url = server.http + path.replace("{print_id}", "0" * 32)
                    async with session.request(method, url, params=query, headers=headers) as response:
                        await response.read()
                        assert response.status < 500
                        asked += 1
        assert asked > 60
        assert server.stop() == 0
    leaked = {secret for secret in secrets if secret in server.log}
    assert not leaked
    assert "voiceprint.denied" in server.log, "it did log"
