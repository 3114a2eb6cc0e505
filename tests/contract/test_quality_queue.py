"""What every queue of voice QC promises its workers, in SQLite and in a real Redis."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.ports import QualityJob, QualityPushes, QualityTasks, Unavailable
from gateway.stores.quality import LEASE_S, SCHEMA, SqliteQualityTasks
from gateway.stores.quality_pushes import SqliteQualityPushes
from gateway.stores.redis_connection import RedisConnection, RedisScript
from gateway.stores.redis_quality import RedisQualityTasks, queue_key, usage_key
from gateway.stores.redis_quality_pushes import RedisQualityPushes
from gateway.stores.sqlite import Database
from protocol.quality_result import TaskState
from tests.quality_world import FixedClock
from tests.redis_server import RedisServer

APP, OTHER = "shop", "rival"
DAY = "2023-11-14"
"""That of the clock."""


AGE = RedisScript("""
for _, one in ipairs(redis.call('XPENDING', KEYS[1], 'workers', '-', '+', 100)) do
  redis.call('XCLAIM', KEYS[1], 'workers', one[2], 0, one[1], 'IDLE', one[3] + ARGV[1], 'JUSTID')
end
""")


def highest(low: float, high: float) -> float:
    return high


@dataclass
class Queue:
    """One queue as two processes see it, `here` and `there`; `patient(0)` takes every claim for run out."""

    patient: Callable[[float], QualityTasks]
    pushes: QualityPushes
    pushes_there: QualityPushes
    billed_ms: Callable[[str], Awaitable[int]]
    clock: FixedClock
    age: Callable[[float], Awaitable[None]]
    """Have so many seconds pass since anybody was heard of."""
    redis: RedisServer | None = None
    here: QualityTasks = field(init=False)
    there: QualityTasks = field(init=False)

    def __post_init__(self) -> None:
        self.here, self.there = self.patient(LEASE_S), self.patient(LEASE_S)

    @property
    def impatient(self) -> QualityTasks:
        return self.patient(0)


@pytest.fixture(params=["sqlite", "redis"])
async def queue(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Queue]:
    clock = FixedClock()
    if request.param == "sqlite":
        databases = [Database(tmp_path / "earshot.db", [SCHEMA]) for _ in range(2)]
        turn = iter(range(1_000_000))

        async def counted(app_id: str) -> int:
            def read(db: sqlite3.Connection) -> int:
                row = db.execute("SELECT amount FROM usage WHERE app_id = ? AND day = ?", (app_id, DAY)).fetchone()
                return int(row["amount"]) if row else 0

            return await databases[0].run(read)

        async def later(seconds: float) -> None:
            clock.seconds += seconds

        yield Queue(
            lambda lease_s: SqliteQualityTasks(databases[next(turn) % 2], clock, lease_s=lease_s),
            SqliteQualityPushes(databases[0], clock, uniform=highest),
            SqliteQualityPushes(databases[1], clock, uniform=highest),
            counted,
            clock,
            later,
        )
        for database in databases:
            database.close()
        return
    with RedisServer(tmp_path / "redis") as server:
        connection = RedisConnection(server.url)

        async def added(app_id: str) -> int:
            return int(await connection.command("HGET", usage_key(app_id, DAY), "quality_ms") or 0)

        async def unheard_of(seconds: float) -> None:
            await connection.run(AGE, [queue_key("")], [round(seconds * 1000)])

        yield Queue(
            lambda lease_s: RedisQualityTasks(connection, clock, lease_s=lease_s),
            RedisQualityPushes(connection, clock, uniform=highest),
            RedisQualityPushes(connection, clock, uniform=highest),
            added,
            clock,
            unheard_of,
            server,
        )
        await connection.close()


def job(session_id: str, ticket: str = "", app_id: str = APP, callback_url: str = "") -> QualityJob:
    ticket = ticket or f"ticket of {session_id}"
    return QualityJob(ticket, app_id, session_id, f"audio of {ticket}", b"\0request\xff", 0, callback_url)


async def claimed(tasks: QualityTasks, worker: str = "w") -> QualityJob:
    found = await tasks.claim(worker)
    assert found is not None
    return found


async def state_of(queue: Queue, session_id: str = "s") -> int | None:
    found = await queue.there.find(APP, session_id)
    return None if found is None else found.state


async def test_a_job_comes_back_as_it_was_submitted_and_its_result_is_found_everywhere(queue: Queue) -> None:
    assert await queue.here.claim("w") is None
    assert await queue.here.submit(job("会话 1")) is None
    waiting = await queue.there.find(APP, "会话 1")
    assert waiting is not None
    assert (waiting.state, waiting.progress_percent, waiting.result, waiting.push) == (0, 0, None, "none")
    mine = await claimed(queue.there)
    assert (mine.app_id, mine.session_id, mine.request, mine.attempts) == (APP, "会话 1", b"\0request\xff", 1)
    assert mine.audio_name == "audio of ticket of 会话 1"
    assert await queue.there.advance(mine, 40)
    running = await queue.here.find(APP, "会话 1")
    assert running is not None
    assert (running.state, running.progress_percent) == (1, 40)
    assert await queue.there.finish(mine, TaskState.SUCCEEDED, "", b'{"state":2}')
    done = await queue.here.find(APP, "会话 1")
    assert done is not None
    assert (done.state, done.reason, done.progress_percent, done.result) == (2, "", 100, b'{"state":2}')
    assert await queue.here.claim("w") is None
    assert await queue.here.find(OTHER, "会话 1") is None
    assert await queue.here.find(APP, "nobody's") is None


async def test_jobs_are_claimed_in_the_order_they_came_each_by_one(queue: Queue) -> None:
    for number in range(6):
        await queue.here.submit(job(str(number)))
    got = [await claimed((queue.here, queue.there)[number % 2], f"w{number % 2}") for number in range(6)]
    assert [one.session_id for one in got] == list("012345")
    assert len({one.claim for one in got}) == 6
    assert await queue.there.claim("w") is None


async def test_many_claims_at_once_hand_out_each_job_once(queue: Queue) -> None:
    await asyncio.gather(*(queue.here.submit(job(str(number))) for number in range(20)))
    got = await asyncio.gather(*((queue.here, queue.there)[n % 2].claim(f"w{n}") for n in range(30)))
    assert Counter(one.session_id for one in got if one) == dict.fromkeys(map(str, range(20)), 1)


@pytest.mark.parametrize("sign", ["renew", "advance"])
async def test_a_job_whose_worker_is_heard_of_stays_that_worker_s(queue: Queue, sign: str) -> None:
    await queue.here.submit(job("s"))
    mine = await claimed(queue.here)
    await queue.age(0.6 * LEASE_S)
    assert await queue.there.claim("other") is None
    assert await (queue.here.renew(mine) if sign == "renew" else queue.here.advance(mine, 10))
    await queue.age(0.6 * LEASE_S)
    assert await queue.there.claim("other") is None
    await queue.age(0.6 * LEASE_S)
    assert (await claimed(queue.there, "other")).session_id == "s"
    assert not await queue.here.renew(mine)


async def test_a_job_whose_lease_ran_out_is_taken_over_and_the_first_worker_can_do_nothing_more(queue: Queue) -> None:
    await queue.here.submit(job("s", callback_url="https://desk.example/"))
    lost = await claimed(queue.here, "dead")
    await queue.here.submit(job("later"))
    taken = await claimed(queue.impatient, "alive")
    assert (taken.session_id, taken.attempts) == ("s", 2), "what was begun goes before what waits"
    assert not await queue.here.renew(lost)
    assert not await queue.here.advance(lost, 90)
    assert not await queue.here.finish(lost, 2, "", b"from the dead", billed_ms=5000)
    await queue.here.release(lost, counts=False)
    assert await queue.billed_ms(APP) == 0
    assert await queue.pushes.due(limit=9, but=()) == []
    running = await queue.here.find(APP, "s")
    assert running is not None
    assert (running.state, running.progress_percent) == (1, 0)
    assert await queue.there.finish(taken, 2, "", b"from the living", billed_ms=5000)
    assert not await queue.there.finish(taken, 2, "", b"twice", billed_ms=5000), "finishing happens once"
    assert await queue.billed_ms(APP) == 5000
    done = await queue.here.find(APP, "s")
    assert done is not None
    assert done.result == b"from the living"
    assert [push.session_id for push in await queue.pushes.due(limit=9, but=())] == ["s"]


async def test_a_job_put_back_goes_before_those_that_came_later(queue: Queue) -> None:
    for name in ("first", "second"):
        await queue.here.submit(job(name))
    mine = await claimed(queue.here)
    await queue.here.release(mine, counts=False)
    assert await state_of(queue, "first") == 0
    assert not await queue.here.advance(mine, 10)
    again = await claimed(queue.there, "other")
    assert (again.session_id, again.attempts) == ("first", 1)
    await queue.there.release(again, counts=True)
    assert (await claimed(queue.here)).attempts == 2


async def test_a_worker_that_comes_back_under_its_name_finds_what_it_left(queue: Queue) -> None:
    for name in ("mine", "another's", "waiting"):
        await queue.here.submit(job(name))
    before = await claimed(queue.here, "server")
    others = await claimed(queue.there, "worker")
    assert await queue.here.put_back("server") == 1
    assert await queue.here.put_back("server") == 0
    assert not await queue.here.finish(before, 2, "", b"from before")
    again = await claimed(queue.here, "server")
    assert (again.session_id, again.attempts) == ("mine", 2)
    assert await queue.there.renew(others), "another's claim is not touched"


@pytest.mark.parametrize("when", ["waiting", "running", "done"])
async def test_a_session_submitted_again_replaces_the_job_whatever_became_of_it(queue: Queue, when: str) -> None:
    await queue.here.submit(job("s", "old", callback_url="https://desk.example/old"))
    old = await claimed(queue.here) if when != "waiting" else None
    if when == "done":
        assert old is not None
        await queue.here.finish(old, 2, "", b"old", billed_ms=1000)
    assert await queue.there.submit(job("s", "new")) == "audio of old"
    if when == "running":
        assert old is not None
        assert not await queue.here.renew(old)
        assert not await queue.here.advance(old, 50)
        assert not await queue.here.finish(old, 2, "", b"old", billed_ms=1000)
    assert await state_of(queue) == 0
    assert await queue.here.audio_in_use() == {"audio of new"}
    new = await claimed(queue.impatient)
    assert (new.ticket, new.attempts) == ("new", 1)
    assert await queue.there.claim("other") is None
    assert await queue.there.finish(new, 2, "", b"new", billed_ms=10)
    assert await queue.billed_ms(APP) == 10 + 1000 * (when == "done"), "what nobody got is not billed"
    assert await queue.pushes.due(limit=9, but=()) == [], "the new submission asked for no push"
    assert await queue.here.audio_in_use() == frozenset()


@pytest.mark.row(25)
async def test_twenty_submissions_of_one_session_at_once_leave_one_job(queue: Queue) -> None:
    submitted = [job("s", str(number)) for number in range(20)]
    replaced = await asyncio.gather(*((queue.here, queue.there)[n % 2].submit(one) for n, one in enumerate(submitted)))
    in_use = await queue.here.audio_in_use()
    assert len(in_use) == 1
    assert {name for name in replaced if name} | in_use == {one.audio_name for one in submitted}
    assert await queue.here.claim("w") is not None
    assert await queue.there.claim("w") is None


async def test_speech_is_billed_to_its_app_by_day_and_only_with_the_result(queue: Queue) -> None:
    for app_id in (APP, APP, OTHER):
        await queue.here.submit(job("s", f"{app_id}", app_id))
        assert await queue.here.finish(await claimed(queue.here), 2, "", b"{}", billed_ms=1500)
    await queue.here.submit(job("failed"))
    assert await queue.here.finish(await claimed(queue.here), 3, "no audio", None)
    assert (await queue.billed_ms(APP), await queue.billed_ms(OTHER)) == (3000, 1500)
    failed = await queue.here.find(APP, "failed")
    assert failed is not None
    assert (failed.state, failed.reason, failed.result) == (3, "no audio", None)


# --- pushes --------------------------------------------------------------------------------------------------------


async def finished_with_push(queue: Queue, session_id: str = "s") -> str:
    one = job(session_id, callback_url=f"https://desk.example/{session_id}")
    await queue.here.submit(one)
    assert await queue.pushes.due(limit=9, but=()) == []
    await queue.here.finish(await claimed(queue.here), 2, "", b"{}")
    return one.ticket


async def push_of(queue: Queue, session_id: str = "s") -> str:
    found = await queue.there.find(APP, session_id)
    assert found is not None
    return found.push


async def test_a_result_is_due_to_be_pushed_until_it_was(queue: Queue) -> None:
    ticket = await finished_with_push(queue)
    assert await push_of(queue) == "waiting"
    (push,) = await queue.pushes.due(limit=9, but=())
    assert (push.ticket, push.app_id, push.session_id, push.failures) == (ticket, APP, "s", 0)
    assert push.url == "https://desk.example/s"
    assert await queue.pushes.due(limit=9, but=(ticket,)) == []
    assert await queue.pushes.next_at(but=(ticket,)) is None
    await queue.pushes.delivered(ticket)
    assert await push_of(queue) == "delivered"
    assert await queue.pushes.next_at(but=()) is None


async def test_a_failed_push_is_due_again_later_and_a_refused_one_never(queue: Queue) -> None:
    ticket = await finished_with_push(queue)
    waits = []
    for _ in range(3):
        await queue.pushes.due(limit=9, but=())
        assert await queue.pushes.failed(ticket, "HTTP 503", retryable=True)
        next_at = await queue.pushes_there.next_at(but=())
        assert next_at is not None
        waits.append(round(next_at - queue.clock.seconds))
        assert await queue.pushes_there.due(limit=9, but=()) == []
        queue.clock.seconds = next_at + 0.01
    assert waits == [1, 2, 4]
    assert [push.failures for push in await queue.pushes.due(limit=9, but=())] == [3]
    assert not await queue.pushes.failed(ticket, "HTTP 410", retryable=False)
    assert await push_of(queue) == "dead"
    assert await queue.pushes.next_at(but=()) is None


async def test_a_push_that_fails_for_a_day_is_given_up(queue: Queue) -> None:
    ticket = await finished_with_push(queue)
    assert await queue.pushes.failed(ticket, "HTTP 503", retryable=True)
    queue.clock.seconds += 24 * 3600 + 1
    assert not await queue.pushes.failed(ticket, "HTTP 503", retryable=True)
    assert await push_of(queue) == "dead"


async def test_nobody_is_pushed_a_result_whose_session_was_submitted_anew(queue: Queue) -> None:
    ticket = await finished_with_push(queue)
    await queue.here.submit(job("s", "new"))
    assert await queue.pushes.due(limit=9, but=()) == []
    assert not await queue.pushes.failed(ticket, "HTTP 503", retryable=True)
    await queue.pushes.delivered(ticket)
    assert await push_of(queue) == "none"


# --- where the two differ ------------------------------------------------------------------------------------------


async def test_a_node_does_not_begin_a_push_that_another_has_begun(queue: Queue) -> None:
    """With SQLite there is one server."""
    if queue.redis is None:
        pytest.skip("one server owns a data folder")
    await finished_with_push(queue)
    assert len(await queue.pushes.due(limit=9, but=())) == 1
    assert await queue.pushes_there.due(limit=9, but=()) == []
    queue.clock.seconds += 61
    assert len(await queue.pushes_there.due(limit=9, but=())) == 1, "the node that had begun it is gone"


async def test_a_clock_set_back_does_not_keep_a_dead_worker_s_job(queue: Queue) -> None:
    if queue.redis is not None:
        pytest.skip("leases go by the clock of Redis")
    await queue.here.submit(job("s"))
    await claimed(queue.here, "dead")
    queue.clock.seconds -= 400
    assert (await claimed(queue.there, "alive")).attempts == 2


async def test_a_redis_that_restarts_has_its_jobs_claims_and_results(queue: Queue) -> None:
    if queue.redis is None:
        pytest.skip("SQLite is no server")
    await queue.here.submit(job("done"))
    await queue.here.finish(await claimed(queue.here), 2, "", b"{}", billed_ms=700)
    for name in ("running", "waiting"):
        await queue.here.submit(job(name))
    running = await claimed(queue.here)
    queue.redis.kill()
    with pytest.raises(Unavailable):
        await queue.here.claim("w")
    queue.redis.start()
    assert [await state_of(queue, name) for name in ("done", "running", "waiting")] == [2, 1, 0]
    assert await queue.here.renew(running), "its worker goes on as if nothing had been"
    assert (await claimed(queue.there)).session_id == "waiting"
    assert await queue.here.finish(running, 2, "", b"{}", billed_ms=300)
    assert await queue.billed_ms(APP) == 1000


async def test_a_flushed_redis_knows_no_task_and_takes_new_ones(queue: Queue) -> None:
    if queue.redis is None:
        pytest.skip("SQLite is no server")
    await queue.here.submit(job("s", callback_url="https://desk.example/"))
    mine = await claimed(queue.here)
    queue.redis.ask("FLUSHALL")
    assert not await queue.here.renew(mine)
    assert not await queue.here.finish(mine, 2, "", b"{}", billed_ms=1)
    await queue.here.release(mine, counts=False)
    assert await queue.here.claim("w") is None
    assert await queue.here.put_back("w") == 0
    assert await state_of(queue) is None
    assert await queue.pushes.due(limit=9, but=()) == []
    await queue.here.submit(job("s"))
    assert await queue.here.finish(await claimed(queue.there), 2, "", b"{}")
    assert await state_of(queue) == 2


async def test_a_task_that_is_forgotten_is_gone_wherever_it_stood(queue: Queue) -> None:
    for session_id in ("waits", "runs", "done"):
        await queue.here.submit(job(session_id, callback_url="http://shop.example/"))
    await queue.here.forget(APP, "waits")
    running = await claimed(queue.here)
    done = await claimed(queue.here)
    assert [running.session_id, done.session_id] == ["runs", "done"]
    assert await queue.here.finish(done, 2, "", b"{}")
    assert await queue.there.forget(APP, "runs") == running.audio_name
    assert await queue.there.forget(APP, "done") == done.audio_name
    assert await queue.there.forget(APP, "done") is None
    assert not await queue.here.finish(running, 2, "", b"{}")
    assert [await state_of(queue, one) for one in ("waits", "runs", "done")] == [None, None, None]
    assert await queue.here.audio_in_use() == frozenset()
    assert not await queue.pushes.due(limit=9, but=())
    assert await queue.there.claim("w") is None


async def test_forgetting_a_task_of_another_app_changes_nothing(queue: Queue) -> None:
    await queue.here.submit(job("s"))
    assert await queue.there.forget(OTHER, "s") is None
    assert await state_of(queue) == 0


async def test_the_sweep_takes_what_was_finished_long_ago_and_owed_to_nobody(queue: Queue) -> None:
    for session_id in ("old", "owed", "to be pushed", "new"):
        await queue.here.submit(job(session_id, callback_url="http://shop.example/" if "pushed" in session_id else ""))
        if session_id == "new":
            queue.clock.seconds += 1000
        assert await queue.here.finish(await claimed(queue.here), 2, "", b"{}")
    await queue.here.submit(job("waits"))
    assert await queue.there.sweep_before(queue.clock.wall() - 500, but=["owed"]) == 1
    assert [await state_of(queue, one) for one in ("old", "owed", "to be pushed", "new", "waits")] == [None, 2, 2, 2, 0]
    assert await queue.there.sweep_before(queue.clock.wall() - 500, but=()) == 1
    assert await state_of(queue, "owed") is None
