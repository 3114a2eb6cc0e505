from __future__ import annotations

import asyncio
import io
import wave
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.clients.voiceprint_http import VoiceprintHttp
from gateway.ports import Rejected, Unavailable
from protocol.voiceprint import sign
from tests.voices import NOW_S, voice, wav


class Vendor:
    """A server that answers what the test tells it to, and keeps what it was sent."""

    def __init__(self) -> None:
        self.body: bytes | dict[str, Any] = {"code": "0", "msg": "success"}
        self.status = 200
        self.headers: dict[str, str] = {}
        self.requests: list[tuple[str, str, dict[str, Any], dict[str, str]]] = []
        self.before: Callable[[], Awaitable[object]] | None = None

    async def answer(self, request: web.Request) -> web.Response:
        if self.before is not None:
            await self.before()
        fields: dict[str, Any] = dict(request.query)
        for name, value in (await request.post()).items():
            fields[name] = (value.filename, value.file.read()) if isinstance(value, web.FileField) else value
        self.requests.append((request.method, request.path, fields, dict(request.headers)))
        if isinstance(self.body, dict):
            return web.json_response(self.body, status=self.status, headers=self.headers)
        return web.Response(body=self.body, status=self.status, headers=self.headers)

    def scores(self, *scores: float) -> None:
        hits = [{"spk_name": f"v{number}", "score": score} for number, score in enumerate(scores)]
        self.body = {"code": "0", "msg": "success", "data": hits}


@pytest.fixture
def vendor() -> Vendor:
    return Vendor()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def base_url(vendor: Vendor) -> AsyncIterator[str]:
    app = web.Application(client_max_size=2**24)
    app.router.add_route("*", "/{path:.*}", vendor.answer)
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


@pytest.fixture
def client(base_url: str, session: aiohttp.ClientSession) -> VoiceprintHttp:
    return client_at(base_url, session)


def client_at(base_url: str, session: aiohttp.ClientSession, **settings: Any) -> VoiceprintHttp:
    account = lambda _: ("vendor-app", "vendor-secret")  # noqa: E731
    return VoiceprintHttp(base_url, session, credentials=account, now=lambda: NOW_S, **settings)


async def recognize(client: VoiceprintHttp) -> list[tuple[str, float]]:
    candidates = await client.recognize("acme", "org", "tag", voice(1), 16000)
    return [(candidate.name, round(candidate.score, 3)) for candidate in candidates]


async def test_a_recognition_is_a_signed_form_with_a_16_khz_wav(client: VoiceprintHttp, vendor: Vendor) -> None:
    await client.recognize("acme", "组织", None, voice(1, rate_hz=8000), 8000)
    method, path, fields, headers = vendor.requests[0]
    assert (method, path, set(fields)) == ("POST", "/voiceid/recognize", {"org_id", "audio"})
    assert fields["org_id"] == "组织"
    name, file = fields["audio"]
    assert name == "clip.wav"
    with wave.open(io.BytesIO(file)) as sent:
        assert (sent.getframerate(), sent.getnchannels(), sent.getsampwidth()) == (16000, 1, 2)
        assert sent.getnframes() == pytest.approx(16000, abs=2)
    ts = str(int(NOW_S))
    assert headers["X-App-Key"] == "vendor-app"
    assert (headers["X-Timestamp"], headers["X-App-Signature"]) == (ts, sign("vendor-app", ts, "vendor-secret"))


async def test_our_own_service_hears_a_line_at_its_own_rate_once_it_has_answered(
    client: VoiceprintHttp, vendor: Vendor
) -> None:
    vendor.headers = {"X-Score-Scale": "percent"}
    vendor.scores(90.0)
    for _ in range(2):
        await client.recognize("acme", "org", None, voice(1, rate_hz=8000), 8000)
    rates = []
    for _, _, fields, _ in vendor.requests:
        with wave.open(io.BytesIO(fields["audio"][1])) as sent:
            rates.append(sent.getframerate())
    assert rates == [16000, 8000]


async def test_scores_above_one_are_percent(client: VoiceprintHttp, vendor: Vendor) -> None:
    vendor.scores(100.0000080148816, 0.7)
    assert await recognize(client) == [("v0", 100.0), ("v1", 0.7)]


async def test_scores_up_to_one_are_cosines(client: VoiceprintHttp, vendor: Vendor) -> None:
    vendor.scores(1.0000001, 0.54, -0.1)
    assert await recognize(client) == [("v0", 100.0), ("v1", 54.0), ("v2", -10.0)]


async def test_a_server_once_seen_to_score_in_percent_keeps_that_scale(client: VoiceprintHttp, vendor: Vendor) -> None:
    vendor.scores(54.0)
    await recognize(client)
    vendor.scores(0.8)
    assert await recognize(client) == [("v0", 0.8)]


async def test_the_scale_can_be_named(base_url: str, session: aiohttp.ClientSession, vendor: Vendor) -> None:
    vendor.scores(0.8)
    assert await recognize(client_at(base_url, session, score_scale="percent")) == [("v0", 0.8)]
    assert await recognize(client_at(base_url, session, score_scale="cosine")) == [("v0", 80.0)]


async def test_candidates_are_sorted_whatever_the_server_does(client: VoiceprintHttp, vendor: Vendor) -> None:
    vendor.scores(20, 90, 50)
    assert [name for name, _ in await recognize(client)] == ["v1", "v2", "v0"]


@pytest.mark.parametrize("data", [None, [], ""])
async def test_no_hits_in_any_spelling_are_no_candidates(client: VoiceprintHttp, vendor: Vendor, data: object) -> None:
    vendor.body = {"code": "0", "msg": "success", "data": data}
    assert await recognize(client) == []


@pytest.mark.parametrize("code", ["10000", "10700", "10800", "16003"])
async def test_codes_that_time_may_heal_are_unavailable(client: VoiceprintHttp, vendor: Vendor, code: str) -> None:
    vendor.body = {"code": code, "msg": "later"}
    with pytest.raises(Unavailable, match=f"code {code}: later"):
        await recognize(client)


@pytest.mark.parametrize("code", ["10105", "10106", "10107", "10109", "10110", "10701", "99999", 10107])
async def test_other_codes_are_rejected_with_the_code(client: VoiceprintHttp, vendor: Vendor, code: object) -> None:
    vendor.body = {"code": code, "msg": "no", "data": {"reason": "silence"}}
    with pytest.raises(Rejected, match=": no") as rejected:
        await recognize(client)
    assert rejected.value.code == str(code)


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"\xff\xfe", {"msg": "no code"}, {"code": "0", "data": [{"score": "high"}]}]
)
async def test_an_answer_out_of_shape_is_unavailable(
    client: VoiceprintHttp, vendor: Vendor, body: bytes | dict[str, Any]
) -> None:
    vendor.body = body
    with pytest.raises(Unavailable, match="not what its document promises"):
        await recognize(client)


async def test_http_statuses_say_whether_to_try_again(client: VoiceprintHttp, vendor: Vendor) -> None:
    vendor.status, vendor.headers = 503, {"Retry-After": "7"}
    with pytest.raises(Unavailable) as unavailable:
        await recognize(client)
    assert unavailable.value.retry_after_s == 7
    vendor.status, vendor.headers = 404, {}
    with pytest.raises(Rejected) as rejected:
        await recognize(client)
    assert rejected.value.code == "404"


async def test_a_redirect_is_not_followed(client: VoiceprintHttp, vendor: Vendor) -> None:
    vendor.status, vendor.headers = 302, {"Location": "/elsewhere"}
    with pytest.raises(Rejected):
        await recognize(client)
    assert len(vendor.requests) == 1


async def test_a_server_that_never_answers_is_unavailable(
    base_url: str, session: aiohttp.ClientSession, vendor: Vendor
) -> None:
    never = asyncio.Event()
    vendor.before = never.wait
    with pytest.raises(Unavailable, match="did not answer"):
        await recognize(client_at(base_url, session, timeout_s=0.05))
    never.set()


async def test_nobody_listening_is_unavailable(session: aiohttp.ClientSession) -> None:
    async with TestServer(web.Application()) as server:
        url = str(server.make_url("/"))
    with pytest.raises(Unavailable, match="cannot be reached"):
        await recognize(client_at(url, session))


async def test_register_delete_and_list_speak_the_documents_fields(client: VoiceprintHttp, vendor: Vendor) -> None:
    large = wav(voice(1, seconds=40))
    await client.register("acme", "org", "tag", "张明", large, filename='张"明.flac')
    method, path, fields, _ = vendor.requests[-1]
    assert (method, path) == ("POST", "/voiceid/register")
    assert fields == {"org_id": "org", "tag_id": "tag", "spk_name": "张明", "audio": ("张明.flac", large)}

    await client.delete("acme", "org", "tag", "张明")
    assert vendor.requests[-1][:3] == (
        "GET",
        "/voiceid/del-spk-name",
        {"org_id": "org", "tag_id": "tag", "spk_name": "张明"},
    )

    vendor.body = {"code": "0", "msg": "success", "data": [{"spk_name": "张明", "audio_path": "https://a/b.flac"}]}
    voices = await client.voices("acme", "org", "tag", offset=5, limit=2)
    assert [(voice.name, voice.audio_url) for voice in voices] == [("张明", "https://a/b.flac")]
    assert vendor.requests[-1][2] == {"org_id": "org", "tag_id": "tag", "offset": "5", "limit": "2"}
