"""What becomes of a journal's blocks once they are safe."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gateway.ports import AudioListener
from gateway.stores.commit_log import Block
from gateway.stores.journal_calls import JournalledCalls
from gateway.stores.journal_cleaning import SegmentCleaning, SegmentLedger
from gateway.stores.journal_records import Kind

_SETTLED_AT_A_TIME = 256


class Settlement:
    """Takes note where what is safe stands, forgets calls whose release is safe, has segments cleaned, and tells the
    listener. `settle` and `note_fault` are for the journal's commits."""

    def __init__(
        self,
        calls: JournalledCalls,
        ledger: SegmentLedger,
        cleaning: SegmentCleaning,
        *,
        note_others: bool,
    ) -> None:
        """`note_others`: somebody may read back more of a call than its audio."""
        self.listener: AudioListener | None = None
        """Hears how far each call's audio is safe."""
        self._calls = calls
        self._ledger = ledger
        self._cleaning = cleaning
        self._note_others = note_others

    async def settle(self, blocks: Sequence[Block]) -> None:
        """Take note where the safe blocks' records lie and which calls they release."""
        released = False
        safe_samples: dict[str, int] = {}
        calls, note, audio, release = self._calls, self._ledger.note, Kind.AUDIO, Kind.RELEASE
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
                elif self._note_others:
                    call.note_other(segment, offset_bytes + begin_bytes, size_bytes)
        if self.listener is not None and safe_samples:
            self.listener.note_safe(safe_samples, blocks[-1].position)
        if released:
            await self._cleaning.remove_unneeded()
        # Here every block of a finished segment is safe and accounted for; between two commits it need not be.
        self._cleaning.begin_next()

    def note_fault(self, fault: OSError) -> None:
        """The disk did not take a commit."""
        if self.listener is not None:
            self.listener.note_fault(str(fault))
