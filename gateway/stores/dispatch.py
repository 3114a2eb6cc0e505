"""The runner of the outbox: hands tasks to voice QC, fetches the verdicts, and brings them home."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import structlog

from gateway.ports import Clock, QualityAnswer, QualityApi, Rejected, Unavailable
from gateway.stores.outbox import Outbox, OutboxRow

log = structlog.get_logger(__name__)

OnStatus = Callable[[str, str, QualityAnswer], Awaitable[None]]
"""(app_id, session_id, answer). For an answer that is `done` it must be idempotent: a crash may repeat it."""

OnDead = Callable[[str, str, str], Awaitable[None]]
"""(app_id, session_id, error): QC will give no verdict. Idempotent too; a late answer may still follow."""


class Dispatcher:
    """Works off the outbox, never two jobs for one session at a time and at most `concurrency` in all.

    What is due waits in the table while all slots are taken. An answer is applied once, whether polling or a
    callback brought it. A fault in a job costs that job a retry, never the dispatcher.
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
    ) -> None:
        """`verdict_timeout_s` is how long QC may hold an accepted task; `idle_s` bounds how late a wall clock that
        jumped, or a row that another process changed, is noticed."""
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
        self._jobs: dict[str, asyncio.Task[None]] = {}
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
        jobs = list(self._jobs.values())
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)

    async def deliver_callback(self, app_id: str, session_id: str, answer: QualityAnswer) -> bool:
        """Take an answer that QC sent by itself. True when it is final and the first for a session of this app."""
        return answer.done and await self._outbox.finished(app_id, session_id, answer)

    async def run_due(self) -> None:
        """Work until nothing is due at this moment."""
        while await self._start_due() or self._jobs:
            if self._jobs:
                await asyncio.wait(self._jobs.values(), return_when=asyncio.FIRST_COMPLETED)

    async def _run(self) -> None:
        while True:
            self._outbox.changed.clear()
            wait_s = self._idle_s
            try:
                await self._start_due()
                next_at = await self._outbox.next_due_at(self._jobs)
            except Exception:
                log.exception("outbox_not_readable")
                wait_s = min(wait_s, 1.0)
            else:
                if len(self._jobs) < self._concurrency and next_at is not None:
                    wait_s = min(wait_s, max(0.0, next_at - self._clock.wall()))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._outbox.changed.wait(), wait_s)

    async def _start_due(self) -> bool:
        """Begin a job for each due row while there are free slots; True when any began."""
        async with self._starting:
            free = self._concurrency - len(self._jobs)
            rows = await self._outbox.due(limit=free, but=self._jobs) if free > 0 else ()
            for row in rows:
                job = asyncio.get_running_loop().create_task(self._work_on(row), name=f"outbox-{row.session_id}")
                self._jobs[row.session_id] = job
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
        try:
            match row.state:
                case "pending":
                    await self._submit(row)
                case "submitted":
                    await self._poll(row)
                case "done" | "dead":
                    await self._bring_home(row)
        except Unavailable as fault:
            await self._outbox.failed(row, str(fault), retryable=True, retry_after_s=fault.retry_after_s)
        except TimeoutError:
            await self._outbox.failed(row, f"no answer within {self._request_timeout_s:g} s", retryable=True)
        except Rejected as fault:
            await self._refused(row, fault)
        except FileNotFoundError as fault:
            await self._outbox.failed(row, f"the recording is gone: {fault}", retryable=False)
        except Exception as fault:
            log.exception("outbox_attempt_failed", session_id=row.session_id)
            await self._outbox.failed(row, repr(fault), retryable=True)

    async def _refused(self, row: OutboxRow, fault: Rejected) -> None:
        # QC that refuses to know a task it has accepted lost it: the session id makes handing it in again safe.
        lost = row.state == "submitted"
        await self._outbox.failed(row, f"{fault} {fault.code}".strip(), retryable=lost, resubmit=lost)

    async def _submit(self, row: OutboxRow) -> None:
        async with asyncio.timeout(self._request_timeout_s):
            await self._quality.create(row.task)
        await self._outbox.submitted(row.session_id, poll_in_s=self._poll_s)

    async def _poll(self, row: OutboxRow) -> None:
        async with asyncio.timeout(self._request_timeout_s):
            answer = await self._quality.result(row.app_id, row.session_id)
        if answer.done:
            await self._outbox.finished(row.app_id, row.session_id, answer)
            return
        if row.submitted_at is not None and self._clock.wall() - row.submitted_at > self._verdict_timeout_s:
            await self._outbox.failed(row, f"no verdict within {self._verdict_timeout_s:g} s", retryable=False)
            return
        if row.answer is None or row.answer.state != answer.state:
            await self._report_progress(row, answer)
        await self._outbox.progressed(row.session_id, answer, poll_in_s=self._poll_s)

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
