"""Every result code of the API document, brought about over HTTP by the situation that it stands for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from gateway.ports import Embedding, Product, Unavailable, UsageDay
from gateway.voiceprint.admission import RequestLimits
from protocol.voiceprint import Code
from tests.voiceprint_calls import ORG, Client, get, post, refusal, register, routes_of, signed, until
from tests.voices import Desk, ShelfFetcher, hiss, voice, wav

WAV = wav(voice(1))


class Meter:
    """A UsageMeter in memory; `refusal` is what it says of everybody."""

    def __init__(self, refusal: str = "", fault: Exception | None = None) -> None:
        self.refusal = refusal
        self.fault = fault
        self.counted: list[tuple[str, Product, int]] = []

    async def add(self, app_id: str, product: Product, amount: int) -> None:
        if self.fault:
            raise self.fault
        self.counted.append((app_id, product, amount))

    async def over_quota(self, app_id: str, product: Product) -> str:
        assert product == "voiceprint_requests"
        return self.refusal

    async def days(self, app_id: str, first_day: str, last_day: str) -> list[UsageDay]:
        raise NotImplementedError("nobody asks here")


async def success(desk: Desk) -> Any:
    async with routes_of(desk) as http:
        return await post(http, "/voiceid/register", WAV, spk_name="a")


async def in_progress(desk: Desk) -> Any:
    gate = asyncio.Event()
    desk.embedder.embed = held_back(desk, gate)  # type: ignore[assignment, method-assign]
    async with routes_of(desk, sync_wait_s=0.001) as http:
        return await post(http, "/voiceid/register", WAV, spk_name="a")


async def illegal_access(desk: Desk) -> Any:
    async with routes_of(desk) as http, http.get("/voiceid/count", params=ORG) as response:
        return await response.json()


async def missing_parameter(desk: Desk) -> Any:
    async with routes_of(desk) as http:
        return await post(http, "/voiceid/register", WAV)


async def illegal_parameter(desk: Desk) -> Any:
    async with routes_of(desk) as http:
        return await post(http, "/voiceid/register", wav(bytes(32000)), spk_name="a")


async def not_http_url(desk: Desk) -> Any:
    async with routes_of(desk) as http:
        return await post(http, "/voiceid/recognize", "file:///etc/passwd")


async def no_license(desk: Desk) -> Any:
    async with routes_of(desk, usage=Meter("app acme has had its 1000 requests of today")) as http:
        return await post(http, "/voiceid/recognize", WAV)


async def engine_error(desk: Desk) -> Any:
    desk.embedder.failure = Unavailable("the engine is gone")
    async with routes_of(desk) as http:
        return await post(http, "/voiceid/register", WAV, spk_name="a")


async def undecodable_audio(desk: Desk) -> Any:
    async with routes_of(desk) as http:
        return await post(http, "/voiceid/recognize", b"not audio at all" * 100)


async def too_many_connections(desk: Desk) -> Any:
    gate = asyncio.Event()
    desk.embedder.embed = held_back(desk, gate)  # type: ignore[assignment, method-assign]
    async with routes_of(desk, limits=RequestLimits(at_once=1)) as http:
        first = asyncio.create_task(post(http, "/voiceid/register", WAV, spk_name="a"))
        await until(lambda: desk.embedder.heard_ms)  # it is under way
        refused = await get(http, "/voiceid/count", **ORG)
        assert (await get(http, "/voiceid/count", "rival", **ORG))["code"] == "0", "another app is not concerned"
        gate.set()
        assert (await first)["code"] == "0"
        return refused


async def component_error(desk: Desk) -> Any:
    async with routes_of(desk) as http:
        desk.database.run_blocking(lambda connection: connection.execute("DROP TABLE voiceprints").fetchall())
        return await post(http, "/voiceid/register", WAV, spk_name="a")


def held_back(desk: Desk, gate: asyncio.Event) -> Callable[[bytes, int], Coroutine[Any, Any, Embedding]]:
    """The desk's embedder, which answers once `gate` is set."""
    prompt = desk.embedder.embed

    async def embed(pcm: bytes, rate_hz: int) -> Embedding:
        answer = await prompt(pcm, rate_hz)
        await gate.wait()
        return answer

    return embed


SITUATIONS = {
    Code.SUCCESS: success,
    Code.IN_PROGRESS: in_progress,
    Code.ILLEGAL_ACCESS: illegal_access,
    Code.MISSING_PARAMETER: missing_parameter,
    Code.ILLEGAL_PARAMETER: illegal_parameter,
    Code.NOT_HTTP_URL: not_http_url,
    Code.NO_LICENSE: no_license,
    Code.ENGINE_ERROR: engine_error,
    Code.UNDECODABLE_AUDIO: undecodable_audio,
    Code.TOO_MANY_CONNECTIONS: too_many_connections,
    Code.COMPONENT_ERROR: component_error,
}
IN_THE_DOCUMENT = {
    "0": "success",
    "10000": "in progress",
    "10105": "illegal access",
    "10106": "invalid parameter",
    "10107": "illegal parameter",
    "10109": "audio url is not valid http(s) url",
    "10110": "no license",
    "10700": "engine error",
    "10701": "Audio encode error, only support pcm, aac, mpeg2, opus and flac",
    "16003": "basic component error",
    "10800": "over max connect limit",
}


@pytest.mark.parametrize("code", list(Code))
async def test_every_code_is_answered_in_its_situation_in_the_document_s_words(desk: Desk, code: Code) -> None:
    answer = await SITUATIONS[code](desk)
    assert answer["code"] == code.value
    assert answer["msg"].startswith(IN_THE_DOCUMENT[code.value])


def test_the_codes_are_those_of_the_document() -> None:
    assert {code.value: code.message for code in Code} == IN_THE_DOCUMENT


# --- rate ---


async def test_an_app_that_asks_too_fast_is_refused_and_others_are_not(desk: Desk) -> None:
    seconds = 0.0
    async with routes_of(desk, limits=RequestLimits(per_s=3), now=lambda: seconds) as http:
        codes = [(await get(http, "/voiceid/count", **ORG))["code"] for _ in range(5)]
        assert codes == ["0", "0", "0", "10800", "10800"]
        assert (await get(http, "/voiceid/count", "rival", **ORG))["code"] == "0"
        seconds = 1 / 3 + 0.001
        assert (await get(http, "/voiceid/count", **ORG))["code"] == "0"
        answer = await get(http, "/voiceid/count", **ORG)
        assert refusal(answer) == (
            "10800",
            "over max connect limit: app acme sends more than 3 requests a second, as many as it may",
        )


async def test_a_rate_below_one_a_second_still_lets_a_request_through(desk: Desk) -> None:
    async with routes_of(desk, limits=RequestLimits(per_s=0.5), now=lambda: 0.0) as http:
        assert [(await get(http, "/voiceid/count", **ORG))["code"] for _ in range(2)] == ["0", "10800"]


# --- quota ---


async def test_only_requests_that_heard_a_clip_and_were_carried_out_are_counted(desk: Desk) -> None:
    meter = Meter()
    async with routes_of(desk, usage=meter) as http:
        await register(http, "a", 1)
        await register(http, "a2", 1)
        assert (await post(http, "/voiceid/update", WAV, spk_name="a"))["code"] == "0"
        assert (await post(http, "/voiceid/recognize", WAV))["code"] == "0"
        await get(http, "/voiceid/count", **ORG)
        assert (await post(http, "/voiceid/register", WAV, spk_name="a"))["code"] == "10107"
        assert (await post(http, "/voiceid/recognize", wav(hiss())))["code"] == "10107"
    assert meter.counted == [("acme", "voiceprint_requests", 1)] * 4


async def test_an_app_over_its_quota_hears_why_stores_nothing_and_may_still_delete(desk: Desk) -> None:
    meter = Meter()
    async with routes_of(desk, usage=meter) as http:
        await register(http, "a", 1)
        meter.refusal = "app acme has had its 1 request of today"
        for path in ("/voiceid/register", "/voiceid/update", "/voiceid/recognize"):
            code, msg = refusal(await post(http, path, WAV, spk_name="b"))
            assert (code, msg) == ("10110", "no license: app acme has had its 1 request of today")
        assert (await get(http, "/voiceid/count", **ORG))["data"] == {"count": 1}
        assert (await get(http, "/voiceid/delete-all", **ORG))["code"] == "0"


async def test_what_was_done_but_cannot_be_counted_is_still_done(desk: Desk) -> None:
    async with routes_of(desk, usage=Meter(fault=Unavailable("the disk is full"))) as http:
        await register(http, "a", 1)


# --- what was sent in a form that nobody can read ---


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
async def test_an_unknown_charset_is_the_sender_s_fault(desk: Desk, kind: str) -> None:
    part = 'Content-Disposition: form-data; name="org_id"\r\nContent-Type: text/plain; charset=klingon'
    body = f"--x\r\n{part}\r\n\r\norg\r\n--x--\r\n" if "boundary" in kind else "org_id=org"
    kind = kind if "boundary" in kind else f"{kind}; charset=klingon"
    async with routes_of(desk) as http:
        answer = await posted_raw(http, body.encode(), kind)
    assert answer["code"] == "10106"


async def test_a_text_that_is_typed_as_bytes_is_a_text_all_the_same(desk: Desk) -> None:
    parts = {"org_id": "组织", "tag_id": "tag", "spk_name": "张明"}
    body = b"".join(
        f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n'
        f"Content-Type: application/octet-stream\r\n\r\n{text}\r\n".encode()
        for name, text in parts.items()
    )
    body += b'--x\r\nContent-Disposition: form-data; name="audio"; filename="a.wav"\r\n\r\n' + WAV + b"\r\n--x--\r\n"
    async with routes_of(desk) as http:
        answer = await posted_raw(http, body, "multipart/form-data; boundary=x")
        assert answer == {"code": "0", "msg": "success"}
        listed = await get(http, "/voiceid/list", org_id="组织", tag_id="tag")
        assert [one["spk_name"] for one in listed["data"]] == ["张明"]


async def posted_raw(http: Client, body: bytes, kind: str) -> Any:
    async with http.post("/voiceid/register", data=body, headers={**signed(), "Content-Type": kind}) as response:
        assert response.status == 200
        return json.loads(await response.read())


async def test_audio_by_link_in_the_query_is_taken_when_the_body_has_none(tmp_path: Path) -> None:
    desk = Desk(tmp_path, fetcher=ShelfFetcher({"http://files.example/a.wav": WAV}))
    await desk.service.start()
    async with routes_of(desk) as http:
        answer = await post(http, "/voiceid/register?audio=http://files.example/a.wav", None, spk_name="a")
        assert answer == {"code": "0", "msg": "success"}
    await desk.close()
