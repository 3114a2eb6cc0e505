"""The runner of the outbox: hands tasks to voice QC, fetches the verdicts, and brings them home."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

import structlog

from gateway.ports import Clock, QualityAnswer, QualityApi, Rejected, Unavailable
from gateway.stores.outbox import Outbox, OutboxRow
from gateway.stores.pace import Pace
from gateway.stores.retry_schedule import RetrySchedule

log = structlog.get_logger(__name__)

T = TypeVar("T")

SLOWEST_POLL_S = 30.0
"""A task that QC takes long over is asked for more and more rarely, down to this often."""

OnStatus = Callable[[str, str, QualityAnswer], Awaitable[None]]
"""(app_id, session_id, answer). For an answer that is `done` it must be idempotent: a crash may repeat it."""

OnDead = Callable[[str, str, str], Awaitable[None]]
"""(app_id, session_id, error): QC will give no verdict. Idempotent too; a late answer may still follow."""

Callback = Literal["applied", "ignored", "unknown"]
"""What became of an answer that QC sent by itself: the first end of a task, nothing new, or nobody's."""


class _NoAnswerError(Unavailable):
    """Voice QC itself could not answer; what the gateway's own parts raise is another matter."""


class _RefusedError(Exception):
    """Voice QC refuses this task."""


@dataclass(frozen=True, slots=True)
class _Job:
    task: asyncio.Task[None]
    app_id: str
    at_qc: bool


class Dispatcher:
    """Works off the outbox, never two jobs for one session at a time and at most `concurrency` with QC in all.

    What is due waits in the table while no slot is free. How many slots there are is `Pace`'s to say: while QC does
    not answer, one task at a time finds out whether it is back, and then the rest follow. Apps take turns. An answer
    is applied once, whether polling or a callback brought it. A fault in a job costs that job a retry, never the
    dispatcher.
    """

    def __init__(
        self,
        outbox: Outbox,
        quality_api: QualityApi,
        clock: Clock,
        *,
        on_status: OnStatus,
        on_dead: OnDead,
        poll_s: float = 2.0,
        concurrency: int = 4,
        request_timeout_s: float = 120.0,
        verdict_timeout_s: float = 24 * 3600.0,
        idle_s: float = 30.0,
        watch_s: float = 1.0,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """`verdict_timeout_s` is how long QC may hold an accepted task; `idle_s` bounds how late a wall clock that
        jumped is noticed, `watch_s` how late a row that another process changed."""
        self._outbox = outbox
        self._quality = quality_api
        self._clock = clock
        self._on_status = on_status
        self._on_dead = on_dead
        self._poll_s = poll_s
        self._concurrency = concurrency
        self._request_timeout_s = request_timeout_s
        self._verdict_timeout_s = verdict_timeout_s
        self._idle_s = idle_s
        self._watch_s = watch_s
        self._pace = Pace(concurrency, RetrySchedule(), uniform)
        self._jobs: dict[str, _Job] = {}
        self._turns: dict[str, int] = {}
        """When each app was last served, counted in jobs."""
        self._starting = asyncio.Lock()  # between reading what is due and beginning it, nobody else may begin it
        self._runner: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Go on with whatever the table holds, until `stop`."""
        self._runner = asyncio.get_running_loop().create_task(self._run(), name="outbox-dispatch")

    async def stop(self) -> None:
        """Cut short what is under way; the table still holds it for the next start."""
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)
            self._runner = None
        jobs = [job.task for job in self._jobs.values()]
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)

    async def deliver_callback(self, app_id: str, session_id: str, answer: QualityAnswer) -> Callback:
        """Take an answer that QC sent by itself. It counts if it is final, and the first for a session of this app."""
        if answer.done and await self._outbox.finished(app_id, session_id, answer):
            return "applied"
        return "unknown" if await self._outbox.get(app_id, session_id) is None else "ignored"

    async def forget(self, app_id: str, session_id: str) -> None:
        """Stop what is under way for a call's task, and remove it with its verdict: nothing more comes home."""
        async with self._starting:
            job = self._jobs.get(session_id)
            if job is not None and job.app_id == app_id:
                job.task.cancel()
                await asyncio.wait([job.task])
            await self._outbox.forget(app_id, session_id)

    async def run_due(self) -> None:
        """Work until nothing is due that may begin at this moment."""
        while await self._start_due() or self._jobs:
            if self._jobs:
                jobs = [job.task for job in self._jobs.values()]
                await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)

    async def next_at(self) -> float | None:
        """When something may begin, in wall-clock seconds; None when only the end of a job or a change can tell."""
        ended_at = await self._outbox.next_ended_at(self._jobs)
        due_at = await self._outbox.next_due_at(self._jobs)
        if due_at is not None:
            pause_s = self._pace.pause_s(self._clock.monotonic())
            if not pause_s and not self._free_slots():
                due_at = None
            elif pause_s:
                due_at = max(due_at, self._clock.wall() + pause_s)
        return min((at for at in (ended_at, due_at) if at is not None), default=None)

    async def _run(self) -> None:
        while True:
            self._outbox.changed.clear()
            wait_s = self._idle_s
            try:
                await self._outbox.changed_elsewhere()  # from here on
                await self._start_due()
                next_at = await self.next_at()
                if next_at is not None:
                    wait_s = min(wait_s, max(0.0, next_at - self._clock.wall()))
                await self._wait(wait_s)
            except Exception:
                log.exception("outbox_not_readable")
                await asyncio.sleep(1.0)

    async def _wait(self, seconds: float) -> None:
        """Return after `seconds`, or as soon as something may have become due."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(self._watch_s, max(0.0, until - loop.time()))):
                    await self._outbox.changed.wait()
                return
            if loop.time() >= until or await self._outbox.changed_elsewhere():
                return

    def _free_slots(self) -> int:
        return self._pace.slots(self._clock.monotonic(), sum(job.at_qc for job in self._jobs.values()))

    async def _start_due(self) -> bool:
        """Begin a job for each due row while there are free slots; True when any began."""
        async with self._starting:
            at_home = self._concurrency - sum(not job.at_qc for job in self._jobs.values())
            rows = list(await self._outbox.ended(limit=at_home, but=self._jobs)) if at_home > 0 else []
            free = self._free_slots()
            if free > 0:
                due = await self._outbox.due(each=free, but=self._jobs)
                busy = Counter(job.app_id for job in self._jobs.values() if job.at_qc)
                rows += in_turn(due, free, busy, self._turns)
            for row in rows:
                job = asyncio.get_running_loop().create_task(self._work_on(row), name=f"outbox-{row.session_id}")
                self._jobs[row.session_id] = _Job(job, row.app_id, row.state in ("pending", "submitted"))
                job.add_done_callback(partial(self._job_ended, row.session_id))
        return bool(rows)

    def _job_ended(self, session_id: str, _: asyncio.Task[None]) -> None:
        del self._jobs[session_id]
        self._outbox.changed.set()

    async def _work_on(self, row: OutboxRow) -> None:
        try:
            await self._attempt(row)
        except Exception:
            log.exception("outbox_job_failed", session_id=row.session_id)
            # The table did not take the outcome: without a pause the row would be due again at once, for ever.
            await asyncio.sleep(1.0)

    async def _attempt(self, row: OutboxRow) -> None:
        era = self._pace.era
        try:
            match row.state:
                case "pending":
                    await self._submit(row, era)
                case "submitted":
                    await self._poll(row, era)
                case "done" | "dead":
                    await self._bring_home(row)
        except _NoAnswerError as fault:
            self._pace.failed(era, self._clock.monotonic(), fault.retry_after_s)
            await self._outbox.failed(row, str(fault), "voice_qc", retryable=True, retry_after_s=fault.retry_after_s)
        except _RefusedError as fault:
            # QC that refuses to know a task it has accepted lost it: the session id makes handing it in again safe.
            lost = row.state == "submitted"
            await self._outbox.failed(row, str(fault), "task", retryable=lost, resubmit=lost)
        except FileNotFoundError as fault:
            await self._outbox.failed(row, f"the recording is gone: {fault}", "earshot", retryable=False)
        except Exception as fault:
            log.exception("outbox_attempt_failed", session_id=row.session_id)
            await self._outbox.failed(row, repr(fault), "earshot", retryable=True)

    async def _submit(self, row: OutboxRow, era: int) -> None:
        await self._asked(self._quality.create(row.task), era)
        await self._outbox.submitted(row.session_id, poll_in_s=self._poll_s)

    async def _poll(self, row: OutboxRow, era: int) -> None:
        answer = await self._asked(self._quality.result(row.app_id, row.session_id), era)
        if answer.done:
            await self._outbox.finished(row.app_id, row.session_id, answer)
            return
        waited_s = 0.0 if row.submitted_at is None else self._clock.wall() - row.submitted_at
        if waited_s > self._verdict_timeout_s:
            error = f"no verdict within {self._verdict_timeout_s:g} s"
            await self._outbox.failed(row, error, "voice_qc", retryable=False)
            return
        if row.answer is None or row.answer.state != answer.state:
            await self._report_progress(row, answer)
        poll_in_s = max(self._poll_s, min(SLOWEST_POLL_S, waited_s / 10))
        await self._outbox.progressed(row.session_id, answer, poll_in_s=poll_in_s)

    async def _asked(self, question: Awaitable[T], era: int) -> T:
        """QC's answer. Raises _NoAnswerError and _RefusedError."""
        try:
            async with asyncio.timeout(self._request_timeout_s):
                answer = await question
        except TimeoutError as fault:
            raise _NoAnswerError(f"no answer within {self._request_timeout_s:g} s") from fault
        except Unavailable as fault:
            raise _NoAnswerError(str(fault), retry_after_s=fault.retry_after_s) from fault
        except Rejected as fault:
            self._pace.succeeded(era)
            raise _RefusedError(f"{fault} {fault.code}".strip()) from fault
        self._pace.succeeded(era)
        return answer

    async def _report_progress(self, row: OutboxRow, answer: QualityAnswer) -> None:
        try:
            await self._on_status(row.app_id, row.session_id, answer)
        except Exception:  # a progress note that nobody could take must not cost the call its verdict
            log.exception("outbox_progress_not_taken", session_id=row.session_id)

    async def _bring_home(self, row: OutboxRow) -> None:
        if row.state == "done" and row.answer is not None:
            await self._on_status(row.app_id, row.session_id, row.answer)
        else:
            await self._on_dead(row.app_id, row.session_id, row.last_error)
        await self._outbox.delivered(row.session_id, row.state)


def in_turn(
    due: Mapping[str, Sequence[OutboxRow]], limit: int, busy: Mapping[str, int], turns: dict[str, int]
) -> list[OutboxRow]:
    """Up to `limit` of the rows in `due`, chosen so that no app waits for another's backlog.

    The app with the fewest jobs under way (`busy`) is next, and of equals the one that was served longest ago; `turns`
    remembers that, and is brought up to date.
    """
    waiting = {app_id: list(rows) for app_id, rows in due.items()}
    running = Counter(busy)
    chosen: list[OutboxRow] = []
    while len(chosen) < limit and waiting:
        app_id = min(waiting, key=lambda one: (running[one], turns.get(one, 0)))
        chosen.append(waiting[app_id].pop(0))
        running[app_id] += 1
        turns[app_id] = max(turns.values(), default=0) + 1
        if not waiting[app_id]:
            del waiting[app_id]
    return chosen
