"""The HTTP client of voice QC: tokens renewed, errors told apart, rules managed, other vendors' habits borne."""

import asyncio
import base64
import io
import json
import wave
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.clients.quality_errors import parsed_answer
from gateway.clients.quality_http import QualityHttp
from gateway.ports import QualityTask, Rejected, StoredCategory, Unavailable
from protocol.quality import CREATE_PATH, RESULT_PATH, RULE_PATH, TOKEN_PATH
from tests.quality_world import APP, SECRET, TWO_PARTIES, QualityWorld, hummed, wav

SECRETS = {APP: (APP, SECRET)}.__getitem__
RULE = StoredCategory("类别1", "描述", ("贷款", "!逾期"))


class Vendor:
    """A server that answers each request with the next of its scripted answers, and notes what was asked."""

    def __init__(self, *answers: web.Response) -> None:
        self.answers = list(answers)
        self.tokens = 0
        self.asked: list[tuple[str, dict[str, str], dict[str, Any]]] = []

    async def token(self, request: web.Request) -> web.Response:
        self.tokens += 1
        return web.json_response({"access_token": f"token-{self.tokens}", "expires_in": 2592000})

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.asked.append((request.method, dict(request.query), json.loads(body) if body else {}))
        return self.answers.pop(0)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[QualityHttp]:
        application = web.Application(client_max_size=1 << 26)
        application.router.add_route("POST", TOKEN_PATH, self.token)
        for path in (CREATE_PATH, RESULT_PATH, RULE_PATH):
            application.router.add_route("*", path, self.answer)
        async with TestServer(application) as server, aiohttp.ClientSession() as http:
            yield QualityHttp(http, str(server.make_url("/")), SECRETS)


def _answer(code: int = 0, **more: Any) -> web.Response:
    return web.json_response({"error_code": code, "error_message": "text"} | more)


def _done(state: int = 2, desc: str = "处理成功") -> web.Response:
    return _answer(result={"session_id": "s", "state": state, "state_desc": desc})


@pytest.fixture
async def ours(tmp_path: Path) -> AsyncIterator[tuple[QualityWorld, QualityHttp]]:
    world = QualityWorld(tmp_path)
    async with world.serving() as url, aiohttp.ClientSession() as http:
        yield world, QualityHttp(http, url, SECRETS)
    world.close()


@pytest.mark.parametrize("code", [110, 111])
async def test_a_token_no_longer_taken_is_renewed_once(code: int) -> None:
    vendor = Vendor(_answer(code), _done(), _done())
    async with vendor.serving() as client:
        assert (await client.result(APP, "s")).succeeded
        assert (await client.result(APP, "s")).succeeded
    assert [query["access_token"] for _, query, _ in vendor.asked] == ["token-1", "token-2", "token-2"]
    assert vendor.tokens == 2


async def test_a_token_refused_twice_is_rejected_not_tried_for_ever() -> None:
    vendor = Vendor(_answer(110), _answer(110))
    async with vendor.serving() as client:
        with pytest.raises(Rejected) as raised:
            await client.result(APP, "s")
    assert raised.value.code == "110"
    assert vendor.tokens == 2


async def test_our_own_expired_token_is_renewed(ours: tuple[QualityWorld, QualityHttp]) -> None:
    world, client = ours
    await client.add_rule(APP, RULE)
    world.clock.seconds += 2_592_001
    assert (await client.rules(APP))[0] == 1


async def test_a_result_is_asked_for_as_third_parties_do_and_its_text_wins_over_its_number() -> None:
    vendor = Vendor(_done(state=0))
    async with vendor.serving() as client:
        assert (await client.result(APP, "s")).state == 2
    assert vendor.asked == [("GET", {"session_id": "s", "access_token": "token-1"}, {})]


async def test_a_call_is_created_with_everything_its_verdict_needs(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    path.write_bytes(TWO_PARTIES)
    vendor = Vendor(_answer(result={"session_id": "s"}))
    async with vendor.serving() as client:
        await client.create(QualityTask("s", APP, path, 8000, 2, "zh", ("类别1",)))
    _, query, body = vendor.asked[0]
    assert query == {}
    assert base64.b64decode(body.pop("speech_data")) == TWO_PARTIES
    assert body == {
        "access_token": "token-1",
        "session_id": "s",
        "sample_rate": 8000,
        "pid": 80006,
        "role_num": 2,
        "enable_detection": True,
        "enable_detection_detail": True,
        "is_split_channel": True,
        "language": "zh",
        "categories": ["类别1"],
    }


async def test_a_recording_at_another_rate_is_sent_at_16_khz(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    path.write_bytes(wav(hummed(100, 1000, 48000), hummed(200, 1000, 48000), rate_hz=48000))
    vendor = Vendor(_answer(result={"session_id": "s"}))
    async with vendor.serving() as client:
        await client.create(QualityTask("s", APP, path, 48000, 2, "auto", ()))
    body = vendor.asked[0][2]
    assert body["sample_rate"] == 16000
    assert "categories" not in body
    with wave.open(io.BytesIO(base64.b64decode(body["speech_data"]))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (16000, 2, 16000)
        left = np.frombuffer(file.readframes(16000), dtype="<i2").reshape(-1, 2)[:, 0]
    assert np.abs(np.fft.rfft(left)).argmax() == 100


async def test_a_recording_that_is_no_wav_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    path.write_bytes(b"not a recording")
    async with Vendor().serving() as client:
        with pytest.raises(Rejected, match="cannot be read"):
            await client.create(QualityTask("s", APP, path, 8000, 2, "auto", ()))


async def test_a_large_recording_arrives_whole(ours: tuple[QualityWorld, QualityHttp], tmp_path: Path) -> None:
    world, client = ours
    path = tmp_path / "long.wav"
    path.write_bytes(wav(np.zeros(1_500_000, np.int16)))
    await client.create(QualityTask("s", APP, path, 8000, 1, "auto", ()))
    await world.worker.work_until_idle()
    assert (await client.result(APP, "s")).result["call_duration"] == 188


@pytest.mark.parametrize(
    ("answer", "error", "retry_after_s"),
    [
        (lambda: _answer(18), Unavailable, None),
        (lambda: _answer(2), Unavailable, None),
        (lambda: _answer(282000), Unavailable, None),
        (lambda: web.Response(status=503, headers={"Retry-After": "17"}), Unavailable, 17.0),
        (lambda: web.Response(status=429, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}), Unavailable, 0.0),
        (lambda: web.Response(status=502, text="<html>"), Unavailable, None),
        (lambda: web.Response(text="<html>"), Unavailable, None),
        (lambda: web.Response(text="[1]"), Unavailable, None),
        (lambda: _answer(result={"state": "2"}), Unavailable, None),
        (lambda: _answer(), Unavailable, None),
        (lambda: _answer(336120), Rejected, None),
        (lambda: _answer(6), Rejected, None),
        (lambda: web.Response(status=404, text="<html>"), Rejected, None),
        (lambda: web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}), Rejected, None),
    ],
)
async def test_what_may_pass_is_unavailable_and_what_will_not_is_rejected(
    answer: Callable[[], web.Response], error: type[Exception], retry_after_s: float | None
) -> None:
    async with Vendor(answer()).serving() as client:
        with pytest.raises(error) as raised:
            await client.result(APP, "s")
    if isinstance(raised.value, Unavailable):
        assert raised.value.retry_after_s == retry_after_s


async def test_a_server_that_is_down_is_unavailable_and_the_secret_stays_out_of_the_error() -> None:
    async with aiohttp.ClientSession() as http:
        with pytest.raises(Unavailable) as raised:
            await QualityHttp(http, "http://127.0.0.1:1", SECRETS).result(APP, "s")
    assert SECRET not in str(raised.value)
    assert raised.value.retryable


async def test_a_server_that_does_not_answer_is_unavailable() -> None:
    released = asyncio.Event()

    async def silent(_: web.Request) -> web.Response:
        await released.wait()
        return web.Response()

    application = web.Application()
    application.router.add_post(TOKEN_PATH, silent)
    async with TestServer(application) as server, aiohttp.ClientSession() as http:
        client = QualityHttp(http, str(server.make_url("/")), SECRETS, timeout_s=0.05)
        with pytest.raises(Unavailable, match="no answer"):
            await client.result(APP, "s")
        released.set()


async def test_a_wrong_secret_and_an_app_without_credentials_are_rejected(tmp_path: Path) -> None:
    world = QualityWorld(tmp_path)
    async with world.serving() as url, aiohttp.ClientSession() as http:
        with pytest.raises(Rejected) as raised:
            await QualityHttp(http, url, {APP: (APP, "wrong")}.__getitem__).result(APP, "s")
        assert raised.value.code == "invalid_client"
        with pytest.raises(Rejected) as raised:
            await QualityHttp(http, url, {}.__getitem__).result("nobody", "s")  # type: ignore[arg-type]
        assert raised.value.code == "no_credentials"
    world.close()


async def test_rules_are_managed(ours: tuple[QualityWorld, QualityHttp]) -> None:
    _, client = ours
    await client.add_rule(APP, RULE)
    with pytest.raises(Rejected) as raised:
        await client.add_rule(APP, RULE)
    assert raised.value.code == "336130"
    changed = StoredCategory("类别1", "", ("会议||例会",))
    await client.modify_rule(APP, changed)
    assert await client.rules(APP, "类") == (1, [changed])
    await client.delete_rule(APP, "类别1")
    assert await client.rules(APP) == (0, [])
    with pytest.raises(Rejected, match="contents"):
        await client.add_rule(APP, StoredCategory("坏", "", ("(",)))


async def test_a_rule_list_is_read_under_either_of_the_documents_names() -> None:
    listed = {"total": 1, "rule": [{"category": "c", "description": "d", "content": ["甲"]}]}
    async with Vendor(_answer(result=listed)).serving() as client:
        assert await client.rules(APP) == (1, [StoredCategory("c", "d", ("甲",))])
    async with Vendor(_answer(results={"rule": 3})).serving() as client:
        with pytest.raises(Unavailable, match="list of rules"):
            await client.rules(APP)


def test_a_retry_after_that_is_neither_seconds_nor_a_date_is_ignored() -> None:
    with pytest.raises(Unavailable) as raised:
        parsed_answer(503, {"Retry-After": "soon"}, b"")
    assert raised.value.retry_after_s is None
