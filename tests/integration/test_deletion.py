"""Deletion for good: by hand, and of what has been kept long enough. Afterwards no file holds what was said."""

import asyncio
import datetime as dt
import os
import sqlite3
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.app import EarshotServer
from gateway.assembly.upkeep import keep_retention
from gateway.ports import CallRecord, QualityAnswer, QualityTask, StoredCategory
from gateway.stores.calls import CallRecords
from gateway.stores.erasure import Eraser, Kept
from gateway.stores.recordings import Recordings
from gateway.stores.redis_connection import RedisConnection
from protocol.client import CallClient
from protocol.messages import Ended, Start
from tests.client import Account, play, until
from tests.integration.hummed import DIALOGUE, RATE_HZ, client_of, eventually, serving
from tests.integration.test_http_side import wav_of
from tests.redis_server import RedisServer

APPS = "demo:secret,other:hidden"
START = Start(rate=RATE_HZ, channels=1, language="en", metadata={"desk": "the-desk-of-the-deleted-call"})
SAID = (b"How can I help you", b"I want a refund", b"the-desk-of-the-deleted-call", DIALOGUE[8000:9000])
"""What the call holds: live text, the verdict's text, what its client told of it, and its sound."""
DAY_S = 86_400


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EarshotServer]:
    async with serving(tmp_path / "data", apps=APPS, qc_poll_s=0.05) as one:
        yield one


@pytest.fixture
async def app(server: EarshotServer) -> AsyncIterator[Account]:
    async with client_of(server) as one:
        yield one


def files_holding(data: Path, *said: bytes) -> set[str]:
    return {
        str(path.relative_to(data))
        for path in data.rglob("*")
        if path.is_file() and any(one in path.read_bytes() for one in said)
    }


async def call(app: Account, **options: Any) -> str:
    return (await play(app, START, DIALOGUE, speed=0, **options)).call_id


async def deleted(app: Account, path: str) -> tuple[int, str]:
    status, body = await app.send("DELETE", path)
    return status, msgspec.json.decode(body)["code"] if body else ""


async def judged(app: Account, session_id: str, recording: Path) -> None:
    await asyncio.to_thread(recording.write_bytes, wav_of(DIALOGUE))
    await app.quality.create(QualityTask(session_id, app.app_id, recording, RATE_HZ, 1, "en", ()))

    async def done() -> QualityAnswer | None:
        found = await app.quality.result(app.app_id, session_id)
        return found if found.done else None

    assert await eventually(done)


# --- by hand -----------------------------------------------------------------------------------------------------


async def test_of_a_deleted_call_no_file_holds_anything(server: EarshotServer, app: Account) -> None:
    data = server.settings.data_path
    call_id, kept = await call(app), await call(app)
    assert len(files_holding(data, *SAID)) >= 3, "the database, the recording and the journal"
    for one in (call_id, kept):
        assert await deleted(app, f"/v1/calls/{one}") == (204, "")
        if one == call_id:
            assert (await app.get(f"/v1/calls/{kept}"))[0] == 200
    assert files_holding(data, *SAID) == set()
    for path in ("", "/recording", "/report"):
        assert (await app.get(f"/v1/calls/{call_id}{path}"))[0] == 404
    assert await deleted(app, f"/v1/calls/{call_id}") == (404, "unknown_call")
    rows = await server._database.run(lambda db: [tuple(row)[1:] for row in db.execute("SELECT * FROM erasures")])
    assert rows == [("demo", "call", call_id, "request"), ("demo", "call", kept, "request")]
    assert server.metrics.registry.get_sample_value("earshot_erased_total", {"what": "call"}) == 2


async def test_a_call_that_runs_cannot_be_deleted_and_a_foreign_one_is_absent(
    server: EarshotServer, app: Account
) -> None:
    async with client_of(server, "other", "hidden") as stranger:
        async with CallClient(app.ws, START, app_id=app.app_id, secret=app.secret) as client:
            await client.send_audio(DIALOGUE)
            assert await deleted(app, f"/v1/calls/{client.call_id}") == (409, "call_runs")
            assert await deleted(stranger, f"/v1/calls/{client.call_id}") == (404, "unknown_call")
            await client.hang_up()
            await until(client, Ended)
        assert await deleted(stranger, f"/v1/calls/{client.call_id}") == (404, "unknown_call")
        assert (await app.get(f"/v1/calls/{client.call_id}"))[0] == 200
        assert await deleted(app, f"/v1/calls/{client.call_id}") == (204, "")


async def test_a_call_that_another_node_still_has_cannot_be_deleted(server: EarshotServer, app: Account) -> None:
    store = CallRecords(server._database)
    await store.save(CallRecord("elsewhere", "demo", "live", 0, None, {}))
    assert await deleted(app, "/v1/calls/elsewhere") == (409, "call_runs")


async def test_a_call_deleted_before_its_verdict_gets_none(tmp_path: Path) -> None:
    nowhere = {"quality_url": "http://127.0.0.1:9", "quality_app": "demo:secret"}
    async with serving(tmp_path / "data", apps=APPS, **nowhere) as server, client_of(server) as app:
        call_id = await call(app, wait_qc_ms=0)
        assert await deleted(app, f"/v1/calls/{call_id}") == (204, "")
        assert list(await server._outbox.list()) == []
        await server.calls.note_verdict("demo", call_id, QualityAnswer(2, "", {"detection_result": []}))
        assert (await app.get(f"/v1/calls/{call_id}"))[0] == 404
        assert files_holding(server.settings.data_path, *SAID) == set()


async def test_a_task_of_other_origin_is_deleted_with_its_result(
    server: EarshotServer, app: Account, tmp_path: Path
) -> None:
    data = server.settings.data_path
    await judged(app, "a/session of 2026", tmp_path / "one.wav")
    assert files_holding(data, *SAID)
    async with client_of(server, "other", "hidden") as stranger:
        assert await deleted(stranger, "/v1/quality/a%2Fsession%20of%202026") == (404, "unknown_task")
    assert await deleted(app, "/v1/quality/a%2Fsession%20of%202026") == (204, "")
    assert await deleted(app, "/v1/quality/a%2Fsession%20of%202026") == (404, "unknown_task")
    assert files_holding(data, *SAID) == set()


async def test_the_task_of_a_call_is_deleted_with_its_call_only(server: EarshotServer, app: Account) -> None:
    call_id = await call(app)
    assert await deleted(app, f"/v1/quality/{call_id}") == (409, "task_of_a_call")
    async with client_of(server, "other", "hidden") as stranger:
        assert await deleted(stranger, f"/v1/quality/{call_id}") == (404, "unknown_task")


async def test_deleting_wants_credentials(app: Account) -> None:
    for path in ("/v1/calls/some", "/v1/quality/some"):
        async with app.session.delete(app.http + path) as response:
            assert response.status == 401


async def test_a_disk_that_does_not_delete_is_owned_up_to_and_the_call_can_be_deleted_again(
    server: EarshotServer, app: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    call_id = await call(app)
    with monkeypatch.context() as broken:

        def fail(self: Recordings, call_id: str) -> bool:
            raise OSError(5, "Input/output error")

        broken.setattr(Recordings, "delete", fail)
        assert await deleted(app, f"/v1/calls/{call_id}") == (503, "unavailable")
    assert (await app.get(f"/v1/calls/{call_id}"))[0] == 200
    assert await deleted(app, f"/v1/calls/{call_id}") == (204, "")
    assert files_holding(server.settings.data_path, *SAID) == set()


async def redis_holds(redis: RedisServer, *said: bytes) -> set[bytes]:
    connection = RedisConnection(redis.url)
    readers = {b"hash": ("HGETALL",), b"string": ("GET",), b"stream": ("XRANGE",)}
    holding = set()
    for key in await connection.command("KEYS", "*"):
        words = readers.get(await connection.command("TYPE", key))
        if words is not None:
            value = repr(await connection.command(*words, key, *(("-", "+") if words == ("XRANGE",) else ())))
            holding |= {key for one in said if repr(one)[2:-1] in value}
    await connection.close()
    return holding


async def test_of_a_call_deleted_in_a_cluster_neither_files_nor_redis_hold_what_was_said(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as redis:
        cluster = {"redis_url": redis.url, "cluster_key": "k" * 32, "apps": APPS, "qc_poll_s": 0.05}
        async with serving(tmp_path / "data", **cluster) as server, client_of(server) as app:
            call_id = await call(app)
            assert await redis_holds(redis, b"I want a refund")
            assert await deleted(app, f"/v1/calls/{call_id}") == (204, "")
            assert files_holding(server.settings.data_path, *SAID) == set()
            assert await redis_holds(redis, *SAID[:2]) == set()


# --- by age ------------------------------------------------------------------------------------------------------


def eraser_of(server: EarshotServer, later_s: float = 0) -> Eraser:
    """The server's, at a later time."""

    class Later:
        def monotonic(self) -> float:
            return time.monotonic()

        def wall(self) -> float:
            return time.time() + later_s

    return Eraser(server.eraser._shelves, Later(), server.eraser._note)


async def test_by_default_only_rows_of_the_outbox_are_ever_swept(
    server: EarshotServer, app: Account, tmp_path: Path
) -> None:
    call_id = await call(app)

    async def home() -> bool:
        return not await server._outbox.owed()

    await eventually(home)
    assert await eraser_of(server, 6 * DAY_S).sweep(Kept(0, 0)) == {}
    assert await eraser_of(server, 10_000 * DAY_S).sweep(Kept(0, 0)) == {"outbox_row": 1}
    assert (await app.get(f"/v1/calls/{call_id}/recording"))[0] == 200


async def test_recordings_go_before_results_if_so_wanted(server: EarshotServer, app: Account, tmp_path: Path) -> None:
    data = server.settings.data_path
    await judged(app, "session", tmp_path / "one.wav")
    old = await call(app)
    kept = Kept(recordings_days=1, results_days=3)
    assert await eraser_of(server, 0.9 * DAY_S).sweep(kept) == {}
    assert await eraser_of(server, 1.1 * DAY_S).sweep(kept) == {"recording": 1}
    status, told = await app.get(f"/v1/calls/{old}")
    assert (status, b"refund" in told) == (200, True)
    assert (await app.get(f"/v1/calls/{old}/recording"))[0] == 404
    assert files_holding(data, DIALOGUE[8000:9000]) == set()
    swept = await eraser_of(server, 3.1 * DAY_S).sweep(kept)
    # The call's own task went with it; the other was nobody's call.
    assert swept == {"call": 1, "quality_task": 1, "outbox_row": 1}
    assert (await app.get(f"/v1/calls/{old}"))[0] == 404
    assert files_holding(data, *SAID) == set()
    assert server.metrics.registry.get_sample_value("earshot_erased_total", {"what": "quality_task"}) == 1


async def test_calls_that_run_or_have_no_verdict_yet_are_never_swept(tmp_path: Path) -> None:
    nowhere = {"quality_url": "http://127.0.0.1:9", "quality_app": "demo:secret"}
    async with serving(tmp_path / "data", apps=APPS, **nowhere) as server, client_of(server) as app:
        waiting = await call(app, wait_qc_ms=0)
        async with CallClient(app.ws, START, app_id=app.app_id, secret=app.secret) as client:
            await client.send_audio(DIALOGUE)
            assert await eraser_of(server, 10_000 * DAY_S).sweep(Kept(1, 1)) == {}
            for call_id in (waiting, client.call_id):
                assert (await app.get(f"/v1/calls/{call_id}"))[0] == 200
            assert (await app.get(f"/v1/calls/{waiting}/recording"))[0] == 200
            await client.hang_up(wait_qc_ms=0)
            await until(client, Ended)


async def test_a_verdict_that_was_given_up_ends_the_wait_but_one_asked_for_again_does_not(tmp_path: Path) -> None:
    nowhere = {"quality_url": "http://127.0.0.1:9", "quality_app": "demo:secret"}
    async with serving(tmp_path / "data", apps=APPS, **nowhere) as server, client_of(server) as app:
        call_id = await call(app, wait_qc_ms=0)
        store = CallRecords(server._database)
        await server.calls.filed(call_id)
        record = await store.get("demo", call_id)
        assert record is not None
        await store.save(replace(record, state="failed"))
        assert await eraser_of(server, 2 * DAY_S).sweep(Kept(0, 1)) == {}
        await server._database.run(lambda db: db.execute("UPDATE outbox SET state = 'dead', delivered = 1"))
        assert await eraser_of(server, 2 * DAY_S).sweep(Kept(0, 1)) == {"call": 1}


async def test_a_recording_of_a_call_that_nobody_knows_goes_by_its_age(server: EarshotServer) -> None:
    folder = server.settings.data_path / "recordings"
    folder.mkdir(exist_ok=True)
    for name, age_days in (("old", 3), ("new", 1)):
        (folder / f"{name}.wav").write_bytes(wav_of(DIALOGUE))
        then = time.time() - age_days * DAY_S
        os.utime(folder / f"{name}.wav", (then, then))
    assert await eraser_of(server).sweep(Kept(2, 0)) == {"recording": 1}
    assert [path.name for path in folder.iterdir()] == ["new.wav"]


async def test_a_server_sweeps_at_its_start(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with serving(data, apps=APPS, qc_poll_s=0.05) as server, client_of(server) as app:
        call_id = await call(app)
    long_ago = round((dt.datetime.now(dt.UTC).timestamp() - 40 * DAY_S) * 1000)
    with sqlite3.connect(data / "earshot.db") as database:
        database.execute("UPDATE calls SET began_at_ms = ?, ended_at_ms = ?", (long_ago, long_ago))
    database.close()
    async with serving(data, apps=APPS, retain_results_days=30) as server, client_of(server) as app:

        async def gone() -> bool:
            return (await app.get(f"/v1/calls/{call_id}"))[0] == 404

        await eventually(gone)


async def test_a_sweep_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.assembly.upkeep.SWEEP_EVERY_S", 0)
    tries = 0
    swept = asyncio.Event()

    class Failing:
        async def sweep(self, kept: Kept) -> None:
            nonlocal tries
            tries += 1
            if tries == 1:
                raise OSError("the disk fails")
            swept.set()

    task = asyncio.create_task(keep_retention(Failing(), Kept(0, 0)))  # type: ignore[arg-type]
    async with asyncio.timeout(10):
        await swept.wait()
    task.cancel()


async def test_rules_of_a_deleted_call_still_count_in_their_record(server: EarshotServer, app: Account) -> None:
    await app.quality.add_rule("demo", StoredCategory("Money back", "", ("refund",)))
    call_id = await call(app)
    assert await deleted(app, f"/v1/calls/{call_id}") == (204, "")
    _, body = await app.get("/v1/rules/record")
    (rule,) = msgspec.json.decode(body)["rules"]
    assert (rule["calls"], rule["confirmed"]) == (1, 1)
