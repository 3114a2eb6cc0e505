"""One sync for many appends: positions, who waits for them, and what to do while the disk fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from errno import EIO, ENOSPC
from typing import TypeVar

from gateway.stores.commit_log import Block, CommitLog

T = TypeVar("T")


class JournalFull(OSError):
    """The disk has not taken what was appended before, and memory for more is used up. Nothing was appended."""

    def __init__(self, max_unsynced_bytes: int) -> None:
        super().__init__(ENOSPC, f"{max_unsynced_bytes} bytes wait for a disk that does not take them")


@dataclass(frozen=True, slots=True)
class JournalLimits:
    commit_interval_ms: int = 100
    """How long appended audio may wait for its sync, and so the age of an ack."""
    retry_interval_ms: int = 1000
    """How long to wait after a disk fault before trying a fresh segment again."""
    segment_bytes: int = 64 * 1024 * 1024
    """A segment past this size is closed at the next commit."""
    few_segments: int = 8
    """With no more finished segments than these (512 MiB) none is emptied: most go by themselves, with their calls."""
    max_unsynced_bytes: int = 64 * 1024 * 1024
    """What may wait in memory for the disk; when full, appends raise JournalFull."""


class GroupCommit:
    """Counts appends as positions and makes them safe in the background, all of them with one sync at a time.

    Belongs to the event loop that called `start`; only the disk work runs in a thread of its own.
    """

    def __init__(
        self,
        log: CommitLog,
        limits: JournalLimits,
        *,
        enqueue_all: Callable[[], None],
        on_health: Callable[[str | None], None],
    ) -> None:
        """`enqueue_all` must hand every append so far to `log`; `on_health` hears of the fault when the disk begins to
        fail and of None when it is well."""
        self.degraded: str | None = None
        self.position = 0
        """That of the latest append."""
        self.safe_position = 0
        self._unsynced_bytes = self._unqueued_bytes = 0
        self._log = log
        self._limits = limits
        self._enqueue_all = enqueue_all
        self._on_health = on_health
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._dirty, self._stopping = asyncio.Event(), asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal-commit")

    async def start(
        self, on_safe: Callable[[Sequence[Block]], Awaitable[None]], on_fault: Callable[[OSError], None]
    ) -> None:
        """Open the log and begin. `on_safe` hears of blocks once they are safe, before those who wait for them;
        `on_fault` of every commit that the disk did not take. Raises OSError."""
        self._on_safe, self._on_fault = on_safe, on_fault
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._log.open)
        self._task = loop.create_task(self._run(), name="journal-commit")

    async def stop(self) -> None:
        """Commit what is left, once; raises whatever ended the commits before."""
        self._stopping.set()
        self._dirty.set()
        try:
            await self._task
        finally:
            self._thread.shutdown()
            self._log.close()

    @property
    def has_room(self) -> bool:
        """Whether audio may come: the last part of the memory is kept for messages."""
        return self._unsynced_bytes < self._limits.max_unsynced_bytes * 7 // 8

    @property
    def backlog_bytes(self) -> int:
        """What waits in memory for the disk."""
        return self._unsynced_bytes

    @property
    def crowded(self) -> bool:
        """Whether half the memory is used up: time to take on nothing new, and to finish what there is."""
        return self._unsynced_bytes > self._limits.max_unsynced_bytes // 2

    def has_memory(self, data_bytes: int) -> bool:
        """Whether `reserve` would not raise."""
        return self._unsynced_bytes + data_bytes <= self._limits.max_unsynced_bytes

    def reserve(self, data_bytes: int) -> None:
        """Take memory for an append until it is safe. Raises JournalFull, and takes none then."""
        if self._unsynced_bytes + data_bytes > self._limits.max_unsynced_bytes:
            raise JournalFull(self._limits.max_unsynced_bytes)
        self._unsynced_bytes += data_bytes
        self._unqueued_bytes += data_bytes

    def reserved_since_last_block(self) -> int:
        """What `reserve` took since this was asked last: the next block gives it back."""
        reserved_bytes, self._unqueued_bytes = self._unqueued_bytes, 0
        return reserved_bytes

    def appended(self) -> int:
        """Count one append and return its position."""
        self.position += 1
        self._dirty.set()
        return self.position

    async def synced(self, position: int) -> None:
        """Return once everything up to `position` would survive a power cut. Raises OSError and ValueError."""
        if position <= self.safe_position:
            return
        if position > self.position:
            raise ValueError(f"position {position} is past the journal's end, {self.position}")
        if self._task.done():
            raise OSError(EIO, "the journal has stopped")
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append((position, waiter))
        await waiter

    async def in_commit_thread(self, work: Callable[[], T]) -> T:
        """Run disk work between two commits."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _run(self) -> None:
        interval_ms = self._limits.commit_interval_ms
        try:
            while True:
                await self._dirty.wait()
                with suppress(TimeoutError):
                    async with asyncio.timeout(interval_ms / 1000):
                        await self._stopping.wait()
                self._dirty.clear()
                healthy = await self._commit()
                interval_ms = self._limits.commit_interval_ms if healthy else self._limits.retry_interval_ms
                if self._stopping.is_set():
                    break
        except BaseException as fault:
            self._note_health(f"the commits ended: {fault!r}")
            raise
        finally:
            self._fail_waiters(OSError(EIO, self.degraded or "the journal has stopped"))

    async def _commit(self) -> bool:
        """Make everything so far safe; False when the disk did not take it."""
        self._enqueue_all()
        try:
            blocks = await asyncio.get_running_loop().run_in_executor(self._thread, self._log.commit)
        except OSError as fault:
            self._note_health(str(fault))
            self._fail_waiters(fault)
            self._on_fault(fault)
            self._dirty.set()
            return False
        for block in blocks:
            self.safe_position = block.position
            self._unsynced_bytes -= block.reserved_bytes
        await self._on_safe(blocks)
        if self.safe_position < self.position:
            self._dirty.set()
        self._note_health(None)
        self._wake_waiters()
        return True

    def _wake_waiters(self) -> None:
        reached = [waiter for position, waiter in self._waiters if position <= self.safe_position]
        self._waiters = [pair for pair in self._waiters if pair[0] > self.safe_position]
        for waiter in reached:
            if not waiter.done():
                waiter.set_result(None)

    def _fail_waiters(self, fault: OSError) -> None:
        waiters, self._waiters = self._waiters, []
        for _, waiter in waiters:
            if not waiter.done():
                waiter.set_exception(OSError(fault.errno, f"not safe: {fault}"))

    def _note_health(self, fault: str | None) -> None:
        changed = (fault is None) != (self.degraded is None)
        self.degraded = fault
        if changed:
            self._on_health(fault)
