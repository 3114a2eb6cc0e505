"""Several processes take a server's calls: spread over them, each with its own, and no call lost with its process."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from protocol.client import CallClient, CallRefused
from protocol.messages import Ack, Ended, GoingAway, QcResult, Segment, Start, Transcript
from protocol.watch_client import WatchClient
from protocol.watching import CallInBrief
from tests.client import Account, account
from tests.earshot_process import HUMMED, EarshotProcess
from tests.integration.hummed import RATE_HZ, eventually, humming
from tests.integration.test_restart import Listening, free_ports, judged, recorded
from tests.integration.test_tls import certify, needs_openssl
from tests.redis_server import RedisServer

START = Start(rate=RATE_HZ, channels=1, language="en")
BEFORE = humming((0, 400), (130, 1500), (0, 1500))
AFTER = humming((100, 1000), (0, 1200))
MOST_TRIES = 64
"""Connections that the kernel may give to one of two processes in a row: once in 10^19 times."""


@dataclass
class Server:
    """A data folder and two addresses, and the process that serves them at the moment."""

    data: Path
    environment: dict[str, str] = field(default_factory=dict)
    addresses: tuple[str, str] = field(default_factory=free_ports)
    process: EarshotProcess | None = None

    def start(self, workers: int = 2, *, replace: bool = False, **environment: str) -> None:
        settings = {
            "EARSHOT_APPS": "demo:secret,other:secret2",
            "EARSHOT_QC_POLL_S": "0.05",
            "EARSHOT_MAX_LOOP_LAG_MS": "0",
            "EARSHOT_DISK_LOW_MB": "0",
            "EARSHOT_AUDIO_TIMEOUT_S": "300",  # those who wait for another's process say nothing meanwhile
            "EARSHOT_WORKERS": str(workers),
            **self.environment,
            **environment,
        }
        http, ws = self.addresses
        self.process = EarshotProcess(self.data, settings, module=HUMMED, http=http, ws=ws, replace=replace)
        self.process.wait_until_listening()

    @property
    def running(self) -> EarshotProcess:
        assert self.process is not None
        return self.process

    def client(self, app_id: str = "demo", secret: str = "secret", **options: Any) -> CallClient:
        return CallClient(self.running.ws, START, app_id=app_id, secret=secret, **options)

    def account(self) -> Any:
        return account(self.running.http, self.running.ws, "demo", "secret")

    @property
    def log(self) -> str:
        """Without colours."""
        return re.sub("\x1b\\[[0-9;]*m", "", self.running.log)

    def pids(self) -> dict[int, int]:
        """The processes that take calls, by their number."""
        told = re.findall(r"worker_takes_calls +pid=(\d+) worker=(\d+)", self.log)
        return {int(worker): int(pid) for pid, worker in told}

    def holder(self, call_id: str) -> int:
        """The worker whose journal has the call."""
        for worker, folder in ((1, self.data), (2, self.data / "workers" / "2"), (3, self.data / "workers" / "3")):
            for segment in folder.glob("journal/*/*.log"):
                with suppress(FileNotFoundError):
                    if call_id.encode() in segment.read_bytes():
                        return worker
        raise AssertionError(f"call {call_id} is in no journal")

    async def ready(self, app: Account) -> None:
        async def is_ready() -> bool:
            return (await app.get("/readyz"))[0] == 200

        await eventually(is_ready)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    one = Server(tmp_path / "data")
    yield one
    if one.process is not None:
        one.process.kill()


@dataclass
class OnBoth:
    """Calls that go on, some at either worker."""

    clients: dict[str, CallClient] = field(default_factory=dict)
    heard: dict[str, Listening] = field(default_factory=dict)
    worker: dict[str, int] = field(default_factory=dict)

    def of(self, worker: int) -> list[str]:
        return [call_id for call_id, holder in self.worker.items() if holder == worker]

    async def say(self, pcm: bytes, acked_samples: int) -> None:
        """Say it in every call, and wait until it is safe."""
        for client in self.clients.values():
            await client.send_audio(pcm)
        for heard in self.heard.values():
            await heard.until(Ack, lambda ack: ack.samples == acked_samples)

    async def end(self, app: Account, pcm: bytes) -> None:
        """Hang up: every call has a verdict and all of its audio."""
        for client in self.clients.values():
            await client.hang_up()
        for call_id, heard in self.heard.items():
            await heard.until(Ended)
            await judged(app, call_id)
            assert await recorded(app, call_id) == pcm
            is_one_call(heard)


def is_one_call(heard: Listening) -> None:
    """Of what a client misses, acks and texts that gave way to later ones are not sent again; all else is."""
    numbered = [message.seq for message in heard.messages if message.seq]
    assert numbered == sorted(set(numbered)), "no number is used twice"
    opened = [one.segment_id for one in heard.of(Segment) if one.state == "opened"]
    closed = [one.segment_id for one in heard.of(Segment) if one.state == "closed"]
    assert opened == [f"s{number + 1}" for number in range(len(opened))]
    assert sorted(closed) == sorted(opened), "every utterance is closed once"
    final = {one.segment_id for one in heard.of(Transcript) if one.final}
    assert final == set(opened), "and has its text"


@asynccontextmanager
async def calls_on_both(server: Server, each: int = 2, **options: Any) -> AsyncIterator[OnBoth]:
    """At least `each` calls at either of two workers."""
    async with AsyncExitStack() as stack:
        calls = OnBoth()
        for _ in range(MOST_TRIES):
            client = await stack.enter_async_context(server.client(**options))
            heard = Listening(client)
            calls.clients[client.call_id], calls.heard[client.call_id] = client, heard
            calls.worker[client.call_id] = server.holder(client.call_id)
            if min(len(calls.of(1)), len(calls.of(2))) >= each:
                break
        assert calls.of(1)
        assert calls.of(2)
        yield calls


async def metric(app: Account, name: str) -> float:
    status, page = await app.get("/metrics")
    assert status == 200
    return float(next(line for line in page.decode().splitlines() if line.startswith(f"{name} ")).split()[1])


async def test_calls_spread_over_workers_and_each_ends_with_all_its_audio_and_a_verdict(server: Server) -> None:
    server.start()
    async with server.account() as app, calls_on_both(server) as calls:
        await calls.say(BEFORE + AFTER, len(BEFORE + AFTER) // 2)
        for call_id in calls.clients:  # as they go on, in whichever process
            status, told = await app.get(f"/v1/calls/{call_id}")
            assert status == 200
            assert b'"state":"live"' in told
            assert (await app.send("DELETE", f"/v1/calls/{call_id}"))[0] == 409
        await calls.end(app, BEFORE + AFTER)
        for heard in calls.heard.values():
            assert heard.of(QcResult)
        count = len(calls.clients)

        async def counted() -> bool:
            return await metric(app, "earshot_calls_total") == count and await metric(app, "earshot_calls_live") == 0

        await eventually(counted)
        for call_id in calls.clients:
            assert (await app.send("DELETE", f"/v1/calls/{call_id}"))[0] == 204
            assert (await app.get(f"/v1/calls/{call_id}"))[0] == 404
        # Nothing is left of them, in nobody's journal.
        left = [
            path
            for path in server.data.rglob("*.log")
            if any(one.encode() in path.read_bytes() for one in calls.clients)
        ]
        assert left == []


async def test_a_killed_worker_takes_only_its_own_calls_and_those_go_on(server: Server) -> None:
    server.start()
    async with server.account() as app, calls_on_both(server) as calls:
        await calls.say(BEFORE, len(BEFORE) // 2)
        sockets = {call_id: calls.clients[call_id]._socket for call_id in calls.of(1)}
        os.kill(server.pids()[2], signal.SIGKILL)
        await calls.say(AFTER, len(BEFORE + AFTER) // 2)
        assert {call_id: calls.clients[call_id]._socket for call_id in calls.of(1)} == sockets, "they saw nothing of it"
        await server.ready(app)
        assert server.running.log.count("worker_gone") == 1
        await calls.end(app, BEFORE + AFTER)
        # What the dead one had counted is not forgotten.
        assert await metric(app, "earshot_calls_total") >= len(calls.of(1))


async def test_a_worker_that_hangs_is_killed_and_its_calls_go_on_in_another(server: Server) -> None:
    server.start(HUMMED_HUNG_LOOKS="5")
    async with server.account() as app, calls_on_both(server, each=1) as calls:
        await calls.say(BEFORE, len(BEFORE) // 2)
        hung = server.pids()[2]
        os.kill(hung, signal.SIGSTOP)
        await calls.say(AFTER, len(BEFORE + AFTER) // 2)
        await server.ready(app)
        assert server.pids()[2] != hung
        assert re.findall(r"worker_hangs +pid=(\d+)", server.log) == [str(hung)]
        assert server.running.log.count("worker_gone") == 1, "the other one was well"
        await calls.end(app, BEFORE + AFTER)


@needs_openssl
async def test_a_call_is_resumed_through_whichever_worker_its_client_reaches(server: Server, tmp_path: Path) -> None:
    trust = certify(tmp_path, "both")
    server.environment |= {
        "EARSHOT_TLS_CERT": str(tmp_path / "cert.pem"),
        "EARSHOT_TLS_KEY": str(tmp_path / "key.pem"),
    }
    server.start()
    async with server.client(tls=trust) as client:
        heard = Listening(client)
        said = 0
        for _ in range(MOST_TRIES):
            await client.send_audio(AFTER)
            said += len(AFTER) // 2
            await heard.until(Ack, lambda ack, expected=said: ack.samples == expected)  # type: ignore[misc]
            passed_on = server.running.log.count("connection_passed_on")
            if passed_on >= 2:
                break
            assert client._socket is not None
            client._socket.transport.abort()
        assert passed_on >= 2
        await client.hang_up()
        assert (await heard.until(Ended)).reason == "hangup"
        is_one_call(heard)
        assert client.acked_samples == said
    second = certify(tmp_path, "second")
    server.running.signal(signal.SIGHUP)

    async def every_worker_has_it() -> bool:
        return all([await shows_to(second, server) for _ in range(8)])

    await eventually(every_worker_has_it)


async def shows_to(trust: ssl.SSLContext, server: Server) -> bool:
    """Whether whichever worker answers shows a certificate that `trust` trusts."""
    host, _, port = server.addresses[1].rpartition(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port), ssl=trust)
    except ssl.SSLCertVerificationError:
        return False
    writer.close()
    with suppress(ssl.SSLError, ConnectionError):
        await writer.wait_closed()
    return True


async def test_limits_hold_over_all_workers(server: Server) -> None:
    server.start(EARSHOT_MAX_CALLS="5", EARSHOT_MAX_CALLS_PER_APP="4")
    async with AsyncExitStack() as stack:

        async def opened(**options: str) -> CallClient | str:
            client = server.client(**options)
            try:
                return await stack.enter_async_context(client)
            except CallRefused as refusal:
                return refusal.code

        burst = await asyncio.gather(*(opened() for _ in range(12)))
        clients = [one for one in burst if isinstance(one, CallClient)]
        assert len(clients) == 4
        assert {one for one in burst if isinstance(one, str)} == {"too_many_calls"}
        others = await asyncio.gather(*(opened(app_id="other", secret="secret2") for _ in range(8)))
        assert len([one for one in others if isinstance(one, CallClient)]) == 1
        assert {one for one in others if isinstance(one, str)} == {"overloaded"}
        await clients[0].hang_up()
        async for _ in clients[0]:
            pass
        assert isinstance(await opened(), CallClient), "a call that is over takes no place"
        assert await opened(app_id="other", secret="secret2") == "overloaded"
        server.running.kill()
        await asyncio.to_thread(server.start, EARSHOT_MAX_CALLS="5", EARSHOT_MAX_CALLS_PER_APP="4")
        async with server.account() as app:

            async def all_are_taken_up() -> bool:
                return await metric(app, "earshot_calls_live") == 5

            await eventually(all_are_taken_up)
        refused = [await opened(app_id="other", secret="secret2") for _ in range(4)]
        assert refused == ["overloaded"] * 4, "those that were taken up have their places"


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 3), (2, 2)])
async def test_a_drained_server_leaves_its_calls_to_the_next_however_many_workers_that_has(
    server: Server, before: int, after: int
) -> None:
    server.start(before)
    async with AsyncExitStack() as stack:
        if before == 2:
            calls = await stack.enter_async_context(calls_on_both(server, each=1))
        else:
            client = await stack.enter_async_context(server.client())
            calls = OnBoth({client.call_id: client}, {client.call_id: Listening(client)}, {client.call_id: 1})
        await calls.say(BEFORE, len(BEFORE) // 2)
        assert await asyncio.to_thread(server.running.stop) == 0
        for heard in calls.heard.values():
            await heard.until(GoingAway)
        await asyncio.to_thread(server.start, after)
        await calls.say(AFTER, len(BEFORE + AFTER) // 2)
        async with server.account() as app:
            await calls.end(app, BEFORE + AFTER)
    assert "not_stopped_in_time" not in server.running.log
    if after == 1:
        assert list(server.data.glob("workers/*/journal/*")) == []


async def test_a_killed_server_takes_its_workers_along_and_its_successor_has_all_calls(server: Server) -> None:
    server.start()
    async with calls_on_both(server, each=1) as calls:
        await calls.say(BEFORE, len(BEFORE) // 2)
        server.running.kill()
        await asyncio.to_thread(server.start)
        await calls.say(AFTER, len(BEFORE + AFTER) // 2)
        async with server.account() as app:
            await calls.end(app, BEFORE + AFTER)


async def test_a_worker_that_cannot_start_is_named_until_it_can_and_the_others_take_calls(server: Server) -> None:
    server.data.mkdir(mode=0o700)
    (server.data / "workers").mkdir()
    (server.data / "workers" / "2").write_text("in the way")
    server.start()
    async with server.account() as app:
        status, told = await app.get("/readyz")
        assert status == 503
        assert b"ingest worker 2 is being restarted" in told
        async with server.client() as client:
            await client.hang_up()
            async for _ in client:
                pass
        (server.data / "workers" / "2").unlink()
        await server.ready(app)
    assert server.running.log.count("worker_gone") < 10, "it is not started again as fast as it fails"


async def test_a_successor_waits_for_the_last_worker_and_goes_on_with_all_calls(server: Server) -> None:
    server.start()
    first = server.running
    async with calls_on_both(server, each=1) as calls:
        await calls.say(BEFORE, len(BEFORE) // 2)
        server.start(replace=True)
        assert await asyncio.to_thread(first.process.wait, 30) == 0
        await calls.say(AFTER, len(BEFORE + AFTER) // 2)
        async with server.account() as app:
            await calls.end(app, BEFORE + AFTER)


async def test_a_watcher_at_any_worker_sees_the_calls_of_all(server: Server) -> None:
    server.start()
    async with calls_on_both(server, each=1) as calls:
        for _ in range(4):  # at whichever worker each watcher is
            async with WatchClient(server.running.ws, app_id="demo", secret="secret") as watcher:
                await watcher.watch()
                seen: set[str] = set()
                async with asyncio.timeout(60):
                    async for told in watcher:
                        if isinstance(told, CallInBrief):
                            seen.add(told.call_id)
                        if seen >= calls.clients.keys():
                            break


async def test_each_worker_is_a_node_of_a_cluster(server: Server, tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as redis:
        server.start(EARSHOT_REDIS_URL=redis.url, EARSHOT_CLUSTER_KEY="k" * 32, EARSHOT_NODE="one")
        async with server.account() as app, calls_on_both(server, each=1) as calls:
            await calls.say(BEFORE, len(BEFORE) // 2)
            os.kill(server.pids()[2], signal.SIGKILL)
            await calls.say(AFTER, len(BEFORE + AFTER) // 2)
            await calls.end(app, BEFORE + AFTER)
        log = server.running.log
        assert "one/1" in log
        assert "one/2" in log


async def test_a_port_that_somebody_has_is_not_shared_with_them(server: Server) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(server.addresses[1].rpartition(":")[2])))
        taken.listen()
        with pytest.raises(AssertionError, match="cannot listen on ws"):
            server.start()
