import asyncio
import errno
import os
import struct
import wave
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.stores.adopted_journals import Recovery
from gateway.stores.durable_files import Disk
from gateway.stores.journal import FileJournal, JournalFull, JournalLimits
from gateway.stores.recordings import Recordings

HEADER = b'{"rate_hz": 8000, "channels": 1, "app_id": "ours"}'
FAST = JournalLimits(commit_interval_ms=1, retry_interval_ms=1)


@asynccontextmanager
async def journal_in(
    folder: Path,
    limits: JournalLimits = FAST,
    disk: Disk | None = None,
    on_health: Callable[[str | None], None] = lambda fault: None,
) -> AsyncIterator[FileJournal]:
    journal = FileJournal(folder, Recordings(folder), limits=limits, disk=disk, on_health=on_health)
    await journal.start()
    try:
        yield journal
    finally:
        await journal.stop()


def pcm(samples: int, seed: int = 1) -> bytes:
    return b"".join(((n * 31 + seed) % 65536).to_bytes(2, "little") for n in range(samples))


def wav_pcm(path: Path) -> bytes:
    with wave.open(str(path)) as wav:
        return bytes(wav.readframes(wav.getnframes()))


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("journal/*/*.log"))


def recordings_in(folder: Path) -> list[Path]:
    return list(folder.glob("recordings/*"))


async def recovered(folder: Path) -> Recovery:
    """What a process that starts finds; it lets go again without a change."""
    async with journal_in(folder) as journal:
        return await journal.adopted.recover()


async def test_a_sealed_call_is_the_audio_that_was_appended(tmp_path: Path) -> None:
    async with journal_in(tmp_path) as journal:
        journal.open_call("c", b'{"rate_hz": 48000, "channels": 2}')
        audio = pcm(4000)
        for begin in range(0, len(audio), 400):
            journal.append_audio("c", begin // 4, audio[begin : begin + 400])
            journal.append_message("c", begin // 400, b"{}")
        path = await journal.seal("c")
    with wave.open(str(path)) as wav:
        assert (wav.getframerate(), wav.getnchannels(), wav.getsampwidth()) == (48000, 2, 2)
        assert wav.readframes(wav.getnframes()) == audio


async def test_sealing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    async with journal_in(tmp_path) as journal:
        journal.open_call("c", HEADER)
        journal.append_audio("c", 0, pcm(500))
        journal.append_audio("c", 700, pcm(50))
        first = (await journal.seal("c")).read_bytes()
        assert (await journal.seal("c")).read_bytes() == first
        (tmp_path / "recordings/c.wav").unlink()
        assert (await journal.seal("c")).read_bytes() == first


async def test_missing_samples_are_silence_and_repeated_ones_count_once(tmp_path: Path) -> None:
    audio = pcm(1000)
    async with journal_in(tmp_path) as journal:
        journal.open_call("c", HEADER)
        journal.append_audio("c", 0, audio[:600])
        journal.append_audio("c", 100, bytes(500))  # other bytes for samples 100..350, of which 300..350 are new
        journal.append_audio("c", 450, audio[900:])
        sealed = await journal.reader.seal("c")
    assert sealed.gaps == ((350, 450),)
    assert sealed.samples == 1000
    assert wav_pcm(sealed.path) == audio[:600] + bytes(300) + audio[900:]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.tuples(st.integers(0, 80), st.integers(1, 30)), min_size=1, max_size=12))
def test_a_recording_holds_for_each_sample_what_was_stored_first(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    expected = bytearray(2 * max(first + samples for first, samples in pieces))
    held: set[int] = set()

    async def play() -> bytes:
        async with journal_in(folder) as journal:
            journal.open_call("c", HEADER)
            for number, (first, samples) in enumerate(pieces):
                piece = bytes([number + 1, number + 1]) * samples
                journal.append_audio("c", first, piece)
                if number % 3 == 0:
                    journal.append_message("c", number, b"m")
                for sample in range(first, first + samples):
                    if sample not in held:
                        expected[2 * sample : 2 * sample + 2] = piece[:2]
                        held.add(sample)
            return wav_pcm(await journal.seal("c"))

    assert asyncio.run(play()) == bytes(expected)


async def test_an_illegal_append_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    async with journal_in(tmp_path) as journal:
        with pytest.raises(ValueError, match="not open"):
            journal.append_audio("c", 0, b"ab")
        with pytest.raises(ValueError, match="call id"):
            journal.open_call("../c", HEADER)
        for header in (b"", b"{}", b"[]", b'{"rate_hz": 0, "channels": 1}'):
            with pytest.raises(ValueError):
                journal.open_call("c", header)
        journal.open_call("c", HEADER)
        with pytest.raises(ValueError, match="already"):
            journal.open_call("c", HEADER)
        with pytest.raises(ValueError, match="whole samples"):
            journal.append_audio("c", 0, b"abc")
        with pytest.raises(ValueError, match="WAV"):
            journal.append_audio("c", 2**31, b"ab")
        with pytest.raises(ValueError, match="at most"):
            journal.append_message("c", 1, bytes(5 * 1024 * 1024))
        position = journal.append_audio("c", 0, b"ab")
        with pytest.raises(ValueError, match="past"):
            await journal.synced(position + 1)
        journal.close_call("c")
        with pytest.raises(ValueError, match="closed"):
            journal.append_audio("c", 1, b"ab")
        journal.close_call("c")
        journal.append_message("c", 1, b"the verdict comes after the hangup")
        with pytest.raises(ValueError, match="no audio"):
            await journal.seal("unknown")
        assert wav_pcm(await journal.seal("c")) == b"ab"


async def test_a_released_call_leaves_nothing_behind_and_others_stay(tmp_path: Path) -> None:
    limits = JournalLimits(commit_interval_ms=1, segment_bytes=500)
    async with journal_in(tmp_path, limits) as journal:
        journal.open_call("first", HEADER)
        await journal.synced(journal.append_audio("first", 0, pcm(400)))
        await journal.synced(journal.append_audio("first", 400, pcm(400)))
        assert len(segments(tmp_path)) >= 2
        journal.open_call("second", HEADER)
        await journal.synced(journal.append_audio("second", 0, pcm(400)))
        oldest = segments(tmp_path)[0]
        await journal.release("first")
        await journal.release("first")
        await journal.synced(journal.append_audio("second", 400, pcm(10)))
        assert not oldest.exists()
        assert len(wav_pcm(await journal.seal("second"))) == 820
        await journal.release("second")
    assert list((tmp_path / "journal").iterdir()) == []


async def test_a_call_of_an_earlier_process_is_found_sealed_and_released(tmp_path: Path) -> None:
    audio = pcm(300)
    async with journal_in(tmp_path) as journal:
        journal.open_call("c", HEADER)
        journal.open_call("done", HEADER)
        journal.append_audio("c", 0, audio)
        journal.append_message("c", 1, b"one")
        journal.append_message("c", 2, b"two")
        journal.append_audio("c", 350, audio)
        journal.close_call("c")
        await journal.release("done")
    async with journal_in(tmp_path) as journal:
        (call,) = (await journal.adopted.recover()).calls
        assert (call.call_id, call.header, call.rate_hz, call.channels) == ("c", HEADER, 8000, 1)
        assert (call.samples, call.end_sample, call.gaps) == (300, 650, ((300, 350),))
        assert call.messages == ((1, b"one"), (2, b"two"))
        assert call.closed
        assert wav_pcm(await journal.seal("c")) == audio + bytes(100) + audio
        await journal.release("c")
    assert list((tmp_path / "journal").iterdir()) == []


async def test_a_call_that_goes_on_after_a_crash_becomes_one_recording_even_after_another(tmp_path: Path) -> None:
    audio = pcm(900)
    for number in range(3):
        async with journal_in(tmp_path) as journal:
            found = (await journal.adopted.recover()).calls
            if number == 0:
                journal.open_call("c", HEADER)
            else:
                assert [(call.samples, call.header) for call in found] == [(300 * number, HEADER)]
            journal.append_audio("c", 300 * number, audio[600 * number : 600 * number + 600])
            journal.append_message("c", number, b"m")
    async with journal_in(tmp_path) as journal:
        (call,) = (await journal.adopted.recover()).calls
        assert [seq for seq, _ in call.messages] == [0, 1, 2]
        assert wav_pcm(await journal.seal("c")) == audio
        await journal.release("c")
    assert list((tmp_path / "journal").iterdir()) == []


async def test_one_of_two_recovered_calls_released_is_not_found_again(tmp_path: Path) -> None:
    async with journal_in(tmp_path) as journal:
        journal.open_call("a", HEADER)
        journal.open_call("b", HEADER)
    async with journal_in(tmp_path) as journal:
        await journal.adopted.recover()
        await journal.release("a")
    assert [call.call_id for call in (await recovered(tmp_path)).calls] == ["b"]


async def test_the_journal_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    async with journal_in(tmp_path) as journal:
        journal.open_call("c", HEADER)
        assert (await recovered(tmp_path)).calls == ()
        assert wav_pcm(await journal.seal("c")) == b""


async def test_a_journal_cut_at_every_byte_gives_back_what_stands_before_the_cut(tmp_path: Path) -> None:
    async with journal_in(tmp_path) as journal:
        journal.open_call("c", HEADER)
        for number in range(3):
            journal.append_audio("c", 20 * number, pcm(20))
            journal.append_message("c", number, b"m")
    (segment,) = segments(tmp_path)
    whole = segment.read_bytes()
    samples = 0
    for cut in range(len(whole) + 1):
        segment.write_bytes(whole[:cut])
        recovery = await recovered(tmp_path)
        now = recovery.calls[0].samples if recovery.calls else 0
        assert now in (samples, samples + 20)
        samples = now
        for part in recovery.quarantined:
            assert part.kept_at.read_bytes() == whole[part.offset_bytes : part.offset_bytes + part.size_bytes][:cut]
        if not segment.exists():  # nothing readable was left, so only the quarantine has it
            segment.parent.mkdir()
    assert samples == 60


async def test_a_damaged_part_is_quarantined_and_the_rest_recovered(tmp_path: Path) -> None:
    async with journal_in(tmp_path) as journal:
        journal.open_call("c", HEADER)
        for number in range(3):
            journal.append_audio("c", 100 * number, pcm(100))
            journal.append_message("c", number, b"message")
    (segment,) = segments(tmp_path)
    data = bytearray(segment.read_bytes())
    data[data.index(pcm(100), data.index(pcm(100)) + 1) + 7] ^= 4
    segment.write_bytes(data)
    recovery = await recovered(tmp_path)
    (call,) = recovery.calls
    assert call.gaps == ((100, 200),)
    assert len(call.messages) == 3
    (part,) = recovery.quarantined
    assert "checksum" in part.reason
    kept = part.kept_at.read_bytes()
    assert kept == bytes(data[part.offset_bytes : part.offset_bytes + part.size_bytes])


async def test_a_journal_of_a_newer_version_is_left_untouched_and_reported(tmp_path: Path) -> None:
    async with journal_in(tmp_path) as journal:
        journal.open_call("c", HEADER)
    (segment,) = segments(tmp_path)
    data = bytearray(segment.read_bytes())
    data[8] = 9
    data[24:28] = struct.pack("<I", zlib.crc32(data[:24]))
    segment.write_bytes(data)
    recovery = await recovered(tmp_path)
    assert recovery.calls == ()
    assert [(part.kept_at, "version 9" in part.reason) for part in recovery.quarantined] == [(segment, True)]
    assert segment.read_bytes() == data


class FailingDisk:
    """The real system calls, which fail as long as `fault` is set."""

    def __init__(self) -> None:
        self.fault: int | None = None
        self.syncs_failed = 0

    def as_disk(self) -> Disk:
        return Disk(write=self.write, fdatasync=self.fdatasync)

    def write(self, descriptor: int, data: bytes) -> int:
        if self.fault == errno.ENOSPC:
            if len(data) > 10:
                return os.write(descriptor, data[:10])  # a full disk takes a part first
            raise OSError(errno.ENOSPC, "No space left on device")
        return os.write(descriptor, data)

    def fdatasync(self, descriptor: int) -> None:
        if self.fault == errno.EIO:
            self.syncs_failed += 1
            raise OSError(errno.EIO, "Input/output error")
        os.fdatasync(descriptor)


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EIO])
async def test_nothing_is_acked_while_the_disk_fails_and_nothing_is_lost_once_it_recovers(
    tmp_path: Path, fault: int
) -> None:
    disk, health = FailingDisk(), list[str | None]()
    audio = pcm(600)
    async with journal_in(tmp_path, disk=disk.as_disk(), on_health=health.append) as journal:
        journal.open_call("c", HEADER)
        await journal.synced(journal.append_audio("c", 0, audio[:400]))
        disk.fault = fault
        journal.append_audio("c", 200, audio[400:800])
        position = journal.append_message("c", 1, b"while failing")
        with pytest.raises(OSError, match="not safe"):
            await journal.synced(position)
        assert journal.degraded is not None
        with pytest.raises(OSError, match="not safe"):
            await journal.seal("c")
        assert recordings_in(tmp_path) == []
        assert len(segments(tmp_path)) == 1  # failed tries leave no litter
        journal.append_audio("c", 400, audio[800:])
        disk.fault = None
        await reached(journal, position)
        assert health == [health[0], None]
        assert health[0] is not None
        assert wav_pcm(await journal.seal("c")) == audio
        assert len(segments(tmp_path)) == 2
    (call,) = (await recovered(tmp_path)).calls
    assert (call.samples, call.messages) == (600, ((1, b"while failing"),))


async def reached(journal: FileJournal, position: int) -> None:
    while True:
        try:
            return await journal.synced(position)
        except OSError:
            continue


async def test_one_failed_sync_moves_everything_not_known_safe_to_a_fresh_segment(tmp_path: Path) -> None:
    failures = [True]
    synced: list[int] = []

    def fail_once(descriptor: int) -> None:
        if os.fstat(descriptor).st_size > 100 and failures:
            failures.pop()
            raise OSError(errno.EIO, "Input/output error")
        synced.append(os.fstat(descriptor).st_ino)
        os.fdatasync(descriptor)

    async with journal_in(tmp_path, disk=Disk(fdatasync=fail_once)) as journal:
        journal.open_call("c", HEADER)
        await journal.synced(journal.append_audio("c", 0, pcm(100)))
        assert not failures
        (segment,) = segments(tmp_path)
        assert segment.name == "000002.log"
        assert synced[-1] == segment.stat().st_ino
        assert journal.degraded is None


async def test_a_full_buffer_refuses_audio_instead_of_growing(tmp_path: Path) -> None:
    disk = FailingDisk()
    limits = JournalLimits(commit_interval_ms=1, retry_interval_ms=1, max_unsynced_bytes=1000)
    async with journal_in(tmp_path, limits, disk.as_disk()) as journal:
        journal.open_call("c", HEADER)
        disk.fault = errno.EIO
        journal.append_audio("c", 0, bytes(900))
        with pytest.raises(JournalFull):
            journal.append_audio("c", 450, bytes(200))
        with pytest.raises(JournalFull):
            journal.append_message("c", 1, bytes(200))
        with pytest.raises(JournalFull):
            journal.open_call("d", HEADER + b" " * 900)
        disk.fault = None
        await reached(journal, journal.close_call("c"))
        journal.open_call("d", HEADER + b" " * 900)


async def test_closing_while_the_disk_fails_says_so(tmp_path: Path) -> None:
    disk = FailingDisk()
    with pytest.raises(OSError, match="degraded"):
        async with journal_in(tmp_path, disk=disk.as_disk()) as journal:
            disk.fault = errno.EIO
            journal.open_call("c", HEADER)


async def test_a_message_is_with_the_operating_system_when_its_append_returns(tmp_path: Path) -> None:
    async with journal_in(tmp_path, JournalLimits(commit_interval_ms=1)) as journal:
        journal.open_call("c", HEADER)
        journal.append_audio("c", 10, b"\x01\x02" * 30)
        journal.append_message("c", 7, b"needle")
        data = segments(tmp_path)[0].read_bytes()
        assert data.index(b"\x01\x02" * 30) < data.index(b"needle")


async def test_a_recovery_that_failed_can_be_tried_again(tmp_path: Path) -> None:
    async with journal_in(tmp_path) as journal:
        journal.open_call("c", HEADER)
        journal.append_audio("c", 0, pcm(10))
    (segment,) = segments(tmp_path)
    segment.write_bytes(segment.read_bytes() + b"torn")
    (tmp_path / "quarantine").write_bytes(b"in the way")
    async with journal_in(tmp_path) as journal:
        with pytest.raises(OSError, match="quarantine"):
            await journal.adopted.recover()
        (tmp_path / "quarantine").unlink()
        assert [call.samples for call in (await journal.adopted.recover()).calls] == [10]
