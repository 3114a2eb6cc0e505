"""The journal against real faults on real processes and file systems."""

import asyncio
import os
import signal
import subprocess
import sys
import wave
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from gateway.stores.journal import FileJournal, JournalLimits
from gateway.stores.recordings import Recordings
from tests.integration.stores.journal_writer import CHUNK_SAMPLES, chunk

KILLS = 12


def write_until_killed(data_dir: Path, lines: int, *mode: str) -> tuple[dict[str, int], dict[str, int]]:
    """Run the writer, kill it after it printed so many lines, and return its acked samples and appended seqs."""
    samples: dict[str, int] = defaultdict(int)
    seqs: dict[str, int] = defaultdict(int)
    command = [sys.executable, "-m", "tests.integration.stores.journal_writer", str(data_dir), *mode]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        for number, line in enumerate(writer.stdout):
            if number == lines:
                writer.send_signal(signal.SIGKILL)  # what it wrote until it died still counts
            if line.endswith(b"\n"):
                call_id, acked, seq = line.decode().split()
                samples[call_id] = max(samples[call_id], int(acked))
                seqs[call_id] = max(seqs[call_id], int(seq))
    assert writer.returncode == -signal.SIGKILL
    return samples, seqs


async def lost_samples(data_dir: Path, acked: dict[str, int], seqs: dict[str, int]) -> int:
    """Recover and seal; how many acked samples the recordings lack."""
    journal = FileJournal(data_dir, Recordings(data_dir))
    await journal.start()
    found = {call.call_id: call for call in (await journal.adopted.recover()).calls}
    lost = 0
    for call_id, samples in acked.items():
        with wave.open(str(await journal.seal(call_id))) as wav:
            pcm = wav.readframes(wav.getnframes())
        expected = b"".join(chunk(call_id, first) for first in range(0, samples, CHUNK_SAMPLES))
        assert pcm[: len(expected)] == expected[: len(pcm)]
        lost += max(0, samples - len(pcm) // 2)
        messages = tuple((seq, f"{call_id} {seq}".encode()) for seq in range(1, len(found[call_id].messages) + 1))
        assert found[call_id].messages == messages
        assert len(messages) >= seqs[call_id]
        await journal.release(call_id)
    await journal.stop()
    return lost


async def test_a_process_killed_at_any_moment_loses_no_acked_sample_and_no_message(tmp_path: Path) -> None:
    random = Random(7)
    acked_in_all = 0
    for number in range(KILLS):
        folder = tmp_path / str(number)
        acked, seqs = await asyncio.to_thread(write_until_killed, folder, random.randrange(4, 400))
        assert await lost_samples(folder, acked, seqs) == 0
        acked_in_all += sum(acked.values())
        assert not any((folder / "journal").iterdir())
    print(f"{KILLS} kills, {acked_in_all} samples acked, 0 lost")
    assert acked_in_all > 0


async def test_an_ack_before_the_sync_would_have_been_caught(tmp_path: Path) -> None:
    acked, seqs = await asyncio.to_thread(write_until_killed, tmp_path, 30, "early-ack")
    assert await lost_samples(tmp_path, acked, seqs) > 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mount.returncode != 0:
        pytest.skip(f"cannot mount a small disk here: {mount.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_full_disk_stops_the_acks_and_space_brings_back_everything(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    faults: list[str | None] = []
    journal = FileJournal(
        small_disk,
        Recordings(small_disk),
        limits=JournalLimits(commit_interval_ms=1, retry_interval_ms=1),
        on_health=faults.append,
    )
    await journal.start()
    journal.open_call("call-a", b'{"rate_hz": 8000, "channels": 1}')
    samples = 0

    async def append() -> int:
        nonlocal samples
        position = 0
        for _ in range(100):
            position = journal.append_audio("call-a", samples, chunk("call-a", samples))
            samples += CHUNK_SAMPLES
        return position

    await journal.synced(await append())
    await asyncio.to_thread(fill, ballast)
    position = await append()
    with pytest.raises(OSError, match="No space left"):
        await journal.synced(position)
    assert faults[-1] == journal.degraded
    position = await append()
    await asyncio.to_thread(ballast.unlink)
    while faults[-1] is not None:
        with suppress(OSError):
            await journal.synced(position)
    with wave.open(str(await journal.seal("call-a"))) as wav:
        pcm = wav.readframes(wav.getnframes())
    await journal.release("call-a")
    await journal.stop()
    assert pcm == b"".join(chunk("call-a", first) for first in range(0, samples, CHUNK_SAMPLES))
    assert [fault is None for fault in faults] == [False, True]


def fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            os.fsync(file.fileno())
