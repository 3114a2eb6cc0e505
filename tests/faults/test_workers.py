"""Workers of voice QC that are killed or frozen in the middle of recordings: each task ends once, and none is lost."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import aiohttp
import pytest

from gateway.stores.redis_connection import RedisConnection
from tests.faults.ledger import Ledger
from tests.faults.servers import APP_ID, FaultServer, Serve
from tests.faults.workers import ThirdParty, Worker
from tests.integration.hummed import eventually, humming
from tests.redis_server import RedisServer

Store = Literal["sqlite", "redis"]
LEASE_S = 1.0
RECORDING = humming((0, 400), (100, 1500), (0, 1500), (130, 1500), (0, 600))
"""Two pieces, hence a renewal between them."""
TEXT = "How can I help you? I want a refund."


@dataclass
class Shop:
    """A server that leaves the work to others, its workers, and a client of it."""

    server: FaultServer
    client: ThirdParty
    audio: Path
    worker_options: Callable[[], Worker]
    redis_url: str = ""
    workers: list[Worker] = field(default_factory=list)

    def hire(self) -> Worker:
        self.workers.append(self.worker_options())
        return self.workers[-1]

    def usage_ms(self) -> int:
        with closing(sqlite3.connect(self.server.data / "earshot.db")) as database:
            return int(database.execute("SELECT COALESCE(SUM(amount), 0) FROM usage").fetchone()[0])

    async def billed_ms(self) -> int:
        """All speech that was ever counted."""
        if not self.redis_url:
            return await asyncio.to_thread(self.usage_ms)
        connection = RedisConnection(self.redis_url)
        try:
            keys = await connection.command("KEYS", f"earshot:usage:{APP_ID}:*")
            return sum([int(await connection.command("HGET", key, "quality_ms")) for key in keys])
        finally:
            await connection.close()

    def database_is_locked(self) -> bool:
        with closing(sqlite3.connect(self.server.data / "earshot.db", timeout=0.05, isolation_level=None)) as database:
            try:
                database.execute("BEGIN IMMEDIATE")
                database.execute("ROLLBACK")
            except sqlite3.OperationalError:
                return True
            return False


@asynccontextmanager
async def shop(serve: Serve, tmp_path: Path, store: Store, mutant: str = "") -> AsyncIterator[Shop]:
    environment = {
        "HUMMED_LEASE_S": str(LEASE_S),
        "HUMMED_RECORDING_PAUSE_S": "0.1",
        "EARSHOT_QUALITY_WORKERS": "0",
    }
    with RedisServer(tmp_path / f"redis{mutant}") if store == "redis" else _NoRedis() as redis:
        if store == "redis":
            environment |= {
                "EARSHOT_REDIS_URL": redis.url,
                "EARSHOT_CLUSTER_KEY": "k" * 32,
                "EARSHOT_ACK": "local",
                "EARSHOT_QUALITY_FOLDER": str(tmp_path / "shared"),
            }
        server = await asyncio.to_thread(partial(serve, f"{store}{mutant}", environment=environment))
        data = tmp_path / "elsewhere" if store == "redis" else server.data
        audio = tmp_path / "shared" if store == "redis" else server.data / "quality"
        async with aiohttp.ClientSession() as http:
            client = ThirdParty(http, server.http)
            await client.log_in()
            one = Shop(server, client, audio, partial(Worker, data, environment, mutant=mutant), redis.url)
            try:
                yield one
            finally:
                for worker in one.workers:
                    worker.kill()


class _NoRedis:
    url = ""

    def __enter__(self) -> _NoRedis:
        return self

    def __exit__(self, *_: object) -> None: ...


async def at_work(one: Shop, sessions: list[str], done: set[str]) -> bool:
    """Whether any of the sessions is being worked on, or all are done; those that are, are entered in `done`."""
    working = False
    for session in sessions:
        if session not in done:
            state = (await one.client.look(session))["state"]
            assert state in (0, 1, 2), f"{session} failed"
            if state == 2:
                done.add(session)
            working |= state == 1
    return working or len(done) == len(sessions)


async def strike(one: Shop, fault: str, frozen: list[Worker], chance: random.Random) -> None:
    """Kill or freeze one of those that are at work, and hire another."""

    async def ready() -> list[Worker]:
        return [worker for worker in one.workers if worker not in frozen and worker.begun]

    struck = chance.choice(await eventually(ready))
    if fault == "kill":
        await asyncio.to_thread(struck.kill)
        one.workers.remove(struck)
    else:
        struck.freeze()
        while one.database_is_locked():  # frozen in the middle of a transaction it stops everybody: another fault
            struck.thaw()
            await asyncio.sleep(0.01)
            struck.freeze()
        frozen.append(struck)
    one.hire()


async def ill_treat(one: Shop, tasks: int, kills: int, freezes: int, seed: int) -> int:
    """Have `tasks` done while workers are killed and frozen at random; how much speech one of them holds, in ms."""
    chance = random.Random(seed)
    for _ in range(2):
        one.hire()
    await one.client.submit("reference", RECORDING)
    assert (await one.client.wait_for("reference"))["asr_text"] == TEXT
    speech_ms = await one.billed_ms()
    assert speech_ms > 0
    sessions = [f"session-{number}" for number in range(tasks)]
    await asyncio.gather(*(one.client.submit(session, RECORDING) for session in sessions))
    done: set[str] = set()
    frozen: list[Worker] = []
    faults = ["kill"] * kills + ["freeze"] * freezes
    chance.shuffle(faults)
    for fault in faults:
        await eventually(partial(at_work, one, sessions, done))
        await asyncio.sleep(chance.uniform(0, 0.3))  # wherever in a recording that is
        await strike(one, fault, frozen, chance)
    for session in sessions:
        assert (await one.client.wait_for(session))["asr_text"] == TEXT
    for worker in frozen:  # and now they wake up, and go on with what they hold to be theirs
        worker.thaw()
    for worker in frozen:
        assert await asyncio.to_thread(worker.stop) == 0, worker.log
    return speech_ms


@pytest.mark.row(24)
@pytest.mark.timeout(600)
@pytest.mark.parametrize("store", ["sqlite", "redis"])
async def test_tasks_outlive_their_workers_and_each_is_finished_and_billed_once(
    serve: Serve, ledger: Ledger, tries: Callable[[int, int], int], seed: int, tmp_path: Path, store: Store
) -> None:
    tasks, kills, freezes = tries(8, 100), tries(1, 20), tries(1, 4)
    async with shop(serve, tmp_path, store) as one:
        speech_ms = await ill_treat(one, tasks, kills, freezes, seed)
        billed = await one.billed_ms() / speech_ms - 1

        async def few_left() -> bool:
            # Deleted once the result is kept; a worker killed in between leaves that to the hourly sweep.
            return len([path for path in one.audio.iterdir() if not path.name.startswith(".")]) <= kills

        await eventually(few_left)
        ledger.add(
            row=24,
            fault=f"workers of voice QC killed ({kills}) and frozen ({freezes}), tasks in {store}",
            tried=kills + freezes,
            tasks_created=round(billed),
            tasks_expected=tasks,
        )
        assert billed == tasks


@pytest.mark.full
@pytest.mark.row(24)
@pytest.mark.timeout(600)
async def test_that_check_sees_a_queue_that_does_not_fence_claims(serve: Serve, seed: int, tmp_path: Path) -> None:
    async with shop(serve, tmp_path, "sqlite", "claims_not_fenced") as one:
        speech_ms = await ill_treat(one, tasks=30, kills=0, freezes=6, seed=seed)
        assert await one.billed_ms() / speech_ms - 1 > 30, "what a frozen worker held is ended and billed twice"


def attempts(server: FaultServer, session_id: str) -> int:
    with closing(sqlite3.connect(server.data / "earshot.db")) as database:
        query = "SELECT attempts FROM quality_tasks WHERE session_id = ?"
        return int(database.execute(query, (session_id,)).fetchone()[0])


@pytest.mark.row(24)
async def test_what_a_worker_or_a_server_leaves_is_taken_up_without_waiting_for_a_lease(
    serve: Serve, ledger: Ledger
) -> None:
    """A lease lasts half a minute here, which is longer than the patience of this test's client for a result."""
    slow = {"EARSHOT_QUALITY_WORKERS": "0", "HUMMED_RECORDING_PAUSE_S": "600"}
    quick = {"EARSHOT_QUALITY_WORKERS": "1", "HUMMED_RECORDING_PAUSE_S": "0"}
    server = await asyncio.to_thread(partial(serve, environment=slow))
    async with aiohttp.ClientSession() as http:
        client = ThirdParty(http, server.http)
        await client.log_in()
        await client.submit("s", RECORDING)
        worker = Worker(server.data, slow)
        try:
            await eventually(partial(at_work_on, client, "s"))
            assert await asyncio.to_thread(worker.stop) == 0, worker.log
        finally:
            worker.kill()
        assert (await client.look("s"))["state_desc"] == "任务已提交，排队等待中", "SIGTERM puts it back"
        assert attempts(server, "s") == 0
        assert list((server.data / "worker-spool").iterdir()) == []
        server = await asyncio.to_thread(partial(server.again, environment=slow | {"EARSHOT_QUALITY_WORKERS": "1"}))
        client = ThirdParty(http, server.http)
        await client.log_in()
        await eventually(partial(at_work_on, client, "s"))
        server = await asyncio.to_thread(partial(server.again, environment=quick))  # kill -9
        client = ThirdParty(http, server.http)
        await client.log_in()
        assert (await client.wait_for("s"))["asr_text"] == TEXT
        assert attempts(server, "s") == 2
    ledger.add(row=24, fault="a worker told to stop, a server killed, both in the middle of a recording", tried=2)


async def at_work_on(client: ThirdParty, session_id: str) -> bool:
    return bool((await client.look(session_id))["state_desc"] == "执行中")
