"""Two servers and a Redis as real processes: killed, frozen, flushed and filled while a call goes on."""

from __future__ import annotations

import asyncio
import io
import signal
import wave
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
import pytest

from protocol import messages
from protocol.client import CallClient
from protocol.messages import Ack, Ended, Gap, GoingAway, Segment, ServerMessage, Start
from tests.client import account
from tests.earshot_process import HUMMED, EarshotProcess
from tests.faults.ledger import Ledger
from tests.integration.hummed import RATE_HZ, eventually, humming
from tests.redis_server import RedisServer

START = Start(rate=RATE_HZ, channels=1, language="en")
FIRST = humming((0, 400), (130, 1500), (0, 1500))
SECOND = humming((100, 1000), (0, 1200), (200, 1000), (0, 1000))
PATIENCE_S = 60
Listen = Callable[[type[Any], Callable[[Any], bool]], Awaitable[Any]]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as server:
        yield server


class Nodes:
    """Servers around one Redis, started when they are first asked for."""

    def __init__(self, folder: Path, redis: RedisServer, **environment: str) -> None:
        self._folder = folder
        self._environment = {
            "EARSHOT_APPS": "demo:secret",
            "EARSHOT_QC_POLL_S": "0.05",
            "EARSHOT_REDIS_URL": redis.url,
            "EARSHOT_CLUSTER_KEY": "k" * 32,
            "EARSHOT_LEASE_S": "1",
            **environment,
        }
        self._running: dict[str, EarshotProcess] = {}

    def start(self, name: str) -> EarshotProcess:
        process = EarshotProcess(self._folder / name, {**self._environment, "EARSHOT_NODE": name}, module=HUMMED)
        self._running[name] = process
        process.wait_until_listening()
        return process

    def __getitem__(self, name: str) -> EarshotProcess:
        return self._running.get(name) or self.start(name)

    def client(self, *names: str) -> CallClient:
        return CallClient([self[name].ws for name in names], START, app_id="demo", secret="secret")

    async def told(self, name: str, call_id: str) -> dict[str, Any]:
        """The call's document at a node, once it is judged."""
        async with account(self[name].http, self[name].ws, "demo", "secret") as app:

            async def judged() -> Any:
                status, body = await app.get(f"/v1/calls/{call_id}")
                document = msgspec.json.decode(body) if status == 200 else {"state": "absent"}
                return document if document["state"] == "judged" else None

            document: dict[str, Any] = await eventually(judged, patience_s=PATIENCE_S)
            return document

    async def recording(self, name: str, call_id: str) -> bytes:
        async with account(self[name].http, self[name].ws, "demo", "secret") as app:
            _, body = await app.get(f"/v1/calls/{call_id}/recording")
        with wave.open(io.BytesIO(body), "rb") as wav:
            return wav.readframes(wav.getnframes())

    async def logged(self, name: str, text: str) -> None:
        async def there() -> bool:
            return text in self[name].log

        await eventually(there, patience_s=PATIENCE_S)

    @property
    def tasks(self) -> int:
        """Recordings that voice QC has judged, at all nodes together."""
        return sum(process.log.count("quality_task_finished") for process in self._running.values())

    def enter(self, ledger: Ledger, row: int, fault: str, acked: bytes) -> None:
        """Write down a call of which `acked` was acknowledged and, as the test has shown, recorded."""
        tasks = self.tasks
        ledger.add(
            row=row, fault=fault, tried=1, acked_samples=len(acked) // 2, lost_samples=0, tasks_created=tasks,
            tasks_expected=1,
        )  # fmt: skip
        assert tasks == 1

    def end(self) -> None:
        for process in self._running.values():
            process.signal(signal.SIGCONT)
            process.kill()


@pytest.fixture
def nodes(tmp_path: Path, redis: RedisServer) -> Iterator[Nodes]:
    nodes = Nodes(tmp_path, redis)
    yield nodes
    nodes.end()


class Listening:
    """What a client hears; `until` waits for something in it."""

    def __init__(self, client: CallClient) -> None:
        self.messages: list[ServerMessage] = []
        self._more = asyncio.Event()
        self._task = asyncio.create_task(self._listen(client))

    async def _listen(self, client: CallClient) -> None:
        try:
            async for message in client:
                self.messages.append(message)
                self._more.set()
        finally:
            self._more.set()

    def of(self, kind: type[Any]) -> list[Any]:
        return [message for message in self.messages if isinstance(message, kind)]

    async def until(self, kind: type[Any], wanted: Callable[[Any], bool] = lambda _: True) -> Any:
        async with asyncio.timeout(PATIENCE_S):
            while not (found := [one for one in self.of(kind) if wanted(one)]):
                if self._task.done():
                    await self._task
                    raise AssertionError(f"the call ended without such a {kind.__name__}")
                self._more.clear()
                await self._more.wait()
        return found[0]

    async def acked(self, samples: int) -> None:
        await self.until(Ack, lambda ack: ack.samples >= samples)

    def assert_numbered_without_a_break(self) -> None:
        """Each number once and in order. What is missing can only be acks: of those missed, the newest is repeated."""
        seqs = [message.seq for message in self.messages if message.seq]
        assert seqs == sorted(set(seqs))
        assert seqs[-1] - len(seqs) <= 20, "a jump: numbers were given up"


async def hang_up(client: CallClient, heard: Listening) -> Ended:
    await client.hang_up()
    ended: Ended = await heard.until(Ended)
    return ended


@pytest.mark.row(30)
async def test_a_call_survives_the_death_of_its_node(nodes: Nodes, ledger: Ledger) -> None:
    async with nodes.client("a", "b") as client:
        heard = Listening(client)
        await client.send_audio(FIRST)
        await heard.until(Segment, lambda one: one.state == "closed")
        await heard.acked(len(FIRST) // 2)
        nodes["a"].kill()
        await client.send_audio(SECOND)
        ended = await hang_up(client, heard)
        call_id = client.call_id
    assert (ended.samples, ended.reason) == (len(FIRST + SECOND) // 2, "hangup")
    assert await nodes.recording("b", call_id) == FIRST + SECOND
    heard.assert_numbered_without_a_break()
    assert heard.of(Gap) == []
    ids = [(one.segment_id, one.state) for one in heard.of(Segment)]
    assert len(ids) == len(set(ids)), "what was told before is not told again"
    assert nodes.tasks == 1
    # The dead node comes back, finds its part, and does nothing with it.
    nodes.start("a")
    await nodes.logged("a", "part_given_up")
    nodes.enter(ledger, 30, "kill -9, the client goes on at another node", FIRST + SECOND)


@pytest.mark.row(30)
async def test_audio_that_was_acked_and_not_heard_by_anyone_else_is_there(nodes: Nodes, ledger: Ledger) -> None:
    async with nodes.client("a", "b") as client:
        heard = Listening(client)
        acked = 0
        for at in range(0, len(FIRST), 1600):
            await client.send_audio(FIRST[at : at + 1600])
        await heard.until(Ack)
        nodes["a"].kill()  # with audio on its way to every place it can be in
        acked = client.acked_samples
        await hang_up(client, heard)
    assert acked > 0
    assert await nodes.recording("b", client.call_id) == FIRST
    nodes.enter(ledger, 30, "kill -9 right after an ack, on to another node", FIRST)


@pytest.mark.row(30)
async def test_a_node_that_wakes_up_late_does_nothing_more_to_a_call_it_has_lost(nodes: Nodes, ledger: Ledger) -> None:
    with patch("protocol.client.PING_S", 0.3), patch("protocol.client.CONNECT_TIMEOUT_S", 0.5):
        async with nodes.client("a", "b") as client:
            heard = Listening(client)
            await client.send_audio(FIRST)
            await heard.acked(len(FIRST) // 2)
            nodes["a"].signal(signal.SIGSTOP)
            await client.send_audio(SECOND)
            await heard.acked(len(FIRST + SECOND) // 2)
            nodes["a"].signal(signal.SIGCONT)
            await nodes.logged("a", "call_taken_over_by_another_node")
            await hang_up(client, heard)
            call_id = client.call_id
    assert await nodes.recording("b", call_id) == FIRST + SECOND
    heard.assert_numbered_without_a_break()
    await nodes.logged("a", "part_given_up")
    nodes.enter(ledger, 30, "a node frozen, its call taken over, woken again", FIRST + SECOND)
    assert "quality_task_finished" not in nodes["a"].log


@pytest.mark.row(30)
async def test_a_node_whose_window_ran_out_while_it_slept_hands_nothing_in(
    tmp_path: Path, redis: RedisServer, ledger: Ledger
) -> None:
    nodes = Nodes(tmp_path, redis, EARSHOT_RESUME_WINDOW_S="3")
    try:
        with patch("protocol.client.CONNECT_TIMEOUT_S", 0.5):
            async with nodes.client("a", "b") as client:
                heard = Listening(client)
                await client.send_audio(FIRST)
                await heard.acked(len(FIRST) // 2)
                client._socket.transport.abort()  # type: ignore[union-attr] # the window begins ...
                nodes["a"].signal(signal.SIGSTOP)
                await client.send_audio(SECOND)
                await heard.acked(len(FIRST + SECOND) // 2)
                await hang_up(client, heard)
                await asyncio.sleep(3)  # ... and is over
                nodes["a"].signal(signal.SIGCONT)
                await nodes.logged("a", "part_given_up")
        assert await nodes.recording("b", client.call_id) == FIRST + SECOND
        nodes.enter(ledger, 30, "a node frozen for longer than the resume window", FIRST + SECOND)
    finally:
        nodes.end()


@pytest.mark.row(30)
async def test_a_call_that_nobody_brings_back_is_judged_elsewhere_once(
    tmp_path: Path, redis: RedisServer, ledger: Ledger
) -> None:
    nodes = Nodes(tmp_path, redis, EARSHOT_RESUME_WINDOW_S="1")
    try:
        assert nodes["b"].http
        async with nodes.client("a") as client:
            heard = Listening(client)
            await client.send_audio(FIRST)
            await heard.acked(len(FIRST) // 2)
            nodes["a"].kill()
        document = await nodes.told("b", client.call_id)
        assert document["reason"] == "lost"
        assert await nodes.recording("b", client.call_id) == FIRST
        nodes.start("a")
        await nodes.logged("a", "part_given_up")
        nodes.enter(ledger, 30, "kill -9, the client stays away, another node judges", FIRST)
    finally:
        nodes.end()


@pytest.mark.parametrize("ack", ["replica", "local"])
@pytest.mark.row(30)
async def test_a_node_that_shuts_down_hands_its_calls_over(
    tmp_path: Path, redis: RedisServer, ack: str, ledger: Ledger
) -> None:
    nodes = Nodes(tmp_path, redis, EARSHOT_ACK=ack)
    try:
        async with nodes.client("a", "b") as client:
            heard = Listening(client)
            await client.send_audio(FIRST)
            await heard.acked(len(FIRST) // 2)
            nodes["a"].signal(signal.SIGTERM)
            await heard.until(GoingAway)
            await client.send_audio(SECOND)
            await hang_up(client, heard)
        assert await nodes.recording("b", client.call_id) == FIRST + SECOND
        heard.assert_numbered_without_a_break()
        assert heard.of(Gap) == []
        nodes.enter(ledger, 30, f"SIGTERM, the call goes on at another node ({ack})", FIRST + SECOND)
    finally:
        nodes.end()


@pytest.mark.row(30)
async def test_with_local_acks_a_lost_node_leaves_a_hole_that_it_fills_when_it_is_back(
    tmp_path: Path, redis: RedisServer, ledger: Ledger
) -> None:
    nodes = Nodes(tmp_path, redis, EARSHOT_ACK="local")
    try:
        async with nodes.client("a", "b") as client:
            heard = Listening(client)
            await client.send_audio(FIRST)
            await heard.acked(len(FIRST) // 2)
            nodes["a"].kill()
            await client.send_audio(SECOND)
            gap = await heard.until(Gap)
            await hang_up(client, heard)
        assert (gap.from_sample, gap.to_sample, gap.cause) == (0, len(FIRST) // 2, "node")
        seqs = [message.seq for message in heard.messages if message.seq]
        assert seqs == sorted(set(seqs))
        call_id = client.call_id
        assert await nodes.recording("b", call_id) == bytes(len(FIRST)) + SECOND
        before = await nodes.told("b", call_id)
        nodes.start("a")
        await nodes.logged("b", "late_part_added")
        assert await nodes.recording("b", call_id) == FIRST + SECOND
        after = await nodes.told("b", call_id)
        assert after["qc"] == before["qc"]
        assert after["gaps"][0]["filled"]
        await nodes.logged("a", "part_given_up")
        nodes.enter(ledger, 30, "kill -9 with local acks, the node comes back", FIRST + SECOND)
    finally:
        nodes.end()


def full(redis: RedisServer) -> None:
    redis.ask("CONFIG", "SET", "maxmemory", "1")


FAULTS: dict[str, tuple[Callable[[RedisServer], object], Callable[[RedisServer], object]]] = {
    "killed and restarted": (lambda redis: redis.kill(), lambda redis: redis.start()),
    "stopped for a while": (lambda redis: redis.freeze(), lambda redis: redis.thaw()),
    "full": (full, lambda redis: redis.ask("CONFIG", "SET", "maxmemory", "0")),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.row(31)
async def test_while_redis_is_away_the_call_goes_on_without_acks_and_catches_up(
    nodes: Nodes, redis: RedisServer, fault: str, ledger: Ledger
) -> None:
    begin, end = FAULTS[fault]
    async with nodes.client("a", "b") as client:
        heard = Listening(client)
        await client.send_audio(FIRST)
        await heard.acked(len(FIRST) // 2)
        begin(redis)
        await client.send_audio(SECOND)
        warning = await heard.until(messages.Warning)
        assert warning.code == "degraded"
        await heard.until(Segment, lambda one: one.begin_ms > len(FIRST) // 16 and one.state == "closed")
        assert client.acked_samples == len(FIRST) // 2, "what is not replicated is not acked"
        end(redis)
        await heard.acked(len(FIRST + SECOND) // 2)
        nodes["a"].kill()
        await client.send_audio(FIRST)
        await hang_up(client, heard)
    assert await nodes.recording("b", client.call_id) == FIRST + SECOND + FIRST
    assert heard.of(Gap) == []
    nodes.enter(ledger, 31, f"Redis {fault}, then kill -9 of the node", FIRST + SECOND + FIRST)


@pytest.mark.row(31)
async def test_after_a_flush_the_tail_is_there_again_before_acks_go_on(
    nodes: Nodes, redis: RedisServer, ledger: Ledger
) -> None:
    async with nodes.client("a", "b") as client:
        heard = Listening(client)
        await client.send_audio(FIRST)
        await heard.acked(len(FIRST) // 2)
        redis.ask("FLUSHALL")
        await client.send_audio(SECOND)
        await heard.acked(len(FIRST + SECOND) // 2)
        nodes["a"].kill()
        await client.send_audio(FIRST)
        await hang_up(client, heard)
    assert await nodes.recording("b", client.call_id) == FIRST + SECOND + FIRST
    assert heard.of(Gap) == []
    nodes.enter(ledger, 31, "Redis flushed, then kill -9 of the node", FIRST + SECOND + FIRST)


@pytest.mark.row(31)
async def test_after_a_flush_every_node_tells_again_of_what_it_had_finished(
    nodes: Nodes, redis: RedisServer, ledger: Ledger
) -> None:
    ids = {}
    for name, other in (("a", "b"), ("b", "a")):
        async with nodes.client(name) as client:
            heard = Listening(client)
            await client.send_audio(FIRST)
            await hang_up(client, heard)
            ids[name] = client.call_id
        assert (await nodes.told(other, ids[name]))["qc"]["result"]
    nodes["a"].kill()
    redis.ask("FLUSHALL")
    assert (await nodes.told("b", ids["b"]))["state"] == "judged"
    async with account(nodes["b"].http, nodes["b"].ws, "demo", "secret") as app:
        assert (await app.get(f"/v1/calls/{ids['a']}"))[0] == 404, "nobody is left who knows"
    nodes.start("a")
    for name in ("a", "b"):
        for call_id in ids.values():
            assert (await nodes.told(name, call_id))["state"] == "judged"
    lost = sum([await nodes.recording(name, ids[name]) != FIRST for name in ids])
    ledger.add(
        row=31, fault="Redis flushed while a node is down: finished calls", tried=1, acked_samples=len(FIRST),
        lost_samples=lost, tasks_created=nodes.tasks, tasks_expected=2,
    )  # fmt: skip
    assert (lost, nodes.tasks) == (0, 2)


@pytest.mark.row(30)
async def test_in_a_shared_folder_the_part_of_a_node_that_wakes_late_spoils_no_recording(
    tmp_path: Path, redis: RedisServer, ledger: Ledger
) -> None:
    folder = tmp_path / "recordings"
    nodes = Nodes(tmp_path, redis, EARSHOT_RESUME_WINDOW_S="3", EARSHOT_RECORDINGS_FOLDER=str(folder))
    try:
        with patch("protocol.client.CONNECT_TIMEOUT_S", 0.5):
            async with nodes.client("a", "b") as client:
                heard = Listening(client)
                await client.send_audio(FIRST)
                await heard.acked(len(FIRST) // 2)
                client._socket.transport.abort()  # type: ignore[union-attr] # the window begins ...
                nodes["a"].signal(signal.SIGSTOP)
                await client.send_audio(SECOND)
                await heard.acked(len(FIRST + SECOND) // 2)
                await hang_up(client, heard)
                await asyncio.sleep(3)  # ... and is over: the node hangs up, seals, and asks whether it may
                nodes["a"].signal(signal.SIGCONT)
                await nodes.logged("a", "part_given_up")
        for name in ("a", "b"):
            assert await nodes.recording(name, client.call_id) == FIRST + SECOND
        assert [path.name for path in folder.iterdir()] == [f"{client.call_id}.wav"]
        nodes.enter(ledger, 30, "a node frozen past the window, one folder for recordings", FIRST + SECOND)
    finally:
        nodes.end()
