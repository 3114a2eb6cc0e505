"""Two servers around one Redis: each answers for the calls of both."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.app import EarshotServer
from gateway.stores.erasure import Kept
from protocol.client import CallClient, CallRefused
from protocol.messages import Ack, Ended, QcResult, Segment, Start
from tests.client import Account, play, until
from tests.integration.hummed import DIALOGUE, RATE_HZ, client_of, eventually, serving
from tests.redis_server import RedisServer

START = Start(rate=RATE_HZ, channels=1, language="en", metadata={"desk": "7"})
WAV_HEADER_BYTES = 44


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as server:
        yield server


@dataclass
class Node:
    server: EarshotServer
    app: Account
    stranger: Account

    async def told(self, call_id: str, path: str = "") -> tuple[int, Any]:
        status, body = await self.app.get(f"/v1/calls/{call_id}{path}")
        return status, msgspec.json.decode(body)

    async def listed(self) -> dict[str, Any]:
        status, body = await self.app.get("/v1/calls")
        assert status == 200
        listed: dict[str, Any] = msgspec.json.decode(body)
        return listed

    async def states(self) -> dict[str, str]:
        return {one["call_id"]: one["state"] for one in (await self.listed())["calls"]}

    async def is_told(self, call_id: str, state: str) -> dict[str, Any]:
        """The call, once this node tells that it is in that state."""

        async def wanted() -> dict[str, Any] | None:
            status, told = await self.told(call_id)
            return told if status == 200 and told["state"] == state else None

        found = await eventually(wanted)
        assert found is not None
        return found

    async def delete(self, call_id: str) -> tuple[int, str]:
        status, body = await self.app.send("DELETE", f"/v1/calls/{call_id}")
        return status, msgspec.json.decode(body)["code"] if body else ""

    def files_with(self, said: bytes) -> list[str]:
        files = [path for path in self.server.settings.data_path.rglob("*") if path.is_file()]
        return [path.name for path in files if said in path.read_bytes()]


@asynccontextmanager
async def nodes(tmp_path: Path, redis: RedisServer, **settings: Any) -> AsyncIterator[tuple[Node, Node]]:
    shared = {"redis_url": redis.url, "cluster_key": "k" * 32, "apps": "demo:secret,other:hidden", "qc_poll_s": 0.05}
    async with AsyncExitStack() as stack:
        found = []
        for name in ("one", "two"):
            server = await stack.enter_async_context(serving(tmp_path / name, node=name, **shared, **settings))
            app = await stack.enter_async_context(client_of(server))
            stranger = await stack.enter_async_context(client_of(server, "other", "hidden"))
            found.append(Node(server, app, stranger))
        yield found[0], found[1]


async def test_a_call_is_told_of_by_each_node_from_its_beginning_to_its_deletion(
    tmp_path: Path, redis: RedisServer
) -> None:
    async with nodes(tmp_path, redis) as (one, two):
        async with CallClient(one.app.ws, START, app_id="demo", secret="secret") as client:
            call_id = client.call_id
            await client.send_audio(DIALOGUE)
            await until(client, Segment, lambda segment: segment.state == "closed")

            async def as_of_now() -> dict[str, Any] | None:
                """Not as it was stored when it began, which is the first that the others hear."""
                _, told = await two.told(call_id)
                return told if told.get("segments") else None

            live = await eventually(as_of_now)
            assert live is not None
            assert (live["state"], live["metadata"]) == ("live", {"desk": "7"})
            assert await two.states() == {call_id: "live"}
            assert (await two.listed())["calls"][0]["duration_ms"] > 0
            assert (await two.told(call_id, "/recording"))[1]["code"] == "not_sealed"
            assert await two.delete(call_id) == (409, "call_runs")

            async def all_is_stored() -> bool:
                return bool((await one.told(call_id, "/levels"))[1]["duration_ms"] == len(DIALOGUE) // 2 // 8)

            await eventually(all_is_stored)
            loud = await two.told(call_id, "/levels")
            assert loud == await one.told(call_id, "/levels")
            assert max(loud[1]["channels"][0]) > -30
            for path in ("", "/recording", "/report", "/levels"):
                assert (await two.stranger.get(f"/v1/calls/{call_id}{path}"))[0] == 404
            assert (await two.stranger.send("DELETE", f"/v1/calls/{call_id}"))[0] == 404
            await client.hang_up()
            await until(client, Ended)
        told = await two.is_told(call_id, "judged")
        assert told == await one.is_told(call_id, "judged")
        assert await two.states() == {call_id: "judged"}
        status, refusal = await two.told(call_id, "/recording")
        assert (status, refusal["code"], refusal["node"]) == (409, "recording_elsewhere", "one")
        assert await two.told(call_id, "/levels") == (409, refusal)
        assert (await one.app.get(f"/v1/calls/{call_id}/recording"))[1][WAV_HEADER_BYTES:] == DIALOGUE
        status, page = await two.app.get(f"/v1/calls/{call_id}/report")
        assert (status, b"I want a refund" in page) == (200, True)
        for path in ("", "/recording", "/report"):
            assert (await two.stranger.get(f"/v1/calls/{call_id}{path}"))[0] == 404
        assert await two.delete(call_id) == (204, "")
        for node in (two, one):
            assert (await node.told(call_id))[0] == 404
            assert await node.states() == {}

        async def erased() -> bool:
            return one.files_with(DIALOGUE[8000:9000]) == []

        await eventually(erased)
        assert await one.delete(call_id) == (404, "unknown_call")


async def test_with_one_folder_for_recordings_any_node_plays_and_deletes_any(
    tmp_path: Path, redis: RedisServer
) -> None:
    folder = tmp_path / "recordings"
    async with nodes(tmp_path, redis, recordings_folder=str(folder)) as (one, two):
        call_id = (await play(one.app, START, DIALOGUE, speed=0)).call_id
        await two.is_told(call_id, "judged")
        status, wav = await two.app.get(f"/v1/calls/{call_id}/recording")
        assert (status, wav[WAV_HEADER_BYTES:]) == (200, DIALOGUE)
        assert (await two.stranger.get(f"/v1/calls/{call_id}/recording"))[0] == 404
        assert b"recording?expires=" in (await two.app.get(f"/v1/calls/{call_id}/report"))[1]
        assert [path.name for path in folder.iterdir()] == [f"{call_id}.wav"]
        assert await two.delete(call_id) == (204, "")
        assert list(folder.iterdir()) == []


async def test_a_call_that_moved_is_recorded_where_it_ended_and_told_of_by_both(
    tmp_path: Path, redis: RedisServer
) -> None:
    folder = tmp_path / "recordings"
    async with nodes(tmp_path, redis, recordings_folder=str(folder), lease_s=1) as (one, two):
        urls = [one.app.ws, two.app.ws]
        async with CallClient(urls, START, app_id="demo", secret="secret") as client:
            call_id = client.call_id
            await client.send_audio(DIALOGUE)
            await until(client, Ack, lambda ack: ack.samples == len(DIALOGUE) // 2)
            client._urls.reverse()  # as after a break that only the way to the first node has
            client._socket.transport.abort()  # type: ignore[union-attr]
            await client.send_audio(DIALOGUE)
            await client.hang_up()
            await until(client, QcResult)
            await until(client, Ended)
        for node in (one, two):
            told = await node.is_told(call_id, "judged")
            assert told["samples"] == len(DIALOGUE)
            status, wav = await node.app.get(f"/v1/calls/{call_id}/recording")
            assert (status, wav[WAV_HEADER_BYTES:]) == (200, DIALOGUE * 2)

        async def given_up() -> bool:
            return await one.server._shelves.own.get("demo", call_id) is None

        await eventually(given_up)
        assert (await one.told(call_id))[1]["state"] == "judged"
        assert [path.name for path in folder.iterdir()] == [f"{call_id}.wav"]


async def test_a_flush_costs_no_answer(tmp_path: Path, redis: RedisServer) -> None:
    async with nodes(tmp_path, redis) as (one, two):
        ids = {
            node.server.settings.node: (await play(node.app, START, DIALOGUE, speed=0)).call_id for node in (one, two)
        }
        for call_id in ids.values():
            for node in (one, two):
                await node.is_told(call_id, "judged")
        gone = (await play(one.app, START, DIALOGUE, speed=0)).call_id
        await two.is_told(gone, "judged")
        assert await two.delete(gone) == (204, "")
        redis.ask("FLUSHALL")
        for node in (one, two):
            assert (await node.told(ids[str(node.server.settings.node)]))[0] == 200, "a node's own calls at once"
        for call_id in ids.values():
            for node in (one, two):
                await node.is_told(call_id, "judged")
        for node in (one, two):
            assert (await node.told(gone))[0] == 404
            assert set(await node.states()) == set(ids.values())


async def test_while_redis_is_away_a_node_tells_of_its_own_calls_and_says_what_it_cannot(
    tmp_path: Path, redis: RedisServer
) -> None:
    async with nodes(tmp_path, redis, ack="local") as (one, two):
        call_id = (await play(one.app, START, DIALOGUE, speed=0)).call_id
        await two.is_told(call_id, "judged")
        redis.kill()
        assert (await one.told(call_id))[1]["state"] == "judged"
        assert (await one.app.get(f"/v1/calls/{call_id}/recording"))[0] == 200
        listed = await one.listed()
        assert [found["call_id"] for found in listed["calls"]] == [call_id]
        assert "Redis" in listed["incomplete"]
        for node in (two.app, two.stranger):
            status, body = await node.get(f"/v1/calls/{call_id}")
            assert (status, msgspec.json.decode(body)["code"]) == (503, "unavailable"), (
                "a foreign call as an absent one"
            )
        assert (await one.delete(call_id))[0] == 503
        await asyncio.to_thread(redis.start)
        await two.is_told(call_id, "judged")
        assert "incomplete" not in await two.listed()
        assert await two.delete(call_id) == (204, "")


async def refusal(node: Node, app_id: str = "demo", secret: str = "secret") -> str:
    """Why the app gets no new call at this node; nothing if it gets one, which is hung up."""
    try:
        async with CallClient(node.app.ws, START, app_id=app_id, secret=secret) as client:
            await client.hang_up(wait_qc_ms=0)
            await until(client, Ended)
    except CallRefused as fault:
        return fault.code
    return ""


@pytest.mark.row(16)
async def test_an_app_has_as_many_calls_at_both_nodes_as_it_may_and_a_place_is_free_at_once(
    tmp_path: Path, redis: RedisServer
) -> None:
    async with nodes(tmp_path, redis, max_calls_per_app=2) as (one, two), AsyncExitStack() as stack:
        calls = [
            await stack.enter_async_context(CallClient(node.app.ws, START, app_id="demo", secret="secret"))
            for node in (one, two)
        ]
        for client in calls:
            await client.send_audio(DIALOGUE[: len(DIALOGUE) // 2])
        for node in (one, two):
            assert await refusal(node) == "too_many_calls"
            assert await refusal(node, "other", "hidden") == ""
        for client in calls:
            await client.send_audio(DIALOGUE[len(DIALOGUE) // 2 :])
            await until(client, Ack, lambda ack: ack.samples == len(DIALOGUE) // 2)
        await calls[0].hang_up(wait_qc_ms=0)
        await until(calls[0], Ended)

        async def place_at_two() -> bool:
            return await refusal(two) == ""

        assert await eventually(place_at_two)
        assert (await one.told(calls[0].call_id))[1]["samples"] == len(DIALOGUE) // 2


async def test_calls_go_by_age_at_every_node_and_in_redis(tmp_path: Path, redis: RedisServer) -> None:
    folder = tmp_path / "recordings"
    async with nodes(tmp_path, redis, recordings_folder=str(folder)) as (one, two):
        call_id = (await play(one.app, START, DIALOGUE, speed=0)).call_id
        await two.is_told(call_id, "judged")

        async def owed_nothing() -> bool:
            return call_id not in await one.server._outbox.owed()

        await eventually(owed_nothing)
        everything = Kept(recordings_days=0, results_days=1e-9)
        await one.server.eraser.sweep(everything)
        for node in (one, two):
            assert (await node.told(call_id))[0] == 404
            assert await node.states() == {}
        assert list(folder.iterdir()) == []
        assert redis.ask("ZCARD earshot:records-deleted") == ":0", "age needs no mark: every node has the same one"


async def test_copies_of_a_node_that_is_gone_go_by_age_too(tmp_path: Path, redis: RedisServer) -> None:
    folder = tmp_path / "recordings"
    async with nodes(tmp_path, redis, recordings_folder=str(folder)) as (one, two):
        call_id = (await play(one.app, START, DIALOGUE, speed=0)).call_id
        await two.is_told(call_id, "judged")
        os.utime(folder / f"{call_id}.wav", (1, 1))
        await two.server.eraser.sweep(Kept(recordings_days=1, results_days=0))
        assert (await two.app.get(f"/v1/calls/{call_id}/recording"))[0] == 200, "by the call's end, not the file's age"
        await two.server.eraser.sweep(Kept(recordings_days=1e-9, results_days=1e-9))
        assert list(folder.iterdir()) == []
        assert redis.ask(f"EXISTS earshot:record:{call_id}") == ":0"
