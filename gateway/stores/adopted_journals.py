"""Calls that this process did not begin: taken over from processes that are gone, and from other nodes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog

from gateway.stores.call_ids import checked_call_id
from gateway.stores.durable_files import Disk
from gateway.stores.file_thread import FileThread
from gateway.stores.journal_calls import AudioLayout, JournalledCall, JournalledCalls
from gateway.stores.journal_found import RecoveredCall
from gateway.stores.recordings import Recordings
from gateway.stores.recovery import AdoptedJournal, Findings, Quarantined, adopt_abandoned
from gateway.stores.sealing import fill_recording, sealed_already
from gateway.stores.tail_writer import TailWriter

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Recovery:
    """What `recover` found."""

    calls: tuple[RecoveredCall, ...]
    quarantined: tuple[Quarantined, ...]


class AdoptedJournals:
    """The journals of others, each ours to hold until all calls in it are released. A call's records from another node
    are written down as a journal of their own, like that of a process that is gone.

    What is adopted joins `calls`, those of our own journal; what is appended to them goes there. Belongs to the event
    loop of that journal.
    """

    def __init__(
        self, data_dir: Path, calls: JournalledCalls, recordings: Recordings, files: FileThread, disk: Disk
    ) -> None:
        self._root = data_dir / "journal"
        self._quarantine = data_dir / "quarantine"
        self._calls = calls
        self._recordings = recordings
        self._files = files
        self._disk = disk
        self._held: list[AdoptedJournal] = []

    async def recover(self) -> Recovery:
        """Take over the unfinished calls of processes that are gone: they can be sealed, continued and released.

        What they hold would survive a power cut. What is appended to them here is written under a higher epoch.

        Raises OSError when the disk cannot be read or the quarantine not written.
        """
        findings: Findings = await self._files.run(partial(adopt_abandoned, self._root, self._quarantine))
        self._held += findings.journals
        for found in findings.calls:
            call = self._calls.get(found.call_id)
            if call is None:
                self._calls[found.call_id] = _gone_on_with(found, found.epoch + 1)
            else:
                call.adopt(found.audio, found.others)
        for part in findings.quarantined:
            log.error("journal_part_quarantined", journal=part.journal, segment=part.segment, reason=part.reason)
        return Recovery(findings.calls, findings.quarantined)

    async def take_in(self, call_id: str, epoch: int, records: AsyncIterator[bytes]) -> RecoveredCall:
        """Write down, durably, a call's records from another node, and take the call over: what is appended from here
        on is of `epoch`. What our own journal had of the call under an earlier epoch gives way.

        Raises OSError, and whatever reading `records` raises; nothing has changed then.
        """
        journal, found = await self._write_down(call_id, records)
        self._held.append(journal)
        earlier = self._calls.get(call_id)
        if earlier is not None:
            earlier.drop_pending()
        self._calls[call_id] = _gone_on_with(found, epoch)
        return found

    async def add_late_part(self, call_id: str, records: AsyncIterator[bytes]) -> RecoveredCall | None:
        """Add audio that another node has of a call in this journal: it fills what is missing, and no more.

        None when the call is not here, or sealed already, or there are no records. Raises as `take_in`.
        """
        call = self._calls.get(call_id)
        sealed = await self._files.run(partial(sealed_already, self._recordings.path(call_id)))
        if call is None or call.released or sealed is not None:
            return None
        journal, found = await self._write_down(call_id, records)
        self._held.append(journal)
        call.adopt(found.audio, ())
        return found

    async def fill_recording(
        self, call_id: str, hole_samples: int, records: AsyncIterator[bytes]
    ) -> RecoveredCall | None:
        """Put audio from another node's records into a sealed recording that lacks all before `hole_samples`.

        None when there is no such recording here. Raises as `take_in`; the recording is as it was then.
        """
        path = self._recordings.path(call_id)
        if await self._files.run(partial(sealed_already, path)) is None:
            return None
        journal, found = await self._write_down(call_id, records)
        try:
            await self._files.run(partial(fill_recording, path, hole_samples, found.audio))
        finally:
            await self._files.run(partial(journal.release, call_id, self._disk))
        return found

    async def release(self, call_id: str) -> None:
        """Note that a call is done with; a journal goes with the last of its calls. Raises OSError."""
        for journal in list(self._held):
            await self._files.run(partial(journal.release, call_id, self._disk))
        self._held = [journal for journal in self._held if journal.unreleased]

    def still_hold(self, call_id: str) -> bool:
        """Whether records of a released call stand in a journal that others keep."""
        return any(call_id in journal.released for journal in self._held)

    def close(self) -> None:
        """Let go of them all: the next process finds them."""
        for journal in self._held:
            journal.close()

    async def _write_down(self, call_id: str, records: AsyncIterator[bytes]) -> tuple[AdoptedJournal, RecoveredCall]:
        writer = await self._files.run(partial(TailWriter, self._root, checked_call_id(call_id), self._disk))
        try:
            async for piece in records:
                await self._files.run(partial(writer.write, piece))
            written = await self._files.run(writer.finish)
        except BaseException:
            await asyncio.shield(self._files.run(writer.abandon))
            raise
        return written


def _gone_on_with(found: RecoveredCall, epoch: int) -> JournalledCall:
    """A call as our own journal has it that goes on with it under `epoch`."""
    layout = AudioLayout(found.rate_hz, found.channels)
    call = JournalledCall(found.call_id, found.header, layout, epoch, closed=found.closed)
    call.must_reopen = True
    call.adopt(found.audio, found.others)
    return call
