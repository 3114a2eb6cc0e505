"""A process that journals two calls as fast as it can and prints what it knows to be safe, until it is killed.

    python -m tests.integration.stores.journal_writer DATA_DIR [early-ack]

Each line is `call_id samples seq`: so many samples are acked, and messages up to `seq` had been appended before the
line was written. `early-ack` prints without waiting for the sync: the mutant that the test must catch.
"""

import asyncio
import os
import sys
from pathlib import Path

from gateway.stores.journal import FileJournal, JournalLimits
from gateway.stores.recordings import Recordings

CHUNK_SAMPLES = 160


def chunk(call_id: str, first_sample: int) -> bytes:
    """What the call's audio is at this place, known to the test as well."""
    seed = ord(call_id[-1])
    return b"".join(
        ((sample * 7 + seed) % 65536).to_bytes(2, "little")
        for sample in range(first_sample, first_sample + CHUNK_SAMPLES)
    )


def tell(line: str) -> None:
    os.write(1, f"{line}\n".encode())


async def play(journal: FileJournal, call_id: str, early_ack: bool) -> None:
    journal.open_call(call_id, b'{"rate_hz": 8000, "channels": 1}')
    samples = seq = 0
    while True:
        for _ in range(5):
            position = journal.append_audio(call_id, samples, chunk(call_id, samples))
            samples += CHUNK_SAMPLES
        if early_ack:
            await asyncio.sleep(0.005)
        else:
            journal.append_message(call_id, seq := seq + 1, f"{call_id} {seq}".encode())
            tell(f"{call_id} 0 {seq}")
            await journal.synced(position)
        tell(f"{call_id} {samples} 0")


async def main(data_dir: Path, early_ack: bool) -> None:
    limits = JournalLimits(commit_interval_ms=200 if early_ack else 2, segment_bytes=40_000)
    journal = FileJournal(data_dir, Recordings(data_dir), limits=limits)
    await journal.start()
    await asyncio.gather(*(play(journal, call_id, early_ack) for call_id in ("call-a", "call-b")))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2:] == ["early-ack"]))
