"""The append-only log of one ingest process: audio and server messages of all its calls, safe in one sync."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from errno import EIO
from functools import partial
from pathlib import Path
from typing import Protocol

from gateway.ports import AudioListener
from gateway.stores.adopted_journals import AdoptedJournals
from gateway.stores.call_ids import checked_call_id
from gateway.stores.commit_log import Block, CommitLog
from gateway.stores.durable_files import Disk
from gateway.stores.file_thread import FileThread
from gateway.stores.group_commit import GroupCommit, JournalFull, JournalLimits
from gateway.stores.journal_calls import AudioLayout, JournalledCall, JournalledCalls, RecordBatch
from gateway.stores.journal_cleaning import SegmentCleaning, SegmentLedger
from gateway.stores.journal_reading import JournalReader
from gateway.stores.journal_records import MARKER_BYTES, MAX_PAYLOAD_BYTES, Kind, Record, encode_parts
from gateway.stores.journal_segments import create_locked_directory, remove_directory
from gateway.stores.journal_settling import Settlement
from gateway.stores.recordings import Recordings
from gateway.stores.sealing import MAX_WAV_DATA_BYTES

__all__ = ["FileJournal", "JournalFull", "JournalLimits"]


class Follower(Protocol):
    """Hears, on the event loop, of what the journal writes."""

    def note_block(self, block: Block) -> None:
        """Records were put together, not yet safe. Each record is in exactly one block."""

    def note_commit(self) -> None:
        """A sync begins, of all blocks so far."""


class FileJournal:
    """The Journal port on local files, in `data_dir/journal/<random id>/NNNNNN.log`.

    Here calls are appended to: records gather in a batch, which becomes a block of the log, which a commit makes safe;
    then it is settled. What stands on the disk is read by `reader` and kept small by `cleaning`; the calls of others
    come by `adopted`. All of them share the calls and belong to the event loop that called `start`.

    While `degraded` names a fault the disk takes nothing: appends wait in memory (so a message appended then does not
    survive a killed process), waiters of `synced` get OSError at each failed try, and each try goes to a fresh segment.
    """

    def __init__(
        self,
        data_dir: Path,
        recordings: Recordings,
        *,
        limits: JournalLimits | None = None,
        on_health: Callable[[str | None], None] = lambda fault: None,
        disk: Disk | None = None,
        follower: Follower | None = None,
    ) -> None:
        """`on_health` hears, on the event loop, the fault when the journal degrades and None when it is well again."""
        limits, disk = limits or JournalLimits(), disk or Disk()
        self._follower = follower
        self._directory = data_dir / "journal" / secrets.token_hex(8)
        self._files = FileThread()
        self._calls = calls = JournalledCalls()
        self._batch = batch = RecordBatch(secrets.token_bytes(MARKER_BYTES))
        self._complete_position = 0
        """Every append up to here is in a block."""
        self._log = CommitLog(self._directory, batch.marker, segment_bytes=limits.segment_bytes, disk=disk)
        self._commits = GroupCommit(self._log, limits, enqueue_all=self._begin_commit, on_health=on_health)
        self._segments = SegmentLedger()
        self.cleaning = SegmentCleaning(
            calls, self._segments, batch, self._log, self._commits, self._files, limits.few_segments
        )
        self._settlement = Settlement(calls, self._segments, self.cleaning, note_others=follower is not None)
        self.reader = JournalReader(calls, self._commits, recordings, self._files)
        self.adopted = AdoptedJournals(data_dir, calls, recordings, self._files, disk)

    async def start(self) -> None:
        """Create this process's journal and begin to commit. Raises OSError."""
        _, self._lock = await self._files.run(
            partial(create_locked_directory, self._directory.parent, self._directory.name)
        )
        await self._commits.start(self._settlement.settle, self._settlement.note_fault)

    async def stop(self) -> None:
        """Commit what is left and close; calls not released are found by the next process's `recover`.

        Raises OSError when something could not be made safe, and whatever else ended the commits.
        """
        await self.cleaning.stop()
        try:
            await self._commits.stop()
        finally:
            self._files.close()
            self.adopted.close()
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

    @property
    def crowded(self) -> bool:
        """Whether so much waits for the disk already that no new call should begin."""
        return self._commits.crowded

    @property
    def backlog_bytes(self) -> int:
        """What waits in memory for the disk."""
        return self._commits.backlog_bytes

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

    def begin_epoch(self, call_id: str, epoch: int, header: bytes) -> None:
        """What is appended to a call from here on is of `epoch`; a call that is not here begins. Raises ValueError."""
        call = self._calls.get(call_id)
        if call is None:
            self.open_call(call_id, header, epoch)
        elif epoch > call.epoch:
            call.epoch, call.must_reopen, call.closed = epoch, True, False

    def append_audio(self, call_id: str, first_sample: int, pcm: bytes) -> int:
        """Append interleaved s16le PCM that begins at sample `first_sample` of each channel.

        Raises ValueError for an unknown or closed call, a torn sample or a recording past what a WAV file holds, and
        JournalFull; nothing was appended then.
        """
        commits, known = self._commits, self._calls.get(call_id)
        if known is not None and commits.has_memory(len(pcm)) and known.extend(first_sample, pcm):
            commits.reserve(len(pcm))
            self._batch.with_audio[call_id] = known
            return commits.appended()
        call = self._call_to_append(call_id, still_open=True)
        end_sample = call.end_of(first_sample, pcm)
        if end_sample * call.layout.block_bytes > MAX_WAV_DATA_BYTES:
            raise ValueError(f"call {call_id}: sample {end_sample} is past what a WAV file holds")
        self._commits.reserve(len(pcm))
        for record in call.add_audio(first_sample, pcm):
            self._batch.add(record)
        self._batch.with_audio[call_id] = call
        return self._commits.appended()

    @property
    def call_ids(self) -> frozenset[str]:
        """Calls that are not released."""
        return frozenset(call_id for call_id, call in self._calls.items() if not call.released)

    @property
    def position(self) -> int:
        """That of the latest append."""
        return self._commits.position

    def append_message(self, call_id: str, seq: int, payload: bytes) -> int:
        """Append a server message, after all audio so far; it survives a killed process as soon as this returns.

        Messages may follow the hangup. Raises ValueError for an unknown call or more than 4 MiB, and JournalFull.
        """
        epoch = self._call_to_append(call_id).epoch
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise ValueError(f"a journalled message holds at most {MAX_PAYLOAD_BYTES} bytes, not {len(payload)}")
        self._commits.reserve(len(payload))
        return self._append_now(Record(Kind.MESSAGE, call_id, seq, payload, epoch=epoch))

    def append_event(self, call_id: str, ordinal: int, payload: bytes, *, at_once: bool) -> int:
        """Append what happened to the call. It survives a killed process as soon as this returns if `at_once`, else
        with the next message of any call, and at the latest with the next commit.

        Raises ValueError for an unknown call or more than 4 MiB, and JournalFull.
        """
        call = self._call_to_append(call_id)
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise ValueError(f"a journalled event holds at most {MAX_PAYLOAD_BYTES} bytes, not {len(payload)}")
        self._commits.reserve(len(payload))
        if at_once:
            return self._append_now(Record(Kind.EVENT, call_id, ordinal, payload, epoch=call.epoch))
        batch = self._batch
        batch.put(call_id, Kind.EVENT, encode_parts(batch.marker, Kind.EVENT, call.name, ordinal, payload, call.epoch))
        return self._commits.appended()

    def close_call(self, call_id: str) -> int:
        """Note that the call has hung up; again does nothing. Raises ValueError for an unknown call."""
        call = self._call_to_append(call_id)
        if call.closed:
            return self._commits.position
        call.closed = True
        return self._append_now(Record(Kind.CLOSE, call_id, epoch=call.epoch))

    async def release(self, call_id: str) -> None:
        """Forget a call whose recording is sealed and whose messages are kept elsewhere; again does nothing.

        Its records go with the last call of their segments. Raises OSError when an earlier process's journal
        cannot be changed; the call is then recovered once more at the next start.
        """
        call = self._calls.unreleased(call_id)
        if call is None:
            return
        call.released = True
        call.drop_pending()
        self._append_now(Record(Kind.RELEASE, call_id))
        await self.adopted.release(call_id)

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
        """Append `record` behind its call's audio, and hand both to the operating system."""
        self._batch.gather_audio_of(record.call_id)
        self._batch.add(record)
        position = self._commits.appended()
        self._hand_over_batch()
        return position

    def hand_over(self, call_ids: Iterable[str]) -> None:
        """Hand what waits of these calls to the operating system, in one write: it survives a killed process then."""
        for call_id in call_ids:
            self._batch.gather_audio_of(call_id)
        self._hand_over_batch()

    def _hand_over_batch(self) -> None:
        self._enqueue_batch()
        # A fault here is the commit's to mend or report: it tries a fresh segment with everything not known safe.
        with suppress(OSError):
            self._log.write_through()

    def _enqueue_batch(self) -> None:
        if self._batch.empty:
            return
        # While audio of other calls waits, not everything up to the latest position is in blocks, and what was
        # reserved for that audio goes back with the block that has it.
        reserved_bytes = 0
        if not self._batch.with_audio:
            self._complete_position = self._commits.position
            reserved_bytes = self._commits.reserved_since_last_block()
        block = self._batch.take(self._complete_position, reserved_bytes)
        self._log.enqueue(block)
        if self._follower is not None:
            self._follower.note_block(block)

    def _begin_commit(self) -> None:
        self._batch.gather_audio()
        self._enqueue_batch()
        if self._follower is not None:
            self._follower.note_commit()

    def tell(self, listener: AudioListener) -> None:
        """Have this one listener hear how far each call's audio is safe."""
        self._settlement.listener = listener

    async def synced(self, position: int) -> None:
        """Return once everything up to `position` would survive a power cut.

        Raises OSError when the disk did not take it this time (it is tried again: ask again later) and ValueError
        for a position that no append returned.
        """
        await self._commits.synced(position)

    # --- afterwards --------------------------------------------------------------------------------------------

    async def seal(self, call_id: str) -> Path:
        """As `JournalReader.seal`, for those who need only the file."""
        return (await self.reader.seal(call_id)).path

    async def publish(self, call_id: str) -> Path:
        """As `JournalReader.publish`."""
        return await self.reader.publish(call_id)

    async def read_back(self, call_id: str) -> tuple[int, AsyncIterator[bytes]]:
        """As `JournalReader.read_back`."""
        return await self.reader.read_back(call_id)

    async def erase(self, call_id: str) -> bool:
        """Take what a call has left in this journal off the disk, released or not; others lose nothing.

        What else stands in its segments is copied to the journal's end first. False while something of it stays: an
        earlier process's journal goes with its last call only. Raises OSError while the disk takes nothing.
        """
        await self.release(call_id)
        await self.synced(self._commits.position)
        held = self._segments.holding(call_id)
        if (current := self._log.current_segment) in held:
            while self._log.current_segment == current:  # a commit under way may have chosen its segment already
                self._log.retire_segment()
                # Only what is appended brings a commit about, and a note again says nothing new.
                await self.synced(self._append_now(Record(Kind.RELEASE, call_id)))
        return await self.cleaning.empty(held) and not self.adopted.still_hold(call_id)
