"""The append-only log of one ingest process: audio and server messages of all its calls, safe in one sync."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from errno import EIO, ENOSPC
from pathlib import Path

import structlog

from gateway.stores.call_ids import checked_call_id
from gateway.stores.commit_log import Block, CommitLog
from gateway.stores.durable_files import Disk, remove_durably
from gateway.stores.journal_calls import AudioLayout, JournalledCall, RecordBatch
from gateway.stores.journal_records import MARKER_BYTES, MAX_PAYLOAD_BYTES, Kind, Record
from gateway.stores.journal_segments import create_locked_directory, remove_directory, segment_paths
from gateway.stores.recordings import Recordings
from gateway.stores.recovery import AdoptedJournal, Findings, Quarantined, RecoveredCall, adopt_abandoned
from gateway.stores.sealing import MAX_WAV_DATA_BYTES, SealedRecording, seal_recording, sealed_already

log = structlog.get_logger(__name__)


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
    max_unsynced_bytes: int = 64 * 1024 * 1024
    """What may wait in memory for the disk; when full, appends raise JournalFull."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What `recover` found."""

    calls: tuple[RecoveredCall, ...]
    quarantined: tuple[Quarantined, ...]


class FileJournal:
    """The Journal port on local files, in `data_dir/journal/<random id>/NNNNNN.log`.

    Everything but `seal` and `recover` belongs to the event loop that called `start`. While `degraded` names a fault
    the disk takes nothing: appends wait in memory (so a message appended then does not survive a killed process),
    waiters of `synced` get OSError at each failed try, and each try goes to a fresh segment.
    """

    def __init__(
        self,
        data_dir: Path,
        recordings: Recordings,
        *,
        limits: JournalLimits | None = None,
        on_health: Callable[[str | None], None] = lambda fault: None,
        disk: Disk | None = None,
    ) -> None:
        """`on_health` hears, on the event loop, the fault when the journal degrades and None when it is well again."""
        self.degraded: str | None = None
        self._root = data_dir / "journal"
        self._quarantine = data_dir / "quarantine"
        self._recordings = recordings
        self._limits = limits or JournalLimits()
        self._on_health = on_health
        self._disk = disk or Disk()
        self._calls: dict[str, JournalledCall] = {}
        self._calls_in_segment: dict[Path, set[str]] = {}
        self._adopted: list[AdoptedJournal] = []
        self._batch = RecordBatch(secrets.token_bytes(MARKER_BYTES))
        self._position = self._safe_position = 0
        self._unsynced_bytes = self._unqueued_bytes = 0
        self._with_pending_audio: dict[str, JournalledCall] = {}
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._dirty, self._stopping = asyncio.Event(), asyncio.Event()
        self._commits = ThreadPoolExecutor(1, thread_name_prefix="journal-commit")
        self._copies = ThreadPoolExecutor(1, thread_name_prefix="journal-copy")

    async def start(self) -> None:
        """Create this process's journal and begin to commit. Raises OSError."""
        loop = asyncio.get_running_loop()
        name = secrets.token_hex(8)
        self._directory, self._lock = await loop.run_in_executor(
            self._copies, create_locked_directory, self._root, name
        )
        self._log = CommitLog(
            self._directory, self._batch.marker, segment_bytes=self._limits.segment_bytes, disk=self._disk
        )
        self._task = loop.create_task(self._run(), name="journal-commit")

    async def stop(self) -> None:
        """Commit what is left and close; calls not released are found by the next process's `recover`.

        Raises OSError when something could not be made safe, and whatever else ended the commits.
        """
        self._stopping.set()
        self._dirty.set()
        try:
            await self._task
        finally:
            self._commits.shutdown()
            self._copies.shutdown()
            self._log.close()
            for journal in self._adopted:
                journal.close()
            if not self._calls and self.degraded is None:
                remove_directory(self._directory)
            os.close(self._lock)
        if self.degraded is not None:
            raise OSError(EIO, f"the journal closed while degraded: {self.degraded}")

    # --- appending ---------------------------------------------------------------------------------------------

    def open_call(self, call_id: str, header: bytes) -> int:
        """Begin a call. `header` is a JSON object with at least `rate_hz` and `channels`; the rest is the caller's.

        Raises ValueError for an unsafe or known call id or a bad header, JournalFull.
        """
        layout = AudioLayout.from_header(header)
        if checked_call_id(call_id) in self._calls:
            raise ValueError(f"call {call_id} is in the journal already")
        if len(header) > MAX_PAYLOAD_BYTES:
            raise ValueError(f"a call's header holds at most {MAX_PAYLOAD_BYTES} bytes, not {len(header)}")
        self._reserve(len(header))
        self._calls[call_id] = call = JournalledCall(call_id, header, layout)
        return self._append_now(call.opening())

    def append_audio(self, call_id: str, first_sample: int, pcm: bytes) -> int:
        """Append interleaved s16le PCM that begins at sample `first_sample` of each channel.

        Raises ValueError for an unknown or closed call, a torn sample or a recording past what a WAV file holds, and
        JournalFull; nothing was appended then.
        """
        call = self._call_to_append(call_id)
        end_sample = call.end_of(first_sample, pcm)
        if end_sample * call.layout.block_bytes > MAX_WAV_DATA_BYTES:
            raise ValueError(f"call {call_id}: sample {end_sample} is past what a WAV file holds")
        self._reserve(len(pcm))
        for record in call.add_audio(first_sample, pcm):
            self._batch.add(record)
        self._with_pending_audio[call_id] = call
        return self._appended()

    def append_message(self, call_id: str, seq: int, payload: bytes) -> int:
        """Append a server message, after all audio so far; it survives a killed process as soon as this returns.

        Raises ValueError for an unknown or closed call or more than 4 MiB, and JournalFull.
        """
        self._call_to_append(call_id)
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise ValueError(f"a journalled message holds at most {MAX_PAYLOAD_BYTES} bytes, not {len(payload)}")
        self._reserve(len(payload))
        return self._append_now(Record(Kind.MESSAGE, call_id, seq, payload))

    def close_call(self, call_id: str) -> int:
        """Note that the call has hung up. Raises ValueError for an unknown or closed call."""
        call = self._call_to_append(call_id)
        call.closed = True
        return self._append_now(Record(Kind.CLOSE, call_id))

    async def release(self, call_id: str) -> None:
        """Forget a call whose recording is sealed and whose messages are kept elsewhere; again does nothing.

        Its records go with the last call of their segments. Raises OSError when an earlier process's journal
        cannot be changed; the call is then recovered once more at the next start.
        """
        if call_id not in self._calls or self._calls[call_id].released:
            return
        call = self._calls[call_id]
        call.released = True
        call.drop_pending()
        self._append_now(Record(Kind.RELEASE, call_id))
        loop = asyncio.get_running_loop()
        for journal in list(self._adopted):
            await loop.run_in_executor(self._copies, journal.release, call_id, self._disk)
        self._adopted = [journal for journal in self._adopted if journal.unreleased]

    def _call_to_append(self, call_id: str) -> JournalledCall:
        call = self._calls.get(call_id)
        if call is None or call.closed or call.released:
            state = "not open in this journal" if call is None or call.released else "closed"
            raise ValueError(f"call {call_id[:80]!r} is {state}")
        if call.must_reopen:
            call.must_reopen = False
            self._batch.add(call.opening())
        return call

    def _reserve(self, data_bytes: int) -> None:
        if self._unsynced_bytes + data_bytes > self._limits.max_unsynced_bytes:
            raise JournalFull(self._limits.max_unsynced_bytes)
        self._unsynced_bytes += data_bytes
        self._unqueued_bytes += data_bytes

    def _appended(self) -> int:
        self._position += 1
        self._dirty.set()
        return self._position

    def _append_now(self, record: Record) -> int:
        """Append `record` behind all audio that waits, and hand everything to the operating system."""
        self._gather_audio()
        self._batch.add(record)
        position = self._appended()
        self._enqueue_batch()
        # A fault here is the commit's to mend or report: it tries a fresh segment with everything not known safe.
        with suppress(OSError):
            self._log.write_through()
        return position

    def _gather_audio(self) -> None:
        for call in self._with_pending_audio.values():
            if call.has_pending:
                self._batch.add(call.take_pending())
        self._with_pending_audio.clear()

    def _enqueue_batch(self) -> None:
        block = self._batch.take(self._position, self._unqueued_bytes)
        if block is not None:
            self._unqueued_bytes = 0
            self._log.enqueue(block)

    # --- committing --------------------------------------------------------------------------------------------

    async def synced(self, position: int) -> None:
        """Return once everything up to `position` would survive a power cut.

        Raises OSError when the disk did not take it this time (it is tried again: ask again later) and ValueError
        for a position that no append returned.
        """
        if position <= self._safe_position:
            return
        if position > self._position:
            raise ValueError(f"position {position} is past the journal's end, {self._position}")
        if self._task.done():
            raise OSError(EIO, "the journal has stopped")
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append((position, waiter))
        await waiter

    async def _run(self) -> None:
        interval_ms = self._limits.commit_interval_ms
        try:
            while True:
                await self._dirty.wait()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), interval_ms / 1000)
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
        self._gather_audio()
        self._enqueue_batch()
        try:
            blocks = await asyncio.get_running_loop().run_in_executor(self._commits, self._log.commit)
        except OSError as fault:
            self._note_health(str(fault))
            self._fail_waiters(fault)
            self._dirty.set()
            return False
        released = [self._settle(block) for block in blocks]
        if any(released):
            await asyncio.get_running_loop().run_in_executor(self._commits, self._drop_segments)
        if self._safe_position < self._position:
            self._dirty.set()
        self._note_health(None)
        reached = [waiter for position, waiter in self._waiters if position <= self._safe_position]
        self._waiters = [pair for pair in self._waiters if pair[0] > self._safe_position]
        for waiter in reached:
            if not waiter.done():
                waiter.set_result(None)
        return True

    def _settle(self, block: Block) -> bool:
        """Take note that `block` is safe and where its audio lies; True when it releases a call."""
        self._safe_position = block.position
        self._unsynced_bytes -= block.reserved_bytes
        released = False
        present = self._calls_in_segment.setdefault(block.segment, set())
        for entry in block.entries:
            present.add(entry.call_id)
            call = self._calls.get(entry.call_id)
            if call is not None and entry.kind is Kind.AUDIO:
                call.note_extent(block.segment, block.offset_bytes + entry.begin_bytes, entry.size_bytes)
            if call is not None and entry.kind is Kind.RELEASE:
                del self._calls[entry.call_id]
                released = True
        return released

    def _drop_segments(self) -> None:
        """Remove the oldest segments while every call in them is released.

        In order only, so that the note of a release never goes before the records it covers.
        """
        for path in segment_paths(self._directory):
            if path == self._log.current_segment or not self._calls_in_segment.get(path, set()).isdisjoint(self._calls):
                return
            try:
                remove_durably(path)
            except OSError as fault:  # harmless but for the space it takes: recovery finds its calls released
                log.warning("journal_segment_not_removed", segment=str(path), fault=str(fault))
            self._calls_in_segment.pop(path, None)

    def _note_health(self, fault: str | None) -> None:
        changed = (fault is None) != (self.degraded is None)
        self.degraded = fault
        if changed:
            self._on_health(fault)

    def _fail_waiters(self, fault: OSError) -> None:
        waiters, self._waiters = self._waiters, []
        for _, waiter in waiters:
            if not waiter.done():
                waiter.set_exception(OSError(fault.errno, f"not safe: {fault}"))

    # --- sealing and recovering ----------------------------------------------------------------------------------

    async def seal(self, call_id: str) -> Path:
        """As `seal_call`, for those who need only the file."""
        return (await self.seal_call(call_id)).path

    async def seal_call(self, call_id: str) -> SealedRecording:
        """Copy the call's audio to its WAV file, durably; a file sealed earlier stays as it is.

        Raises OSError when the disk does not take it (try again), ValueError for a call the journal does not know.
        """
        path = self._recordings.path(call_id)
        loop = asyncio.get_running_loop()
        earlier = await loop.run_in_executor(self._copies, sealed_already, path)
        if earlier is not None:
            return earlier
        await self.synced(self._position)
        call = self._calls.get(call_id)
        if call is None or call.layout.rate_hz == 0:
            raise ValueError(f"call {call_id} has no audio in this journal")
        sealed = await loop.run_in_executor(
            self._copies, seal_recording, path, call.layout.rate_hz, call.layout.channels, call.extents()
        )
        if sealed.unreadable_records:
            log.error("journal_records_unreadable", call_id=call_id, records=sealed.unreadable_records)
        return sealed

    async def recover(self) -> Recovery:
        """Take over the unfinished calls of processes that are gone: they can be sealed, continued and released.

        Raises OSError when the disk cannot be read or the quarantine not written.
        """
        loop = asyncio.get_running_loop()
        findings: Findings = await loop.run_in_executor(self._copies, adopt_abandoned, self._root, self._quarantine)
        self._adopted += findings.journals
        for found in findings.calls:
            call = self._calls.get(found.call_id)
            if call is None:
                layout = AudioLayout(found.rate_hz, found.channels)
                call = JournalledCall(found.call_id, found.header, layout, must_reopen=True)
                self._calls[found.call_id] = call
            call.adopt_extents(found.extents)
        for part in findings.quarantined:
            log.error("journal_part_quarantined", journal=part.journal, segment=part.segment, reason=part.reason)
        return Recovery(tuple(found.recovered() for found in findings.calls), findings.quarantined)
