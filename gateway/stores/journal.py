"""The append-only log of one ingest process: audio and server messages of all its calls, safe in one sync."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import suppress
from errno import EIO
from functools import partial
from pathlib import Path
from typing import Protocol

import structlog

from gateway.ports import AudioListener
from gateway.stores.adopted_journals import AdoptedJournals
from gateway.stores.call_ids import checked_call_id
from gateway.stores.commit_log import Block, CommitLog
from gateway.stores.durable_files import Disk, remove_durably
from gateway.stores.file_thread import FileThread
from gateway.stores.group_commit import GroupCommit, JournalFull, JournalLimits
from gateway.stores.journal_calls import AudioLayout, JournalledCall, JournalledCalls, RecordBatch
from gateway.stores.journal_cleaning import Copied, SegmentLedger, records_to_keep
from gateway.stores.journal_reading import JournalReader
from gateway.stores.journal_records import MARKER_BYTES, MAX_PAYLOAD_BYTES, Kind, Record, encode_parts
from gateway.stores.journal_segments import create_locked_directory, remove_directory
from gateway.stores.recordings import Recordings
from gateway.stores.sealing import MAX_WAV_DATA_BYTES

__all__ = ["FileJournal", "JournalFull", "JournalLimits"]

log = structlog.get_logger(__name__)


class Follower(Protocol):
    """Hears, on the event loop, of what the journal writes."""

    def note_block(self, block: Block) -> None:
        """Records were put together, not yet safe. Each record is in exactly one block."""

    def note_commit(self) -> None:
        """A sync begins, of all blocks so far."""


_SETTLED_AT_A_TIME = 256


class FileJournal:
    """The Journal port on local files, in `data_dir/journal/<random id>/NNNNNN.log`.

    What stands on the disk is read by `reader`; the calls of others come by `adopted`. All of it belongs to the event
    loop that called `start`.

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
        self._follower = follower
        self._limits = limits or JournalLimits()
        disk = disk or Disk()
        self._directory = data_dir / "journal" / secrets.token_hex(8)
        self._files = FileThread()
        self._calls = JournalledCalls()
        self._with_pending_audio: dict[str, JournalledCall] = {}
        self._segments = SegmentLedger()
        self._cleaning: asyncio.Task[None] | None = None
        self.copied_bytes = 0
        """Written only to free old segments: see `journal_cleaning`."""
        self._batch = RecordBatch(secrets.token_bytes(MARKER_BYTES))
        self._complete_position = 0
        """Every append up to here is in a block."""
        self._audio_listener: AudioListener | None = None
        self._log = CommitLog(self._directory, self._batch.marker, segment_bytes=self._limits.segment_bytes, disk=disk)
        self._commits = GroupCommit(
            self._log,
            self._limits,
            enqueue_all=self._begin_commit,
            on_safe=self._settle,
            on_health=on_health,
            on_fault=self._tell_fault,
        )
        self.reader = JournalReader(self._calls, self._commits, recordings, self._files)
        self.adopted = AdoptedJournals(data_dir, self._calls, recordings, self._files, disk)

    async def start(self) -> None:
        """Create this process's journal and begin to commit. Raises OSError."""
        _, self._lock = await self._files.run(
            partial(create_locked_directory, self._directory.parent, self._directory.name)
        )
        await self._commits.start()

    async def stop(self) -> None:
        """Commit what is left and close; calls not released are found by the next process's `recover`.

        Raises OSError when something could not be made safe, and whatever else ended the commits.
        """
        if self._cleaning is not None:
            self._cleaning.cancel()
            await asyncio.gather(self._cleaning, return_exceptions=True)
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

    def fence(self, call_id: str, epoch: int) -> None:
        """Write the call under a higher epoch from here on: what others write under lower ones is void.

        Raises ValueError for an unknown call, or an epoch that is not higher.
        """
        call = self._call_to_append(call_id)
        if epoch <= call.epoch:
            raise ValueError(f"call {call_id} is written under epoch {call.epoch}, which {epoch} is not above")
        call.epoch, call.must_reopen = epoch, True

    def append_audio(self, call_id: str, first_sample: int, pcm: bytes) -> int:
        """Append interleaved s16le PCM that begins at sample `first_sample` of each channel.

        Raises ValueError for an unknown or closed call, a torn sample or a recording past what a WAV file holds, and
        JournalFull; nothing was appended then.
        """
        commits, known = self._commits, self._calls.get(call_id)
        if known is not None and commits.has_memory(len(pcm)) and known.extend(first_sample, pcm):
            commits.reserve(len(pcm))
            self._with_pending_audio[call_id] = known
            return commits.appended()
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
        if call_id not in self._calls or self._calls[call_id].released:
            return
        call = self._calls[call_id]
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
        self._gather_audio_of(record.call_id)
        self._batch.add(record)
        position = self._commits.appended()
        self._hand_over_batch()
        return position

    def hand_over(self, call_ids: Iterable[str]) -> None:
        """Hand what waits of these calls to the operating system, in one write: it survives a killed process then."""
        for call_id in call_ids:
            self._gather_audio_of(call_id)
        self._hand_over_batch()

    def _hand_over_batch(self) -> None:
        self._enqueue_batch()
        # A fault here is the commit's to mend or report: it tries a fresh segment with everything not known safe.
        with suppress(OSError):
            self._log.write_through()

    def _gather_audio_of(self, call_id: str) -> None:
        call = self._with_pending_audio.pop(call_id, None)
        if call is not None and call.has_pending:
            call.move_pending(self._batch)

    def _enqueue_all(self) -> None:
        for call in self._with_pending_audio.values():
            if call.has_pending:
                call.move_pending(self._batch)
        self._with_pending_audio.clear()
        self._enqueue_batch()

    def _enqueue_batch(self) -> None:
        if self._batch.empty:
            return
        # While audio of other calls waits, not everything up to the latest position is in blocks, and what was
        # reserved for that audio goes back with the block that has it.
        reserved_bytes = 0
        if not self._with_pending_audio:
            self._complete_position = self._commits.position
            reserved_bytes = self._commits.reserved_since_last_block()
        block = self._batch.take(self._complete_position, reserved_bytes)
        self._log.enqueue(block)
        if self._follower is not None:
            self._follower.note_block(block)

    def _begin_commit(self) -> None:
        self._enqueue_all()
        if self._follower is not None:
            self._follower.note_commit()

    def tell(self, listener: AudioListener) -> None:
        """Have this one listener hear how far each call's audio is safe."""
        self._audio_listener = listener

    def _tell_fault(self, fault: OSError) -> None:
        if self._audio_listener is not None:
            self._audio_listener.note_fault(str(fault))

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
        safe_samples: dict[str, int] = {}
        calls, note, audio, release = self._calls, self._segments.note, Kind.AUDIO, Kind.RELEASE
        for block in blocks:
            segment, offset_bytes = block.segment, block.offset_bytes
            for number, (call_id, kind, begin_bytes, size_bytes, again, end_sample) in enumerate(block.entries):
                if number % _SETTLED_AT_A_TIME == _SETTLED_AT_A_TIME - 1:
                    await asyncio.sleep(0)  # a commit of a thousand calls is not to hold up their audio
                note(segment, call_id, size_bytes)
                call = calls.get(call_id)
                if call is None:
                    continue
                if kind is audio:
                    call.note_extent(segment, offset_bytes + begin_bytes, size_bytes)
                    if not again:
                        safe_samples[call_id] = end_sample
                elif kind is release:
                    del calls[call_id]
                    released = True
                elif self._follower is not None:
                    call.note_other(segment, offset_bytes + begin_bytes, size_bytes)
        if self._audio_listener is not None and safe_samples:
            self._audio_listener.note_safe(safe_samples, self._commits.safe_position)
        if released:
            done_with = self._segments.done_with(self._log.current_segment, self._calls)
            for path in await self._commits.in_commit_thread(partial(_remove_segments, done_with)):
                self._segments.forget(path)
        # Here every block of a finished segment is safe and accounted for; between two commits it need not be.
        if self._cleaning is None or self._cleaning.done():
            self._clean_one()

    # --- cleaning ------------------------------------------------------------------------------------------------

    def _clean_one(self) -> None:
        path = self._segments.worth_emptying(self._log.current_segment, self._calls, self._limits.few_segments)
        if path is not None:
            self._cleaning = asyncio.get_running_loop().create_task(self._clean(path), name="journal-cleaning")

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
        for path in held:
            while self._cleaning is not None and not self._cleaning.done():
                await asyncio.wait([self._cleaning])
            if path in self._segments:
                self._cleaning = asyncio.get_running_loop().create_task(self._clean(path), name="journal-erasing")
                await asyncio.wait([self._cleaning])
        return not any(path in self._segments for path in held) and not self.adopted.still_hold(call_id)

    async def _clean(self, path: Path) -> None:
        """Copy what is live in a segment to the journal's end, and drop the segment once the copies are safe.

        A crash on the way leaves records twice, which recovery counts once. A fault leaves the segment as it is.
        """
        try:
            noted = self._segments.calls_elsewhere(path) - self._calls.keys()
            for portion in await self._files.run(partial(records_to_keep, path, frozenset(self._calls), noted)):
                await self.synced(self._append_copies(portion, noted))
        except OSError as fault:
            if path in self._segments:  # else its last call was released meanwhile, and it is gone
                log.warning("journal_segment_not_cleaned", segment=str(path), fault=str(fault))
                self._segments.spare(path)
            return
        for call in self._calls.values():
            call.forget_extents(path)
        # Behind every seal that still reads the old place: one thread does both.
        if await self._files.run(partial(_remove_segments, [path])):
            self._segments.forget(path)
        else:
            self._segments.spare(path)

    def _append_copies(self, portion: list[Copied], noted: Collection[str]) -> int:
        kept = [
            copied
            for copied in portion
            if copied.call_id in noted or (copied.call_id in self._calls and not self._calls[copied.call_id].released)
        ]
        if not kept:  # nothing would come of waiting for an append that brought nothing
            return self._commits.position
        size_bytes = sum(len(copied.data) for copied in kept)
        self._commits.reserve(size_bytes)
        for copied in kept:
            self._batch.add_copy(copied.call_id, copied.kind, copied.data)
        self.copied_bytes += size_bytes
        return self._commits.appended()

    # --- sealing and recovering ----------------------------------------------------------------------------------

    async def seal(self, call_id: str) -> Path:
        """As `JournalReader.seal`, for those who need only the file."""
        return (await self.reader.seal(call_id)).path

    async def publish(self, call_id: str) -> Path:
        """As `JournalReader.publish`."""
        return await self.reader.publish(call_id)

    async def read_back(self, call_id: str) -> tuple[int, AsyncIterator[bytes]]:
        """As `JournalReader.read_back`."""
        return await self.reader.read_back(call_id)

    def begin_epoch(self, call_id: str, epoch: int, header: bytes) -> None:
        """What is appended to a call from here on is of `epoch`; a call that is not here begins. Raises ValueError."""
        call = self._calls.get(call_id)
        if call is None:
            self.open_call(call_id, header, epoch)
        elif epoch > call.epoch:
            call.epoch, call.must_reopen, call.closed = epoch, True, False


def _remove_segments(paths: list[Path]) -> list[Path]:
    """Remove segments in their order and return those that are gone: what follows one that stays, stays too.

    A later segment may hold the note that a call of an earlier one is released, and must not go before it.
    """
    gone = []
    for path in paths:
        try:
            remove_durably(path)
        except OSError as fault:  # harmless but for the space it takes: it is tried again at the next release
            log.warning("journal_segment_not_removed", segment=str(path), fault=str(fault))
            break
        gone.append(path)
    return gone
