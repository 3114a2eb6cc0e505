import asyncio
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from gateway.ports import QualityAnswer, QualityTask, Rejected, Unavailable
from gateway.stores.dispatch import Dispatcher
from gateway.stores.outbox import Outbox, OutboxRow
from gateway.stores.sqlite import Database
from tests.unit.stores.clock import FakeClock
from tests.unit.stores.fake_quality import FakeQuality, answer

HOUR_S = 3600


def task(session_id: str, app_id: str = "ours") -> QualityTask:
    return QualityTask(session_id, app_id, Path("/data/recordings/c.wav"), 8000, 2, "zh", ("催收",))


class Bench:
    """An outbox, a dispatcher and a QC service under one clock."""

    def __init__(self, database: Database) -> None:
        self.clock = FakeClock()
        self.quality = FakeQuality()
        self.applied: list[tuple[str, str, QualityAnswer]] = []
        self.dead: list[tuple[str, str, str]] = []
        self.home_faults: list[Exception] = []
        self.outbox = Outbox(database, self.clock, uniform=Random(1).uniform)
        self.dispatcher = self.new_dispatcher()

    def new_dispatcher(self, request_timeout_s: float = 120.0) -> Dispatcher:
        return Dispatcher(
            self.outbox,
            self.quality,
            self.clock,
            on_status=self.on_status,
            on_dead=self.on_dead,
            request_timeout_s=request_timeout_s,
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
            next_at = await self.outbox.next_due_at()
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
    bench.quality.fault = lambda: Unavailable("connection refused")
    began = bench.clock.now
    for number in range(8):
        await bench.outbox.put(task(f"s{number}"), "c")
        await bench.run_for(60)
    await bench.run_until(began + 24 * HOUR_S - 1)
    assert bench.dead == []
    tries = sum(bench.quality.creates.values())
    assert tries < 8 * 24 * HOUR_S / 100
    bench.quality.fault = lambda: None
    await bench.run_for(400)
    assert bench.verdicts() == Counter({f"s{number}": 1 for number in range(8)})
    assert sum(bench.quality.creates.values()) == tries + 8


async def test_what_fails_for_more_than_a_day_is_given_up_and_can_be_revived(bench: Bench) -> None:
    bench.quality.fault = lambda: Unavailable("connection refused")
    await bench.outbox.put(task("s"), "c")
    await bench.run_for(25 * HOUR_S)
    assert bench.dead == [("ours", "s", "connection refused")]
    assert [row.session_id for row in await bench.outbox.list(state="dead")] == ["s"]
    bench.quality.fault = lambda: None
    await bench.run_for(HOUR_S)
    assert bench.verdicts() == Counter()
    assert await bench.outbox.retry("s")
    assert not await bench.outbox.retry("s")
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
    assert delivered == [True, False, False]
    await bench.run_for(60)
    assert bench.verdicts() == Counter(["s"])


async def test_a_callback_that_overtakes_the_answer_to_create_counts(bench: Bench) -> None:
    callbacks: list[asyncio.Task[bool]] = []

    def call_back(session_id: str) -> None:
        callbacks.append(asyncio.ensure_future(bench.dispatcher.deliver_callback("ours", session_id, answer(2))))

    bench.quality.before_answer = call_back
    await bench.outbox.put(task("s"), "c")
    await bench.run_for(60)
    assert [await one for one in callbacks] == [True]
    assert bench.verdicts() == Counter(["s"])
    assert bench.quality.polls["s"] == 0


async def test_a_callback_of_another_app_or_for_no_task_or_without_an_end_changes_nothing(bench: Bench) -> None:
    await bench.outbox.put(task("s"), "c")
    assert not await bench.dispatcher.deliver_callback("theirs", "s", answer(2))
    assert not await bench.dispatcher.deliver_callback("ours", "unknown", answer(2))
    assert not await bench.dispatcher.deliver_callback("ours", "s", answer(1))
    assert (await bench.row("s")).state == "pending"
    assert await bench.outbox.get("theirs", "s") is None


async def test_a_late_verdict_reaches_a_task_that_was_given_up(bench: Bench) -> None:
    bench.quality.fault = lambda: Rejected("no")
    await bench.outbox.put(task("s"), "c")
    await bench.dispatcher.run_due()
    assert await bench.dispatcher.deliver_callback("ours", "s", answer(2))
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
    assert await bench.dispatcher.deliver_callback("ours", "s", answer(3))
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
    assert (row.state, row.failures) == ("pending", 1)
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
