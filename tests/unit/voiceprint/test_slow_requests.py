"""Work that takes longer than a request waits: 10000 first, the result when the request comes again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from gateway.ports import Embedding
from gateway.voiceprint.slow_requests import SlowRequests
from protocol.voiceprint import Code, VoiceprintError
from tests.unit.voiceprint.test_codes import held_back
from tests.voiceprint_calls import ORG, Client, get, post, routes_of, until, until_done
from tests.voices import Desk, voice, wav

NO_TIME_S = 0.0001


@pytest.fixture
async def gate(desk: Desk) -> asyncio.Event:
    """What the embedder waits for."""
    gate = asyncio.Event()
    desk.embedder.embed = held_back(desk, gate)  # type: ignore[assignment, method-assign]
    return gate


@pytest.fixture
async def http(desk: Desk, gate: asyncio.Event) -> AsyncIterator[Client]:
    async with routes_of(desk, sync_wait_s=NO_TIME_S) as client:
        yield client


async def test_a_slow_registration_goes_on_and_its_result_is_fetched_by_the_same_request(
    http: Client, desk: Desk, gate: asyncio.Event
) -> None:
    async def ask() -> Any:
        return await post(http, "/voiceid/register", wav(voice(1)), spk_name="张明")

    for _ in range(3):
        assert await ask() == {
            "code": "10000",
            "msg": "in progress: the audio is still being worked on; send the same request again for its result",
        }
    assert (await get(http, "/voiceid/count", **ORG))["data"] == {"count": 0}
    gate.set()
    assert await until_done(ask) == {"code": "0", "msg": "success"}
    assert len(desk.embedder.heard_ms) == 2, "the work was done once, in both bands"
    assert (await get(http, "/voiceid/count", **ORG))["data"] == {"count": 1}
    again = await until_done(ask)
    assert again["code"] == "10107", "the result was fetched: asked again, it is a new registration"


async def test_slow_recognitions_of_different_audio_fields_and_apps_are_not_mixed_up(
    http: Client, desk: Desk, gate: asyncio.Event
) -> None:
    gate.set()
    for name, speaker in (("one", 1), ("two", 2)):

        async def enrol(name: str = name, speaker: int = speaker) -> Any:
            return await post(http, "/voiceid/register", wav(voice(speaker)), spk_name=name)

        assert (await until_done(enrol))["code"] == "0"
    gate.clear()
    requests: dict[str, dict[str, Any]] = {
        "one": {"audio": wav(voice(1, take=1))},
        "two": {"audio": wav(voice(2, take=1))},
        "elsewhere": {"audio": wav(voice(1, take=1)), "tag_id": "elsewhere"},
        "rival": {"audio": wav(voice(1, take=1)), "app_id": "rival"},
    }

    async def ask(name: str) -> Any:
        return await post(http, "/voiceid/recognize", **requests[name])

    assert {(await ask(name))["code"] for name in ("one", "two")} == {"10000"}
    gate.set()
    answers = {name: await until_done(lambda name=name: ask(name)) for name in requests}  # type: ignore[misc]
    assert answers["one"]["data"][0]["spk_name"] == "one"
    assert answers["two"]["data"][0]["spk_name"] == "two"
    assert answers["elsewhere"]["data"] == answers["rival"]["data"] == []


async def test_a_slow_refusal_is_kept_like_any_result(http: Client, gate: asyncio.Event) -> None:
    async def ask() -> Any:
        return await post(http, "/voiceid/update", wav(voice(1)), spk_name="nobody")

    answer = await until_done(ask)
    assert answer["code"] == "10107"
    assert "'nobody' is not registered" in answer["msg"]


async def test_credentials_do_not_make_a_request_another_one(http: Client, gate: asyncio.Event, desk: Desk) -> None:
    assert (await post(http, "/voiceid/register", wav(voice(1)), spk_name="a"))["code"] == "10000"
    gate.set()
    desk.now_s += 5  # a later signature

    async def ask() -> Any:
        return await post(http, "/voiceid/register?ts=1&appid=x&signa=y", wav(voice(1)), spk_name="a")

    assert (await until_done(ask))["code"] == "0"


# --- bounds, without HTTP ---


async def test_so_much_work_of_an_app_goes_on_and_no_more() -> None:
    slow = SlowRequests(wait_s=NO_TIME_S, most_per_app=2)
    gate = asyncio.Event()

    async def work() -> object:
        await gate.wait()
        return "done"

    for key in (b"1", b"2"):
        with pytest.raises(VoiceprintError, match="still being worked on") as refused:
            await slow.result("acme", key, work)
        assert refused.value.code is Code.IN_PROGRESS
    with pytest.raises(VoiceprintError, match="app acme has 2 requests that are still being worked on") as refused:
        await slow.result("acme", b"3", work)
    assert refused.value.code is Code.TOO_MANY_CONNECTIONS
    with pytest.raises(VoiceprintError, match="still being worked on"):
        await slow.result("rival", b"3", work)
    await slow.close()


async def test_of_results_that_nobody_fetches_the_oldest_gives_way() -> None:
    slow = SlowRequests(wait_s=NO_TIME_S, most_per_app=2)
    runs: list[int] = []

    def work(number: int) -> Callable[[], Awaitable[object]]:
        async def run() -> object:
            await asyncio.sleep(0.01)
            runs.append(number)
            return number

        return run

    for number in range(3):
        with pytest.raises(VoiceprintError):
            await slow.result("acme", bytes([number]), work(number))
        await until(lambda number=number: len(runs) > number)  # type: ignore[misc]
    assert await slow.result("acme", bytes([2]), work(2)) == 2
    assert runs == [0, 1, 2]
    with pytest.raises(VoiceprintError):  # begun anew: its result was let go
        await slow.result("acme", bytes([0]), work(0))
    await slow.close()


async def test_a_result_that_nobody_fetches_is_let_go_after_a_while_and_a_bug_is_logged(
    capsys: pytest.CaptureFixture[str],
) -> None:
    slow = SlowRequests(wait_s=NO_TIME_S, keep_s=0)
    gate = asyncio.Event()

    async def work() -> object:
        await gate.wait()
        raise RuntimeError("a bug")

    with pytest.raises(VoiceprintError):
        await slow.result("acme", b"1", work)
    gate.set()
    await until(lambda: not slow._kept)
    assert not slow._timers
    assert "a bug" in capsys.readouterr().out


async def test_closing_ends_what_goes_on() -> None:
    slow = SlowRequests(wait_s=NO_TIME_S)
    ended = asyncio.Event()

    async def work() -> object:
        try:
            return await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(VoiceprintError):
        await slow.result("acme", b"1", work)
    await slow.close()
    assert ended.is_set()


async def test_without_a_limit_a_request_waits_for_its_result(desk: Desk) -> None:
    async def embed(pcm: bytes, rate_hz: int) -> Embedding:
        await asyncio.sleep(0.01)
        return await prompt(pcm, rate_hz)

    prompt = desk.embedder.embed
    desk.embedder.embed = embed  # type: ignore[method-assign]
    async with routes_of(desk, sync_wait_s=0) as http:
        assert (await post(http, "/voiceid/register", wav(voice(1)), spk_name="a"))["code"] == "0"
