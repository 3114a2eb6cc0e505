"""Requests to the voiceprint service's routes, as tests make them."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gateway.voiceprint.api import VoiceprintRoutes
from protocol.voiceprint import signed_headers
from tests.voices import NOW_S, SECRETS, Desk, voice, wav

Client = TestClient[web.Request, web.Application]

ORG = {"org_id": "org", "tag_id": "tag"}


async def until(holds: Callable[[], object]) -> None:
    """Waits for what nobody announces; the test's own time-out ends it if it never comes."""
    while True:
        if holds():
            return
        await asyncio.sleep(0.001)


async def until_done(ask: Callable[[], Awaitable[Any]]) -> Any:
    """The answer to a request that is sent again as long as it is answered 10000."""
    while True:
        answer = await ask()
        if answer["code"] != "10000":
            return answer
        await asyncio.sleep(0.01)


@asynccontextmanager
async def routes_of(desk: Desk, **options: Any) -> AsyncIterator[Client]:
    """The desk's service behind its routes, which are made with `options`."""
    endpoints = VoiceprintRoutes(desk.service, desk.reader, desk.credentials, desk.links, **options)
    app = web.Application()
    app.add_routes(endpoints.routes())
    async with TestClient(TestServer(app)) as client:
        yield client
        await endpoints.close()


def signed(app_id: str = "acme") -> dict[str, str]:
    return signed_headers(app_id, SECRETS[app_id][0], NOW_S)


async def get(http: Client, path: str, app_id: str = "acme", **query: Any) -> Any:
    async with http.get(path, params=query, headers=signed(app_id)) as response:
        assert response.status == 200
        assert response.content_type == "application/json"
        return await response.json()


async def post(
    http: Client,
    path: str,
    audio: bytes | str | Sequence[bytes | str] | None,
    *,
    filename: str = "a.wav",
    kind: str = "audio/*",
    app_id: str = "acme",
    **fields: str,
) -> Any:
    form = aiohttp.FormData(quote_fields=False)
    for name, value in {**ORG, **fields}.items():
        if value:
            form.add_field(name, value)
    several = [] if audio is None else [audio] if isinstance(audio, str | bytes) else audio
    for one in several:
        if isinstance(one, str):
            form.add_field("audio", one)
        else:
            form.add_field("audio", io.BytesIO(one), filename=filename, content_type=kind)
    async with http.post(path, data=form, headers=signed(app_id)) as response:
        assert response.status == 200
        return await response.json()


async def register(http: Client, name: str, speaker: int, **fields: str) -> None:
    answer = await post(http, "/voiceid/register", wav(voice(speaker)), spk_name=name, **fields)
    assert answer == {"code": "0", "msg": "success"}


def refusal(answer: dict[str, Any]) -> tuple[str, str]:
    assert set(answer) <= {"code", "msg", "data"}
    return answer["code"], answer["msg"]
