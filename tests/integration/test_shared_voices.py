"""Whole servers around one Redis: a voice enrolled at one is everybody's, and so is its deletion."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from structlog.testing import capture_logs

from gateway.app import EarshotServer
from tests.client import Account
from tests.integration.hummed import client_of, serving
from tests.redis_server import RedisServer
from tests.voices import voice, wav

NAME = "张明 the 3rd"


@pytest.fixture
def redis(tmp_path: Path) -> RedisServer:
    return RedisServer(tmp_path / "redis")


@pytest.fixture
async def accounts(tmp_path: Path, redis: RedisServer) -> AsyncIterator[list[Account]]:
    """The same app at two nodes."""
    async with AsyncExitStack() as running:
        running.enter_context(redis)
        servers: list[EarshotServer] = [
            await running.enter_async_context(
                serving(tmp_path / name, apps="demo:secret,rival:other", redis_url=redis.url, cluster_key="k" * 32)
            )
            for name in ("a", "b")
        ]
        yield [await running.enter_async_context(client_of(server)) for server in servers]


async def posted(account: Account, path: str, speaker: int, **fields: str) -> Any:
    form = aiohttp.FormData({"org_id": "org", "tag_id": "tag", **fields})
    form.add_field("audio", wav(voice(speaker, seconds=2)), filename="clip.wav", content_type="audio/wav")
    async with account.session.post(account.http + path, data=form, headers=account.headers) as response:
        return await response.json()


async def got(account: Account, path: str) -> Any:
    return msgspec.json.decode((await account.get(path))[1])


async def test_a_voice_of_one_node_is_found_and_deleted_at_another(accounts: list[Account]) -> None:
    a, b = accounts
    with capture_logs() as logs:
        assert (await posted(a, "/voiceid/register", 1, spk_name=NAME))["code"] == "0"
        assert (await posted(b, "/voiceid/register", 2, spk_name=NAME))["code"] == "10107"
        (hit,) = (await posted(b, "/voiceid/recognize", 1))["data"]
        assert hit["spk_name"] == NAME
        async with b.session.get(hit["audio_path"]) as audio:
            assert (await audio.read())[:4] == b"fLaC", "the node that links to it has it"
        scope = "org_id=org&tag_id=tag"
        assert (await got(b, f"/voiceid/delete-all?{scope}"))["code"] == "0"
        assert "data" not in (found := await posted(a, "/voiceid/recognize", 1)) or found["data"] == []
        async with a.session.get(hit["audio_path"]) as audio:
            assert audio.status == 404
    assert NAME not in repr(logs), "names are in no log"
    audit = (await got(a, f"/v1/voices/audit?name={NAME}"))["audit"]
    assert [(one["operation"], one["actor"]) for one in audit] == [("delete_all", "127.0.0.1"), ("enrol", "127.0.0.1")]


async def test_a_node_answers_16003_for_changes_while_redis_is_away(
    accounts: list[Account], redis: RedisServer
) -> None:
    a, _ = accounts
    assert (await posted(a, "/voiceid/register", 1, spk_name="ann"))["code"] == "0"
    redis.kill()
    assert (await posted(a, "/voiceid/register", 2, spk_name="bob"))["code"] == "16003"
    (hit,) = (await posted(a, "/voiceid/recognize", 1))["data"]
    assert hit["spk_name"] == "ann"
    assert (await a.get("/v1/voices/audit"))[0] == 503
    redis.start()
    assert (await posted(a, "/voiceid/register", 2, spk_name="bob"))["code"] == "0"
