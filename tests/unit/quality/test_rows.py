"""Rows of the fault matrix on voice QC as a service: whom it may be made to call, whose is what, hostile input."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import av
import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.clients.fetch_targets import FetchTargets
from gateway.clients.fetcher import GuardedFetcher
from gateway.engines.decode import AvDecoder, decoder_pool
from gateway.settings import parse_fetch_allow
from protocol.quality import CREATE_PATH, RESULT_PATH, RULE_PATH, TOKEN_PATH
from tests.quality_world import (
    APP,
    OTHER_APP,
    OTHER_SECRET,
    SECRET,
    TWO_PARTIES,
    QualityWorld,
    encoded,
    recording,
    wav,
)

RULE = {"category": "类别1", "description": "", "contents": ["贷款"]}
SHORT = wav(recording([(100, 700)]))


class Client:
    """Asks as one app does."""

    def __init__(self, http: aiohttp.ClientSession, url: str, token: str) -> None:
        self._http, self._url, self._token = http, url, token

    async def ask(self, method: str, path: str, **fields: Any) -> dict[str, Any]:
        body = json.dumps({"access_token": self._token} | fields).encode()
        async with self._http.request(method, self._url + path, data=io.BytesIO(body)) as response:
            assert response.status == 200
            answer: dict[str, Any] = await response.json()
            return answer

    async def create(self, session_id: str = "s", **fields: Any) -> dict[str, Any]:
        given = {"session_id": session_id, "pid": 80006, "speech_data": encoded(SHORT)} | fields
        return await self.ask("POST", CREATE_PATH, **given)

    async def result(self, session_id: str = "s") -> dict[str, Any]:
        answer = await self.ask("GET", RESULT_PATH, session_id=session_id)
        found: dict[str, Any] = answer["result"]
        return found


@asynccontextmanager
async def callers(world: QualityWorld) -> AsyncIterator[tuple[Client, Client]]:
    """Two apps."""
    async with world.serving() as url, aiohttp.ClientSession() as http:
        yield (
            Client(http, url, world.tokens.mint(APP, SECRET)),
            Client(http, url, world.tokens.mint(OTHER_APP, OTHER_SECRET)),
        )


@asynccontextmanager
async def canary(to: str = "") -> AsyncIterator[tuple[list[str], int]]:
    """A server on loopback, and what it was asked; it redirects if it is told where `to`."""
    hits: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        hits.append(request.path)
        if to:
            raise web.HTTPFound(to)
        return web.Response(body=SHORT)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handle)
    async with TestServer(application, host="127.0.0.1") as server:
        assert server.port is not None
        yield hits, server.port


FORBIDDEN = (
    "http://127.0.0.1:{port}/",
    "http://127.1:{port}/",
    "http://0:{port}/",
    "http://0x7f000001:{port}/",
    "http://2130706433:{port}/",
    "http://[::1]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://localhost:{port}/",
    "http://user@127.0.0.1:{port}/",
    "http://169.254.169.254/latest/meta-data/",
    "http://100.64.0.1/",
    "http://10.0.0.1/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:{port}/",
)


@pytest.mark.row(36)
async def test_neither_speech_url_nor_callback_url_makes_it_call_an_inner_address(tmp_path: Path) -> None:
    world = QualityWorld(tmp_path, fetcher=GuardedFetcher(FetchTargets(())))
    async with canary() as (hits, port), callers(world) as (caller, _):
        for url in (one.format(port=port) for one in FORBIDDEN):
            answer = await caller.create(speech_data="", speech_url=url)
            assert answer["error_code"] in (336102, 336110), url
            assert "speech_url" in answer["error_message"]
            answer = await caller.create(url, callback_url=url)
            if answer["error_code"]:
                assert "callback_url" in answer["error_message"]
                continue
            await world.worker.work_until_idle()
            await world.pusher.push_due()
            result = await caller.result(url)
            assert (result["state"], result["push_status_desc"]) == (2, "推送失败"), url
        assert hits == []
    world.close()


@pytest.mark.row(36)
async def test_a_redirect_to_an_inner_address_is_not_followed(tmp_path: Path) -> None:
    async with canary() as (hits, inner), canary(f"http://127.0.0.1:{inner}/") as (asked, outer):
        allowed = GuardedFetcher(FetchTargets(parse_fetch_allow(f"127.0.0.0/8:{outer}")))
        world = QualityWorld(tmp_path, fetcher=allowed)
        async with callers(world) as (caller, _):
            url = f"http://127.0.0.1:{outer}/a.wav"
            answer = await caller.create(speech_data="", speech_url=url)
            assert answer["error_code"] == 336110
            assert "redirects are not followed" in answer["error_message"]
            await caller.create(callback_url=url)
            await world.worker.work_until_idle()
            await world.pusher.push_due()
            assert (await caller.result())["push_status_desc"] == "推送失败"
        assert len(asked) == 2
        assert hits == []
        world.close()


@pytest.mark.row(37)
async def test_another_app_s_tasks_and_rules_are_as_if_absent_on_every_operation(world: QualityWorld) -> None:
    async with callers(world) as (owner, rival):
        await owner.create(enable_detection=True)
        await owner.ask("POST", RULE_PATH, **RULE)
        await world.worker.work_until_idle()
        mine = await owner.result()
        foreign = [
            await rival.ask("GET", RESULT_PATH, session_id="s"),
            await rival.ask("GET", RULE_PATH, category="类别1"),
            await rival.ask("PUT", RULE_PATH, **RULE),
            await rival.ask("DELETE", RULE_PATH, category="类别1"),
        ]
        absent = [
            await rival.ask("GET", RESULT_PATH, session_id="n"),
            await rival.ask("GET", RULE_PATH, category="none"),
            await rival.ask("PUT", RULE_PATH, **RULE | {"category": "none"}),
            await rival.ask("DELETE", RULE_PATH, category="none"),
        ]
        for one, other in zip(foreign, absent, strict=True):
            named = str(one).replace("session_id 's'", "session_id 'n'").replace("类别1", "none")
            assert named == str(other)
        assert [one["error_code"] for one in foreign] == [336120, 0, 336131, 336131]
        assert foreign[1]["results"] == {"total": 0, "rule": []}
        # The same names are free to it, and what it does with them is its own affair.
        assert (await rival.create())["error_code"] == 0
        assert (await rival.ask("POST", RULE_PATH, **RULE))["error_code"] == 0
        assert (await rival.ask("DELETE", RULE_PATH, category="类别1"))["error_code"] == 0
        await world.worker.work_until_idle()
        assert await owner.result() == mine
        assert (await owner.ask("GET", RULE_PATH))["results"]["total"] == 1


@pytest.mark.row(38)
async def test_names_are_never_paths(world: QualityWorld) -> None:
    names = ("../../etc/passwd", "%2e%2e%2f", "/abs", "nul\0byte", "\u202egnp.exe", "a:b:c", "*", "' OR 1=1 --")
    async with callers(world) as (caller, _):
        for name in names:
            assert (await caller.create(name))["error_code"] == 0
            assert (await caller.ask("POST", RULE_PATH, **RULE | {"category": name}))["error_code"] == 0
        assert all(re.fullmatch("[0-9a-f]{32}", name) for name in os.listdir(world.audio_path))  # noqa: PTH208
        await world.worker.work_until_idle()
        for name in names:
            result = await caller.result(name)
            assert (result["session_id"], result["state"]) == (name, 2)
        listed = (await caller.ask("GET", RULE_PATH, page_size=20))["results"]["rule"]
        assert [one["category"] for one in listed] == list(names)
        assert (await caller.create("x" * 10_000))["error_code"] == 336102
        assert (await caller.ask("POST", RULE_PATH, **RULE | {"category": "x" * 10_000}))["error_code"] == 336102


@pytest.mark.row(40)
@pytest.mark.parametrize(
    "content",
    [
        "(" * 5000 + "a" + ")" * 5000,
        "(" * 100_000,
        "!" * 100_000 + "a",
        "||".join(f"词{n}" for n in range(100_000)),
        "&&".join(["a"] * 100_000),
        "a" * 1_000_000,
    ],
    ids=["nested", "open", "nots", "ors", "ands", "long"],
)
async def test_a_rule_beyond_all_bounds_is_refused_and_the_service_goes_on(world: QualityWorld, content: str) -> None:
    async with callers(world) as (caller, _):
        answer = await caller.ask("POST", RULE_PATH, **RULE | {"contents": [content]})
        assert answer["error_code"] == 336132
        assert "contents[0]" in answer["error_message"]
        assert len(answer["error_message"]) < 1000
        assert (await caller.ask("GET", RULE_PATH))["results"]["total"] == 0


def silent_flac(minutes: int) -> bytes:
    """A recording that is a thousand times as large once it is unpacked."""
    file = io.BytesIO()
    second = np.zeros((1, 2 * 48_000), np.int16)
    with av.open(file, "w", format="flac") as output:
        stream = output.add_stream("flac", rate=48_000, layout="stereo")
        for _ in range(60 * minutes):
            frame = av.AudioFrame.from_ndarray(second, format="s16", layout="stereo")
            frame.sample_rate = 48_000
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return file.getvalue()


def boastful_wav() -> bytes:
    """It claims 2^31 frames, and holds none."""
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 0xFFFFFFFF, b"WAVE", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16)
    return head + struct.pack("<4sI", b"data", 0xFFFFFFFE)


@pytest.mark.row(41)
async def test_media_bombs_fail_their_own_task_only(tmp_path: Path) -> None:
    pool = decoder_pool()
    await pool.start()
    decoder = AvDecoder(pool, tmp_path / "spool")
    decoder.prepare()
    world = QualityWorld(tmp_path / "data", decoder=decoder, max_audio_s=60)
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/passwd\n"
    bombs = {"flac": await asyncio.to_thread(silent_flac, 10), "boast": boastful_wav(), "half": b"RIFF" + bytes(200)}
    assert len(bombs["flac"]) < 1_000_000 < 10 * 60 * 48_000 * 4
    async with callers(world) as (caller, _):
        for name, data in bombs.items():
            assert (await caller.create(name, speech_data=encoded(data)))["error_code"] == 0
        assert (await caller.create("playlist", speech_data=encoded(playlist)))["error_code"] == 336110
        await caller.create("call")
        await world.worker.work_until_idle()
        for name in bombs:
            result = await caller.result(name)
            assert result["state"] == 3, name
            assert result["state_desc"].startswith("处理失败，音频无法使用："), name
        assert "longer than 60 s" in (await caller.result("flac"))["state_desc"]
        assert (await caller.result("call"))["state"] == 2
    world.close()
    await pool.stop()


@pytest.mark.row(45)
async def test_no_secret_and_nothing_that_was_said_is_in_the_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said, hidden = "我要退款，现在缺货。", "canary-in-a-link"
    world = QualityWorld(tmp_path, fetcher=GuardedFetcher(FetchTargets(()), timeout_s=0.2, post_timeout_s=0.2))
    token = world.tokens.mint(APP, SECRET)
    async with world.serving() as url, aiohttp.ClientSession() as http:
        grant = {"grant_type": "client_credentials", "client_id": APP, "client_secret": SECRET}
        for query in (grant, grant | {"client_secret": "canary-wrong-secret"}):
            async with http.get(url + TOKEN_PATH, params=query) as response:
                await response.read()
        for one in (token, "24.canary-token.x"):
            async with http.get(url + RULE_PATH, params={"access_token": one}) as response:
                await response.read()
        caller = Client(http, url, token)
        await caller.create(speech_data="", speech_url=f"http://127.0.0.1/a.wav?key={hidden}")
        await caller.create(speech_data=encoded(TWO_PARTIES), callback_url=f"http://127.0.0.1/done?key={hidden}")
        await world.worker.work_until_idle()
        await world.pusher.push_due()
        assert said in (await caller.result())["asr_text"]
        world.recognizer.failures = [ZeroDivisionError("ours")]
        await caller.create("broken", speech_data=encoded(TWO_PARTIES))
        await world.worker.work_until_idle()
    world.close()
    log = "".join(capfd.readouterr())
    assert "quality_task_finished" in log, "the log was seen"
    assert "ZeroDivisionError" in log
    for secret in (SECRET, token, "canary-wrong-secret", "canary-token", hidden, said, encoded(TWO_PARTIES)[:40]):
        assert secret not in log
