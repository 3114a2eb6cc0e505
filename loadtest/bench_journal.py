"""How much more the journal writes to free the segments that long calls would keep: `python -m loadtest.bench_journal`.

Calls come and go on the real journal, a share of them long, with everything scaled down alike (segments of 256 KiB
instead of 64 MiB, audio to match) so that hours pass in seconds. Prints what was copied for each byte of calls, and
how much of the disk the journal took at its most beside what was live.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from gateway.stores.journal import FileJournal, JournalLimits
from gateway.stores.recordings import Recordings

HEADER = b'{"rate_hz": 8000, "channels": 1}'
SEGMENT_BYTES = 256 * 1024
CALLS_AT_ONCE = 50
TICKS = 1200
PIECE = bytes(600)
"""What a call appends in a tick."""
SHORT_TICKS, LONG_TICKS = 30, 1000
SHARES_LONG = (0.0, 0.02, 0.1, 0.3)
"""How many of the calls that go on at any moment are long ones."""


async def run(folder: Path, share_long: float, *, cleaning: bool) -> tuple[float, float]:
    """Bytes copied for each byte appended, and the largest folder in live bytes."""
    dice = random.Random(5)
    limits = JournalLimits(commit_interval_ms=0, segment_bytes=SEGMENT_BYTES)
    if not cleaning:
        limits = replace(limits, few_segments=sys.maxsize)
    journal = FileJournal(folder, Recordings(folder), limits=limits)
    await journal.start()
    ends: dict[str, int] = {}
    samples: dict[str, int] = {}
    slots = ["" for _ in range(CALLS_AT_ONCE)]
    appended_bytes, worst = 0, 0.0
    for tick in range(TICKS):
        position = 0
        for slot, call_id in enumerate(slots):
            if not call_id or ends[call_id] <= tick:
                if call_id:
                    await journal.release(call_id)
                    del samples[call_id]
                is_long = slot < share_long * CALLS_AT_ONCE
                call_id = slots[slot] = f"call-{tick}-{slot}"
                ends[call_id] = tick + round((LONG_TICKS if is_long else SHORT_TICKS) * dice.uniform(0.5, 1.5))
                samples[call_id] = 0
                journal.open_call(call_id, HEADER)
            position = journal.append_audio(call_id, samples[call_id], PIECE)
            samples[call_id] += len(PIECE) // 2
            appended_bytes += len(PIECE)
        await journal.synced(position)
        if tick > TICKS // 2 and tick % 50 == 0:
            worst = max(worst, size_bytes(folder) / (2 * sum(samples.values())))
    copied = journal.cleaning.copied_bytes / appended_bytes
    await journal.stop()
    return copied, worst


def size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("journal/*/*.log"))


def main() -> None:
    """Print the table."""
    print(
        f"{CALLS_AT_ONCE} calls at once; a long one lasts {LONG_TICKS / SHORT_TICKS:.0f} times as long as a short one"
    )
    print(f"{'long ones':>10} {'copied per byte':>16} {'disk / live':>12} {'disk / live without cleaning':>29}")
    for share in SHARES_LONG:
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            copied, worst = asyncio.run(run(Path(one), share, cleaning=True))
            _, without = asyncio.run(run(Path(other), share, cleaning=False))
        print(f"{share:>10.0%} {copied:>16.2f} {worst:>12.1f} {without:>29.1f}")


if __name__ == "__main__":
    main()
