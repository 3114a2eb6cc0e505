"""Deletion for good: of a call or a task by hand, and of what has been kept long enough."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import structlog

from gateway.ports import Clock, QualityTasks
from gateway.stores.calls import OldCall
from gateway.stores.dispatch import Dispatcher
from gateway.stores.outbox import Outbox
from gateway.stores.recordings import Recordings
from gateway.stores.sqlite import Database

SCHEMA = """
CREATE TABLE IF NOT EXISTS erasures (
    erased_at REAL NOT NULL,        -- wall clock, s
    app_id TEXT NOT NULL,
    what TEXT NOT NULL,             -- call | recording | quality_task
    id TEXT NOT NULL,               -- of the call, or the task's session
    cause TEXT NOT NULL             -- request | retention
);
"""
"""What was deleted, when and why, and nothing of what it held."""

What = Literal["call", "recording", "quality_task"]
Cause = Literal["request", "retention"]
DAY_S = 86_400.0
DONE_ROWS_KEPT_DAYS = 7.0
"""Rows of the outbox that are done go after so long at the latest: the call's own record has the verdict too."""

_log = structlog.get_logger(__name__)


class Erasable(Protocol):
    """The journal, as far as deletion goes."""

    async def erase(self, call_id: str) -> bool:
        """Take what a call has left off the disk; False while something of it stays. Raises OSError."""


class CallShelf(Protocol):
    """The calls' records, as far as deletion goes; each may raise Unavailable."""

    async def forget(self, app_id: str, call_id: str) -> bool:
        """Delete a call's record for good, wherever there is a copy."""

    async def expire(self, app_id: str, call_id: str) -> bool:
        """Delete a record that was kept long enough, and no copy."""

    async def sweep_shared(self, ended_before_ms: int) -> int:
        """Delete copies of calls that ended before then; how many there were."""

    async def judged_before(self, ended_before_ms: int, *, after: str = "", limit: int = 500) -> Sequence[OldCall]:
        """This node's calls that ended before then, and that voice QC owes nothing any more, by call id."""

    async def unknown(self, call_ids: Sequence[str], ended_before_ms: int) -> Sequence[str]:
        """Those that nobody has a record of, or only another node, by which they had ended before then."""


@dataclass(frozen=True, slots=True)
class Shelves:
    """Everywhere that something of a call is kept."""

    database: Database
    """Opened with the SCHEMA of this module, the calls' and the outbox's among its own."""
    calls: CallShelf
    recordings: Recordings
    journal: Erasable
    outbox: Outbox
    dispatcher: Dispatcher
    tasks: QualityTasks
    forget_passages: Callable[[str, str], Awaitable[bool]]
    """(app id, call id): removes what is known of the voices in a recording; False: nothing is."""
    forget_task: Callable[[str, str], Awaitable[bool]]
    """(app id, session id): removes a task of our own voice QC with its result and recording; False: none such."""


@dataclass(frozen=True, slots=True)
class Kept:
    """How long things are kept, in days; 0: for good."""

    recordings_days: float
    results_days: float


class Eraser:
    """Deletes so that nothing is left in a file of the data folder: neither free pages nor logs hold it.

    Each step may be done again; what finds a thing goes last, so that a deletion cut short can be asked for anew.
    Every method may raise OSError and Unavailable.
    """

    def __init__(self, shelves: Shelves, clock: Clock, note: Callable[[str, int], None] = lambda what, count: None):
        """`note` hears what was deleted, and how many, for metrics."""
        self._shelves = shelves
        self._clock = clock
        self._note = note

    async def erase_call(self, app_id: str, call_id: str, cause: Cause = "request") -> None:
        """Delete a call that has ended: recording, record, task, verdict, and its part of the journal."""
        await self._erase_call(app_id, call_id, cause)
        await self._scrub()
        _log.info("call_erased", app_id=app_id, call_id=call_id, cause=cause)

    async def erase_task(self, app_id: str, session_id: str) -> bool:
        """Delete a task of voice QC, its result and its recording; False when the app has none such."""
        if not await self._shelves.forget_task(app_id, session_id):
            return False
        await self._keep_account(app_id, "quality_task", session_id, "request")
        await self._scrub()
        _log.info("quality_task_erased", app_id=app_id, session_id=session_id)
        return True

    async def sweep(self, kept: Kept) -> Counter[str]:
        """Delete what has been kept long enough, and say how many of what; calls without a verdict are not touched."""
        shelves, now_s = self._shelves, self._clock.wall()
        erased: Counter[str] = Counter()
        done_rows_days = min(kept.results_days or DONE_ROWS_KEPT_DAYS, DONE_ROWS_KEPT_DAYS)
        erased["outbox_row"] += await shelves.outbox.prune(now_s - done_rows_days * DAY_S)
        if kept.results_days:
            before_s = now_s - kept.results_days * DAY_S
            erased["call"] += await self._sweep_calls(before_s)
            erased["quality_task"] += await shelves.tasks.sweep_before(before_s, but=await shelves.outbox.owed())
        if kept.recordings_days:
            erased["recording"] += await self._sweep_recordings(now_s - kept.recordings_days * DAY_S)
        erased += Counter()  # what was not found is not told
        if erased:
            await self._scrub()
            _log.info("retention_swept", **erased)
        for what in erased.keys() - {"call", "recording"}:
            self._note(what, erased[what])
        return erased

    async def _sweep_calls(self, ended_before_s: float) -> int:
        erased, last = 0, ""
        while old := await self._shelves.calls.judged_before(round(ended_before_s * 1000), after=last):
            for one in old:
                await self._erase_call(one.app_id, one.call_id, "retention")
            erased, last = erased + len(old), old[-1].call_id
        await self._shelves.calls.sweep_shared(round(ended_before_s * 1000))
        return erased

    async def _sweep_recordings(self, ended_before_s: float) -> int:
        """Those of calls that ended before then; of calls that nobody has a record of, what was last written then."""
        shelves, erased, last = self._shelves, 0, ""
        files = await asyncio.to_thread(shelves.recordings.last_written)
        while files and (old := await shelves.calls.judged_before(round(ended_before_s * 1000), after=last)):
            for one in old:
                if one.call_id in files:
                    erased += await self._erase_recording(one.app_id, one.call_id)
            last = old[-1].call_id
        untouched = [one for one, at_s in files.items() if at_s < ended_before_s]
        for call_id in await shelves.calls.unknown(untouched, round(ended_before_s * 1000)):
            erased += await self._erase_recording("", call_id)
        return erased

    async def _erase_recording(self, app_id: str, call_id: str) -> bool:
        if not await asyncio.to_thread(self._shelves.recordings.delete, call_id):
            return False
        await self._shelves.journal.erase(call_id)
        await self._shelves.forget_passages(app_id, call_id)
        await self._keep_account(app_id, "recording", call_id, "retention")
        return True

    async def _erase_call(self, app_id: str, call_id: str, cause: Cause) -> None:
        shelves = self._shelves
        await shelves.dispatcher.forget(app_id, call_id)
        if await asyncio.to_thread(shelves.recordings.delete, call_id):
            self._note("recording", 1)
        await shelves.forget_passages(app_id, call_id)
        await shelves.forget_task(app_id, call_id)
        if not await shelves.journal.erase(call_id):
            _log.warning("journal_still_holds_call", call_id=call_id)
        await (shelves.calls.forget if cause == "request" else shelves.calls.expire)(app_id, call_id)
        await self._keep_account(app_id, "call", call_id, cause)

    async def _keep_account(self, app_id: str, what: What, id_: str, cause: Cause) -> None:
        values = (self._clock.wall(), app_id, what, id_, cause)

        def work(db: sqlite3.Connection) -> None:
            db.execute("INSERT INTO erasures VALUES (?, ?, ?, ?, ?)", values)

        await self._shelves.database.run(work)
        self._note(what, 1)

    async def _scrub(self) -> None:
        if not await self._shelves.database.scrub():
            # The next commits write over the log, and the next sweep tries again.
            _log.warning("database_log_not_scrubbed", reason="another process reads the database")
