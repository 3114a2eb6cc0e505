import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from gateway.ports import QualityAnswer, QualityTask, Rejected, Unavailable
from gateway.stores.dispatch import Dispatcher
from gateway.stores.outbox import SCHEMA, Outbox, OutboxRow
from gateway.stores.sqlite import Database
from tests.unit.stores.clock import FakeClock
from tests.unit.stores.fake_quality import FakeQuality, answer

HOUR_S = 3600
DATA = Path("/data")
OLD_SCHEMA = """
CREATE TABLE outbox (
    session_id TEXT PRIMARY KEY, app_id TEXT NOT NULL, call_id TEXT NOT NULL, task BLOB NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending', delivered INTEGER NOT NULL DEFAULT 0, next_at REAL NOT NULL,
    created_at REAL NOT NULL, submitted_at REAL, attempts INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0, failing_since REAL, retry_after_s REAL,
    last_error TEXT NOT NULL DEFAULT '', answer BLOB
) WITHOUT ROWID;
CREATE INDEX outbox_due ON outbox (next_at) WHERE delivered = 0;
"""


def task(session_id: str, app_id: str = "ours") -> QualityTask:
    return QualityTask(session_id, app_id, DATA / "recordings" / "c.wav", 8000, 2, "zh", ("催收",))


class Bench:
    """An outbox, a dispatcher and a QC service under one clock."""

    def __init__(self, database: Database) -> None:
        self.clock = FakeClock()
        self.quality = FakeQuality()
        self.applied: list[tuple[str, str, QualityAnswer]] = []
        self.dead: list[tuple[str, str, str]] = []
        self.home_faults: list[Exception] = []
        self.outbox = Outbox(database, self.clock, data_dir=DATA, uniform=Random(1).uniform)
        self.dispatcher = self.new_dispatcher()

    def new_dispatcher(self, request_timeout_s: float = 120.0) -> Dispatcher:
        return Dispatcher(
            self.outbox,
            self.quality,
            self.clock,
            on_status=self.on_status,
            on_dead=self.on_dead,
            request_timeout_s=request_timeout_s,
            uniform=Random(2).uniform,
        )

    async def on_status(self, app_id: str, session_id: str, answer: QualityAnswer) -> None:
        if self.home_faults:
            raise self.home_faults.pop()
        self.applied.append((app_id, session_id, answer))

    async def on_dead(self, app_id: str, session_id: str, error: str) -> None:
        self.dead.append((app_id, session_id, error))

    async def run_until(self, at: float) -> None:
        """Let time pass until `at`, from one due moment to the next."""
        while True:
            await self.dispatcher.run_due()
            next_at = await self.dispatcher.next_at()
            if next_at is None or next_at > at:
                self.clock.now = at
                return
            self.clock.now = max(self.clock.now, next_at)

    async def run_for(self, seconds: float) -> None:
        await self.run_until(self.clock.now + seconds)

    async def row(self, session_id: str) -> OutboxRow:
        row = await self.outbox.get("ours", session_id)
        assert row is not None
        return row

    def verdicts(self) -> Counter[str]:
        return Counter(session_id for _, session_id, one in self.applied if one.done)


@pytest.fixture
def bench(database: Database) -> Bench:
    return Bench(database)


async def test_a_task_is_created_polled_and_its_verdict_brought_home_once(bench: Bench) -> None:
    assert await bench.outbox.put(task("s"), "c")
    assert not await bench.outbox.put(task("s"), "c")
    await bench.run_for(60)
    assert [one.state for _, _, one in bench.applied] == [0, 1, 2]
    row = await bench.row("s")
    assert (row.state, row.delivered, row.task, row.answer) == ("done", True, task("s"), answer(2))
    assert bench.quality.creates["s"] == 1


async def test_no_session_is_ever_worked_on_twice_at_once_and_the_whole_is_bounded(bench: Bench) -> None:
    for number in range(30):
        await bench.outbox.put(task(f"s{number}"), "c")
    await asyncio.gather(bench.dispatcher.run_due(), bench.dispatcher.run_due())
    await bench.run_for(60)
    assert bench.verdicts() == Counter({f"s{number}": 1 for number in range(30)})
    assert bench.quality.most_at_once.pop("all") <= 4
    assert set(bench.quality.most_at_once.values()) == {1}


async def test_a_day_without_qc_drains_when_it_is_back_without_a_stampede(bench: Bench) -> None:
    tasks = 400
    bench.quality.fault = lambda: Unavailable("connection refused")
    began = bench.clock.now
    for number in range(tasks):
        await bench.outbox.put(task(f"s{number}", "loud" if number % 10 else "quiet"), "c")
        await bench.run_for(24 * HOUR_S / tasks - 1)
    await bench.run_until(began + 24 * HOUR_S - 1)
    assert bench.dead == []
    tries = sum(bench.quality.creates.values())
    assert tries < 24 * HOUR_S / 100, "one at a time finds out whether QC is back, however many wait"
    assert bench.quality.most_at_once.pop("all") == 1
    bench.quality.fault = lambda: None
    bench.quality.at_once_by_request.clear()
    await bench.run_for(400)
    assert bench.verdicts() == Counter({f"s{number}": 1 for number in range(tasks)})
    assert sum(bench.quality.creates.values()) == tries + tasks
    at_once = bench.quality.at_once_by_request
    assert at_once[:2] == [1, 1], "the first is alone, until it was answered"
    assert max(at_once) == 4
    assert at_once.index(3) > at_once.index(2) > 0


async def test_a_qc_that_falls_over_under_load_is_met_alone_again(bench: Bench) -> None:
    for number in range(40):
        await bench.outbox.put(task(f"s{number}"), "c")
    answered = iter([None] * 20 + [Unavailable("overloaded")] * 3)
    bench.quality.fault = lambda: next(answered, None)
    await bench.run_for(30)
    at_once = bench.quality.at_once_by_request
    assert 1 < max(at_once[:20]) <= 4  # a slow disk keeps some of them apart
    assert at_once[20:24].count(1) >= 1, "after a failure, one at a time"
    await bench.run_for(600)
    assert len(bench.verdicts()) == 40


async def test_a_task_that_qc_chokes_on_does_not_hold_up_the_others(bench: Bench) -> None:
    def choke(session_id: str) -> Exception | None:
        return Unavailable("500") if session_id == "poison" else None

    bench.quality.fault_of = choke
    await bench.outbox.put(task("poison"), "c")
    for number in range(30):
        await bench.outbox.put(task(f"s{number}"), "c")
    await bench.run_for(120)
    assert len(bench.verdicts()) == 30
    assert (await bench.row("poison")).state == "pending"


async def test_the_backlog_of_one_app_does_not_hold_up_another(bench: Bench) -> None:
    for number in range(100):
        await bench.outbox.put(task(f"loud{number}", "loud"), "c")
    for number in range(3):
        await bench.outbox.put(task(f"quiet{number}", "quiet"), "c")
    order: list[str] = []
    bench.quality.before_answer = order.append
    await bench.dispatcher.run_due()
    assert max(order.index(f"quiet{number}") for number in range(3)) < 10


async def test_a_task_that_qc_takes_long_over_is_asked_for_more_and_more_rarely(bench: Bench) -> None:
    async def still_running(app_id: str, session_id: str) -> QualityAnswer:
        bench.quality.polls[session_id] += 1
        return answer(1)

    bench.quality.result = still_running  # type: ignore[method-assign]
    await bench.outbox.put(task("s"), "c")
    await bench.run_for(20)
    assert bench.quality.polls["s"] >= 8, "every two seconds at first"
    bench.quality.polls.clear()
    await bench.run_for(HOUR_S)
    assert HOUR_S / 30 <= bench.quality.polls["s"] < HOUR_S / 20


async def test_what_fails_for_more_than_a_day_is_given_up_and_can_be_revived(bench: Bench) -> None:
    bench.quality.fault = lambda: Unavailable("connection refused")
    await bench.outbox.put(task("s"), "c")
    await bench.run_for(25 * HOUR_S)
    assert bench.dead == [("ours", "s", "connection refused")]
    assert [row.session_id for row in await bench.outbox.list(["dead"])] == ["s"]
    bench.quality.fault = lambda: None
    await bench.run_for(HOUR_S)
    assert bench.verdicts() == Counter()
    assert await bench.outbox.retry("s") == "dead"
    assert await bench.outbox.retry("s") == "pending"
    assert await bench.outbox.retry("unknown") is None
    await bench.run_for(60)
    assert bench.verdicts() == Counter(["s"])


async def test_a_refusal_is_given_up_at_once(bench: Bench) -> None:
    bench.quality.fault = lambda: Rejected("no such category", code="400")
    await bench.outbox.put(task("s"), "c")
    await bench.dispatcher.run_due()
    assert bench.dead == [("ours", "s", "no such category 400")]
    assert bench.quality.creates["s"] == 1


async def test_the_wish_to_be_left_alone_for_a_while_is_honoured(bench: Bench) -> None:
    faults: list[Exception | None] = [None, Unavailable("429", retry_after_s=500)]
    bench.quality.fault = lambda: faults.pop() if faults else None
    await bench.outbox.put(task("s"), "c")
    began = bench.clock.now
    await bench.run_for(499)
    assert bench.quality.creates["s"] == 1
    assert (await bench.row("s")).retry_after_s == 500
    await bench.run_until(began + 502)
    assert bench.quality.creates["s"] == 2


async def test_a_callback_three_times_and_polling_besides_give_one_verdict(bench: Bench) -> None:
    await bench.outbox.put(task("s"), "c")
    await bench.dispatcher.run_due()
    delivered = [await bench.dispatcher.deliver_callback("ours", "s", answer(2)) for _ in range(3)]
    assert delivered == ["applied", "ignored", "ignored"]
    await bench.run_for(60)
    assert bench.verdicts() == Counter(["s"])


async def test_a_callback_that_overtakes_the_answer_to_create_counts(bench: Bench) -> None:
    callbacks: list[asyncio.Task[str]] = []

    def call_back(session_id: str) -> None:
        callbacks.append(asyncio.ensure_future(bench.dispatcher.deliver_callback("ours", session_id, answer(2))))

    bench.quality.before_answer = call_back
    await bench.outbox.put(task("s"), "c")
    await bench.run_for(60)
    assert [await one for one in callbacks] == ["applied"]
    assert bench.verdicts() == Counter(["s"])
    assert bench.quality.polls["s"] == 0


async def test_a_callback_of_another_app_or_for_no_task_or_without_an_end_changes_nothing(bench: Bench) -> None:
    await bench.outbox.put(task("s"), "c")
    assert await bench.dispatcher.deliver_callback("theirs", "s", answer(2)) == "unknown"
    assert await bench.dispatcher.deliver_callback("ours", "unknown", answer(2)) == "unknown"
    assert await bench.dispatcher.deliver_callback("ours", "s", answer(1)) == "ignored"
    assert (await bench.row("s")).state == "pending"
    assert await bench.outbox.get("theirs", "s") is None


async def test_a_late_verdict_reaches_a_task_that_was_given_up(bench: Bench) -> None:
    bench.quality.fault = lambda: Rejected("no")
    await bench.outbox.put(task("s"), "c")
    await bench.dispatcher.run_due()
    assert await bench.dispatcher.deliver_callback("ours", "s", answer(2)) == "applied"
    await bench.dispatcher.run_due()
    assert bench.verdicts() == Counter(["s"])


async def test_a_task_that_qc_lost_after_taking_it_is_handed_in_again(bench: Bench) -> None:
    await bench.outbox.put(task("s"), "c")
    await bench.dispatcher.run_due()
    bench.quality.forget()
    await bench.run_for(60)
    assert bench.quality.creates["s"] == 2
    assert bench.verdicts() == Counter(["s"])


async def test_a_failed_judgement_is_an_end_too(bench: Bench) -> None:
    await bench.outbox.put(task("s"), "c")
    assert await bench.dispatcher.deliver_callback("ours", "s", answer(3)) == "applied"
    await bench.run_for(60)
    assert [(one.done, one.succeeded) for _, _, one in bench.applied] == [(True, False)]


async def test_a_verdict_that_could_not_be_taken_in_is_brought_again(bench: Bench) -> None:
    await bench.outbox.put(task("s"), "c")
    await bench.dispatcher.deliver_callback("ours", "s", answer(2))
    bench.home_faults.append(RuntimeError("database is busy"))
    await bench.dispatcher.run_due()
    assert bench.verdicts() == Counter()
    await bench.run_for(10)
    assert bench.verdicts() == Counter(["s"])


async def test_a_progress_note_that_nobody_takes_costs_no_verdict(bench: Bench) -> None:
    bench.home_faults.append(RuntimeError("nobody home"))
    await bench.outbox.put(task("s"), "c")
    await bench.run_for(60)
    assert bench.verdicts() == Counter(["s"])


async def test_qc_that_hangs_is_cut_off_and_tried_again(bench: Bench) -> None:
    bench.dispatcher = bench.new_dispatcher(request_timeout_s=0.0)
    await bench.outbox.put(task("s"), "c")
    await bench.dispatcher.run_due()
    row = await bench.row("s")
    assert (row.state, row.failures, row.at_fault) == ("pending", 1, "voice_qc")
    assert "no answer" in row.last_error


async def test_qc_that_never_comes_to_an_end_is_given_up_after_a_day(bench: Bench) -> None:
    await bench.outbox.put(task("s"), "c")
    await bench.dispatcher.run_due()

    async def still_running(app_id: str, session_id: str) -> QualityAnswer:
        return answer(1)

    bench.quality.result = still_running  # type: ignore[method-assign]
    bench.clock.now += 25 * HOUR_S
    await bench.dispatcher.run_due()
    assert [error for _, _, error in bench.dead] == ["no verdict within 86400 s"]


async def test_a_recording_that_is_gone_is_given_up_at_once(bench: Bench) -> None:
    bench.quality.fault = lambda: FileNotFoundError("c.wav")
    await bench.outbox.put(task("s"), "c")
    await bench.dispatcher.run_due()
    assert "gone" in bench.dead[0][2]


async def test_a_new_process_goes_on_where_the_table_stands_and_wakes_for_new_tasks(bench: Bench) -> None:
    await bench.outbox.put(task("before"), "c")
    await bench.outbox.finished("ours", "before", answer(2))
    home = asyncio.Event()

    async def on_status(app_id: str, session_id: str, answer: QualityAnswer) -> None:
        bench.applied.append((app_id, session_id, answer))
        home.set()

    dispatcher = Dispatcher(
        bench.outbox, bench.quality, bench.clock, on_status=on_status, on_dead=bench.on_dead, poll_s=0.0
    )
    dispatcher.start()
    await home.wait()
    await bench.outbox.put(task("after"), "c")
    while bench.verdicts() != Counter(["before", "after"]):
        home.clear()
        await home.wait()
    await dispatcher.stop()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_forgotten_call_leaves_no_row(bench: Bench) -> None:
    await bench.outbox.put(task("s"), "c")
    await bench.outbox.forget("theirs", "c")
    assert await bench.outbox.get("ours", "s") is not None
    await bench.outbox.forget("ours", "c")
    assert await bench.outbox.get("ours", "s") is None


async def test_rows_move_with_the_data_folder_and_those_of_earlier_versions_too(tmp_path: Path) -> None:
    clock = FakeClock()
    old = Database(tmp_path / "earshot.db", [OLD_SCHEMA])
    kept = (
        b'{"session_id":"old","app_id":"ours","recording":"/gone/recordings/old.wav","rate_hz":8000,"channels":1,'
        b'"language":"en","categories":[]}'
    )
    await old.run(
        lambda db: db.execute(
            "INSERT INTO outbox (session_id, app_id, call_id, task, next_at, created_at) VALUES (?, ?, ?, ?, 0, 0)",
            ("old", "ours", "old", kept),
        )
    )
    old.close()
    for data_dir in (Path("/data"), Path("/moved"), Path("relative")):
        database = Database(tmp_path / "earshot.db", [SCHEMA])
        outbox = Outbox(database, clock, data_dir=data_dir)
        if data_dir == Path("/data"):
            await outbox.put(task("new"), "c")
        found = {row.session_id: row.task.recording for row in await outbox.list()}
        assert found == {"old": data_dir / "recordings/old.wav", "new": data_dir / "recordings/c.wav"}
        database.close()


async def test_a_row_finds_its_recording_after_the_folder_of_recordings_has_become_another(tmp_path: Path) -> None:
    data, shared, clock = tmp_path / "data", tmp_path / "shared", FakeClock()
    for folder in (data / "recordings", shared):
        folder.mkdir(parents=True)
    database = Database(tmp_path / "earshot.db", [SCHEMA])
    before = Outbox(database, clock, data_dir=data)
    (data / "recordings" / "old.wav").touch()
    await before.put(replace(task("old"), recording=data / "recordings" / "old.wav"), "old")
    after = Outbox(database, clock, data_dir=data, recordings_dir=shared)
    (shared / "new.wav").touch()
    await after.put(replace(task("new"), recording=shared / "new.wav"), "new")
    found = {row.session_id: row.task.recording for row in await after.list()}
    assert found == {"old": data / "recordings" / "old.wav", "new": shared / "new.wav"}
    database.close()


async def test_a_recording_outside_the_data_folder_is_refused(bench: Bench) -> None:
    with pytest.raises(ValueError, match="/elsewhere"):
        await bench.outbox.put(replace(task("s"), recording=Path("/elsewhere/c.wav")), "c")


async def test_depths_count_what_is_not_done_and_know_the_oldest(bench: Bench) -> None:
    assert await bench.outbox.depths() == []
    began = bench.clock.now
    await bench.outbox.put(task("done"), "c")
    await bench.run_for(60)
    bench.quality.fault = lambda: Rejected("no")
    await bench.outbox.put(task("dead"), "c")
    await bench.run_for(60)
    for name in ("a", "b"):
        await bench.outbox.put(task(name), "c")
        bench.clock.now += 5
    depths = {one.state: (one.tasks, one.oldest_at - began) for one in await bench.outbox.depths()}
    assert depths == {"dead": (1, 60), "pending": (2, 120)}


async def test_all_that_was_given_up_is_revived_at_once(bench: Bench) -> None:
    bench.quality.fault = lambda: Rejected("no")
    for number in range(3):
        await bench.outbox.put(task(f"s{number}"), "c")
    await bench.dispatcher.run_due()
    bench.quality.fault = lambda: None
    assert await bench.outbox.retry_dead() == 3
    assert await bench.outbox.retry_dead() == 0
    await bench.run_for(60)
    assert len(bench.verdicts()) == 3


async def test_what_another_process_revives_is_noticed_without_a_restart(bench: Bench, tmp_path: Path) -> None:
    bench.quality.fault = lambda: Rejected("no")
    await bench.outbox.put(task("s"), "c")
    home = asyncio.Event()

    async def on_end(*_: object) -> None:
        home.set()

    dispatcher = Dispatcher(
        bench.outbox,
        bench.quality,
        bench.clock,
        on_status=on_end,
        on_dead=on_end,
        poll_s=0.0,
        watch_s=0.01,
        idle_s=3600,
        uniform=lambda low, high: 0.0,
    )
    dispatcher.start()
    await home.wait()
    bench.quality.fault = lambda: None
    home.clear()
    other = Database(tmp_path / "earshot.db", [SCHEMA])  # as `earshot outbox retry` opens it
    assert await Outbox(other, bench.clock, data_dir=DATA).retry("s") == "dead"
    while (await bench.row("s")).state != "done":
        await home.wait()
        home.clear()
    await dispatcher.stop()
    other.close()
