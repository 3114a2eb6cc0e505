"""The append-only log of one ingest process: audio and server messages of all its calls, safe in one sync."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from errno import EIO
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from gateway.stores.call_ids import checked_call_id
from gateway.stores.commit_log import Block, CommitLog
from gateway.stores.durable_files import Disk, remove_durably
from gateway.stores.group_commit import GroupCommit, JournalFull, JournalLimits
from gateway.stores.journal_calls import AudioLayout, JournalledCall, RecordBatch
from gateway.stores.journal_found import RecoveredCall
from gateway.stores.journal_records import MARKER_BYTES, MAX_PAYLOAD_BYTES, Kind, Record
from gateway.stores.journal_segments import create_locked_directory, remove_directory
from gateway.stores.recordings import Recordings
from gateway.stores.recovery import AdoptedJournal, Findings, Quarantined, adopt_abandoned
from gateway.stores.sealing import MAX_WAV_DATA_BYTES, SealedRecording, seal_recording, sealed_already

__all__ = ["FileJournal", "JournalFull", "JournalLimits", "Quarantined", "RecoveredCall", "Recovery", "SealedRecording"]

log = structlog.get_logger(__name__)

T = TypeVar("T")


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
        self._root = data_dir / "journal"
        self._quarantine = data_dir / "quarantine"
        self._recordings = recordings
        self._limits = limits or JournalLimits()
        self._on_health = on_health
        self._disk = disk or Disk()
        self._calls: dict[str, JournalledCall] = {}
        self._with_pending_audio: dict[str, JournalledCall] = {}
        self._calls_in_segment: dict[Path, set[str]] = {}
        self._adopted: list[AdoptedJournal] = []
        self._batch = RecordBatch(secrets.token_bytes(MARKER_BYTES))
        self._copies = ThreadPoolExecutor(1, thread_name_prefix="journal-copy")

    async def start(self) -> None:
        """Create this process's journal and begin to commit. Raises OSError."""
        self._directory, self._lock = await self._copy(
            partial(create_locked_directory, self._root, secrets.token_hex(8))
        )
        self._log = CommitLog(
            self._directory, self._batch.marker, segment_bytes=self._limits.segment_bytes, disk=self._disk
        )
        self._commits = GroupCommit(
            self._log,
            self._limits,
            enqueue_all=self._enqueue_all,
            on_safe=self._settle,
            on_health=self._on_health,
        )
        await self._commits.start()

    async def stop(self) -> None:
        """Commit what is left and close; calls not released are found by the next process's `recover`.

        Raises OSError when something could not be made safe, and whatever else ended the commits.
        """
        try:
            await self._commits.stop()
        finally:
            self._copies.shutdown()
            for journal in self._adopted:
                journal.close()
            if not self._calls and self.degraded is None:
                remove_directory(self._directory)
            os.close(self._lock)
        if self.degraded is not None:
            raise OSError(EIO, f"the journal closed while degraded: {self.degraded}")

    @property
    def degraded(self) -> str | None:
        """Why the disk does not take what is appended; None while it does."""
        return self._commits.degraded

    @property
    def safe_position(self) -> int:
        return self._commits.safe_position

    @property
    def has_room(self) -> bool:
        """Whether memory is left for audio that waits for the disk."""
        return self._commits.has_room

    # --- appending ---------------------------------------------------------------------------------------------

    def open_call(self, call_id: str, header: bytes, epoch: int = 0) -> int:
        """Begin a call. `header` is a JSON object with at least `rate_hz` and `channels`; the rest is the caller's.

        Of a call that several journals hold, what was written under the highest `epoch` counts.

        Raises ValueError for an unsafe or known call id or a bad header, JournalFull.
        """
        layout = AudioLayout.from_header(header)
        if checked_call_id(call_id) in self._calls:
            raise ValueError(f"call {call_id} is in the journal already")
        if len(header) > MAX_PAYLOAD_BYTES:
            raise ValueError(f"a call's header holds at most {MAX_PAYLOAD_BYTES} bytes, not {len(header)}")
        self._commits.reserve(len(header))
        self._calls[call_id] = call = JournalledCall(call_id, header, layout, epoch)
        return self._append_now(call.opening())

    def append_audio(self, call_id: str, first_sample: int, pcm: bytes) -> int:
        """Append interleaved s16le PCM that begins at sample `first_sample` of each channel.

        Raises ValueError for an unknown or closed call, a torn sample or a recording past what a WAV file holds, and
        JournalFull; nothing was appended then.
        """
        call = self._call_to_append(call_id, still_open=True)
        end_sample = call.end_of(first_sample, pcm)
        if end_sample * call.layout.block_bytes > MAX_WAV_DATA_BYTES:
            raise ValueError(f"call {call_id}: sample {end_sample} is past what a WAV file holds")
        self._commits.reserve(len(pcm))
        for record in call.add_audio(first_sample, pcm):
            self._batch.add(record)
        self._with_pending_audio[call_id] = call
        return self._commits.appended()

    @property
    def position(self) -> int:
        """That of the latest append."""
        return self._commits.position

    def append_message(self, call_id: str, seq: int, payload: bytes) -> int:
        """Append a server message, after all audio so far; it survives a killed process as soon as this returns.

        Messages may follow the hangup. Raises ValueError for an unknown call or more than 4 MiB, and JournalFull.
        """
        self._call_to_append(call_id)
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise ValueError(f"a journalled message holds at most {MAX_PAYLOAD_BYTES} bytes, not {len(payload)}")
        self._commits.reserve(len(payload))
        return self._append_now(Record(Kind.MESSAGE, call_id, seq, payload))

    def append_event(self, call_id: str, ordinal: int, payload: bytes, *, at_once: bool) -> int:
        """Append what happened to the call. It survives a killed process as soon as this returns if `at_once`, else
        with the next message of any call, and at the latest with the next commit.

        Raises ValueError for an unknown call or more than 4 MiB, and JournalFull.
        """
        self._call_to_append(call_id)
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise ValueError(f"a journalled event holds at most {MAX_PAYLOAD_BYTES} bytes, not {len(payload)}")
        self._commits.reserve(len(payload))
        record = Record(Kind.EVENT, call_id, ordinal, payload)
        if at_once:
            return self._append_now(record)
        self._batch.add(record)
        return self._commits.appended()

    def close_call(self, call_id: str) -> int:
        """Note that the call has hung up; again does nothing. Raises ValueError for an unknown call."""
        call = self._call_to_append(call_id)
        if call.closed:
            return self._commits.position
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
        for journal in list(self._adopted):
            await self._copy(partial(journal.release, call_id, self._disk))
        self._adopted = [journal for journal in self._adopted if journal.unreleased]

    def _call_to_append(self, call_id: str, *, still_open: bool = False) -> JournalledCall:
        call = self._calls.get(call_id)
        if call is None or call.released:
            raise ValueError(f"call {call_id[:80]!r} is not open in this journal")
        if still_open and call.closed:
            raise ValueError(f"call {call_id} is closed")
        if call.must_reopen:
            call.must_reopen = False
            self._batch.add(call.opening())
        return call

    def _append_now(self, record: Record) -> int:
        """Append `record` behind all audio that waits, and hand everything to the operating system."""
        self._gather_audio()
        self._batch.add(record)
        position = self._commits.appended()
        self._enqueue_all()
        # A fault here is the commit's to mend or report: it tries a fresh segment with everything not known safe.
        with suppress(OSError):
            self._log.write_through()
        return position

    def _gather_audio(self) -> None:
        for call in self._with_pending_audio.values():
            if call.has_pending:
                self._batch.add(call.take_pending())
        self._with_pending_audio.clear()

    def _enqueue_all(self) -> None:
        self._gather_audio()
        if not self._batch.empty:
            self._log.enqueue(self._batch.take(self._commits.position, self._commits.reserved_since_last_block()))

    # --- committing --------------------------------------------------------------------------------------------

    async def synced(self, position: int) -> None:
        """Return once everything up to `position` would survive a power cut.

        Raises OSError when the disk did not take it this time (it is tried again: ask again later) and ValueError
        for a position that no append returned.
        """
        await self._commits.synced(position)

    async def _settle(self, blocks: Sequence[Block]) -> None:
        """Take note where the safe blocks' audio lies and which calls they release."""
        released = False
        for block in blocks:
            present = self._calls_in_segment.setdefault(block.segment, set())
            for entry in block.entries:
                present.add(entry.call_id)
                call = self._calls.get(entry.call_id)
                if call is not None and entry.kind is Kind.AUDIO:
                    call.note_extent(block.segment, block.offset_bytes + entry.begin_bytes, entry.size_bytes)
                if call is not None and entry.kind is Kind.RELEASE:
                    del self._calls[entry.call_id]
                    released = True
        if released:
            await self._commits.in_commit_thread(partial(_remove_segments, self._segments_done_with()))

    def _segments_done_with(self) -> list[Path]:
        """The oldest segments while every call in them is released.

        In order only, so that the note of a release never goes before the records it covers.
        """
        done_with = []
        for path, present in self._calls_in_segment.items():
            if path == self._log.current_segment or any(call_id in self._calls for call_id in present):
                break
            done_with.append(path)
        for path in done_with:
            del self._calls_in_segment[path]
        return done_with

    # --- sealing and recovering ----------------------------------------------------------------------------------

    async def seal(self, call_id: str) -> Path:
        """As `seal_call`, for those who need only the file."""
        return (await self.seal_call(call_id)).path

    async def seal_call(self, call_id: str) -> SealedRecording:
        """Copy the call's audio to its WAV file, durably; a file sealed earlier stays as it is.

        Close the call first: what is appended after this is in no recording.

        Raises OSError when the disk does not take it (try again), ValueError for a call the journal does not know.
        """
        path = self._recordings.path(call_id)
        earlier = await self._copy(partial(sealed_already, path))
        if earlier is not None:
            return earlier
        await self.synced(self._commits.position)
        call = self._calls.get(call_id)
        if call is None or call.layout.rate_hz == 0:
            raise ValueError(f"call {call_id} has no audio in this journal")
        layout = call.layout
        sealed = await self._copy(partial(seal_recording, path, layout.rate_hz, layout.channels, call.extents()))
        if sealed.unreadable_records:
            log.error("journal_records_unreadable", call_id=call_id, records=sealed.unreadable_records)
        return sealed

    async def _copy(self, work: Callable[[], T]) -> T:
        """Run file work in the one thread for it, so that no two seals of a call meet."""
        return await asyncio.get_running_loop().run_in_executor(self._copies, work)

    async def recover(self) -> Recovery:
        """Take over the unfinished calls of processes that are gone: they can be sealed, continued and released.

        What they hold would survive a power cut. What is appended to them here is written under a higher epoch.

        Raises OSError when the disk cannot be read or the quarantine not written.
        """
        findings: Findings = await self._copy(partial(adopt_abandoned, self._root, self._quarantine))
        self._adopted += findings.journals
        for found in findings.calls:
            call = self._calls.get(found.call_id)
            if call is None:
                layout = AudioLayout(found.rate_hz, found.channels)
                call = JournalledCall(found.call_id, found.header, layout, found.epoch + 1, closed=found.closed)
                call.must_reopen = True
                self._calls[found.call_id] = call
            call.adopt(found.audio)
        for part in findings.quarantined:
            log.error("journal_part_quarantined", journal=part.journal, segment=part.segment, reason=part.reason)
        return Recovery(findings.calls, findings.quarantined)


def _remove_segments(paths: list[Path]) -> None:
    for path in paths:
        try:
            remove_durably(path)
        except OSError as fault:  # harmless but for the space it takes: recovery finds its calls released
            log.warning("journal_segment_not_removed", segment=str(path), fault=str(fault))
