"""Calls read back out of a journal: to their recordings, piece by piece, or where their audio stands."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import structlog

from gateway.stores.file_thread import FileThread
from gateway.stores.group_commit import GroupCommit
from gateway.stores.journal_calls import AudioLayout, JournalledCalls
from gateway.stores.recordings import Recordings
from gateway.stores.sealing import Place, SealedRecording, read_piece, seal_recording, sealed_already

log = structlog.get_logger(__name__)


class JournalReader:
    """Reads what is safe of `calls`, after waiting for what is not yet. Belongs to the event loop of the journal."""

    def __init__(self, calls: JournalledCalls, commits: GroupCommit, recordings: Recordings, files: FileThread) -> None:
        self._calls = calls
        self._commits = commits
        self._recordings = recordings
        self._files = files

    async def seal(self, call_id: str) -> SealedRecording:
        """Copy the call's audio to its WAV file, durably; a file sealed earlier stays as it is.

        Close the call first: what is appended after this is in no recording.

        Raises OSError when the disk does not take it (try again), ValueError for a call the journal does not know.
        """
        earlier = await self._files.run(partial(sealed_already, self._recordings.path(call_id)))
        if earlier is not None:
            return earlier
        await self._commits.synced(self._commits.position)
        call = self._calls.get(call_id)
        if call is None or call.layout.rate_hz == 0:
            raise ValueError(f"call {call_id} has no audio in this journal")
        layout = call.layout
        target = self._recordings.sealing_path(call_id)
        sealed = await self._files.run(partial(seal_recording, target, layout.rate_hz, layout.channels, call.extents()))
        if sealed.unreadable_records:
            log.error("journal_records_unreadable", call_id=call_id, records=sealed.unreadable_records)
        return sealed

    async def publish(self, call_id: str) -> Path:
        """Give the sealed recording the name by which it is found; again does nothing. Raises OSError (seal again)."""
        return await self._files.run(partial(self._recordings.publish, call_id))

    def audio_of(self, call_id: str) -> tuple[AudioLayout, dict[Path, list[tuple[int, int]]]] | None:
        """How a call's PCM is laid out, and where what is safe of it stands: segments, offsets and sizes in bytes. A
        copy, for a thread that reads it; segments may go meanwhile. None for a call that is not in this journal."""
        call = self._calls.unreleased(call_id)
        if call is None or call.layout.rate_hz == 0:
            return None
        return call.layout, call.extents()

    async def read_back(self, call_id: str) -> tuple[int, AsyncIterator[bytes]]:
        """Every record of a call in the order of its writing: up to which position, and their bytes in pieces.

        Raises OSError while the disk takes or gives nothing, ValueError for a call the journal does not know.
        """
        position = self._commits.position
        await self._commits.synced(position)
        call = self._calls.unreleased(call_id)
        if call is None:
            raise ValueError(f"call {call_id[:80]!r} is not in this journal")
        return position, self._pieces(call.every_record())

    async def _pieces(self, places: list[Place]) -> AsyncIterator[bytes]:
        while places:
            piece, places = await self._files.run(partial(read_piece, places))
            if piece:
                yield piece
