"""Disks that are full, that fail to sync, and that give back something else than was written."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import wave
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from random import Random

import pytest

from gateway.stores.journal_records import Damage, Kind, Located, scan
from protocol.messages import Warning as Warned
from tests.faults.accounts import Outcome, account_for, eventually, recordings_of
from tests.faults.calls import NOBODY_COMES_BACK, killed_mid_call
from tests.faults.disks import EIO_INJECTED, failing_syncs, fill, small_disk
from tests.faults.ledger import Ledger
from tests.faults.servers import PATIENCE_S, FaultServer, Serve
from tests.faults.softphone import RATE_HZ, Softphone, whisper
from tests.faults.vendor import vendor_open

SMALL_BYTES = 6 * 1024 * 1024
A_MINUTE = whisper(22, 60_000)


async def run_out_of_space(serve: Serve, folder: Path, *, killed: bool, mutant: str = "") -> Outcome:
    """Fill the disk in the middle of a call; then either make room again or kill the server while it is full."""
    outcome = Outcome(tried=1)
    async with vendor_open() as vendor:
        with small_disk(folder, SMALL_BYTES):
            start = partial(serve, str(folder / "data"), environment=vendor.environment | NOBODY_COMES_BACK)
            server = await asyncio.to_thread(partial(start, mutant=mutant))
            async with Softphone(server.ws, A_MINUTE) as phone:
                await phone.talk(RATE_HZ)
                await phone.acked(RATE_HZ)
                fill(folder / "ballast")
                if mutant:
                    await phone.talk(2 * RATE_HZ, pause_s=0.01)
                else:
                    await _talk_until_degraded(phone)
                    with pytest.raises(AssertionError, match="overloaded"):
                        await Softphone(server.ws, b"").__aenter__()
                    acked_samples = phone.acked_samples
                    await phone.talk(RATE_HZ)
                    assert phone.acked_samples == acked_samples, "an ack came while the disk took nothing"
                if not killed:
                    (folder / "ballast").unlink()
                    await phone.acked(phone.sent_samples)
                    await phone.hang_up()
                    await phone.silence()
                else:
                    server.kill()
                    await phone.silence()
                    (folder / "ballast").unlink()
                    server = await asyncio.to_thread(start)
            await account_for(
                outcome, server, [phone], vendor, whole=not killed, patience_s=3 if mutant else PATIENCE_S
            )
            server.kill()
    return outcome


async def _talk_until_degraded(phone: Softphone) -> None:
    async def degraded() -> bool:
        await phone.talk(160)
        return any(one.code == "degraded" for one in phone.of(Warned))

    await eventually(degraded)


@pytest.mark.row(20)
async def test_a_disk_that_is_full_for_a_while_costs_nothing_at_all(
    serve: Serve, ledger: Ledger, tmp_path: Path
) -> None:
    outcome = await run_out_of_space(serve, tmp_path / "small", killed=False)
    outcome.enter(ledger, 20, "disk full in a call, then room: all that was sent counts")


@pytest.mark.full
@pytest.mark.row(20)
async def test_a_server_killed_while_its_disk_is_full_keeps_what_it_acked(
    serve: Serve, ledger: Ledger, tmp_path: Path
) -> None:
    outcome = await run_out_of_space(serve, tmp_path / "small", killed=True)
    outcome.enter(ledger, 20, "disk full in a call, then kill -9")


@pytest.mark.full
@pytest.mark.row(20)
async def test_that_check_sees_an_ack_of_what_the_disk_did_not_take(serve: Serve, tmp_path: Path) -> None:
    assert (await run_out_of_space(serve, tmp_path / "small", killed=True, mutant="early_ack")).lost_samples > 0


async def fail_to_sync(serve: Serve, folder: Path, *, killed: bool, mutant: str = "") -> Outcome:
    """Let syncs of the journal fail in the middle of a call; then either mend the disk or kill the server."""
    outcome = Outcome(tried=1)
    async with vendor_open() as vendor:
        start = partial(serve, environment=vendor.environment | NOBODY_COMES_BACK)
        server = await asyncio.to_thread(partial(start, mutant=mutant))
        async with Softphone(server.ws, A_MINUTE) as phone:
            await phone.talk(RATE_HZ)
            await phone.acked(RATE_HZ)
            (journal,) = (server.data / "journal").iterdir()
            segments = [journal / f"{number:06}.log" for number in range(1, 40)]
            async with failing_syncs(server.pid, segments, folder / "trace") as trace:
                acked_samples = phone.acked_samples
                if mutant:

                    async def failed() -> bool:
                        await phone.talk(160)
                        return trace.read_text().count(EIO_INJECTED) >= 4

                    await eventually(failed)
                else:
                    await _talk_until_degraded(phone)
                    assert phone.acked_samples == acked_samples, "an ack came for what was not synced"
                await phone.talk(RATE_HZ)
                if killed:
                    server.kill()
                    await phone.silence()
            tried = Counter(
                line.split("</")[1].split(">")[0] for line in trace.read_text().splitlines() if "</" in line
            )
            assert tried and set(tried.values()) == {1}, f"a failed sync was tried again on the same file: {tried}"
            if killed:
                server = await asyncio.to_thread(start)
            else:
                await phone.acked(phone.sent_samples)
                await phone.hang_up()
                await phone.silence()
        await account_for(outcome, server, [phone], vendor, whole=not killed, patience_s=3 if mutant else PATIENCE_S)
    return outcome


@pytest.mark.row(21)
async def test_a_failed_sync_is_never_acked_and_never_tried_again_on_the_same_file(
    serve: Serve, ledger: Ledger, tmp_path: Path
) -> None:
    outcome = await fail_to_sync(serve, tmp_path, killed=False)
    outcome.enter(ledger, 21, "fdatasync fails for a while: all that was sent counts")


@pytest.mark.full
@pytest.mark.row(21)
async def test_a_server_killed_while_its_syncs_fail_keeps_what_it_acked(
    serve: Serve, ledger: Ledger, tmp_path: Path
) -> None:
    (await fail_to_sync(serve, tmp_path, killed=True)).enter(ledger, 21, "fdatasync fails, then kill -9")


@pytest.mark.row(21)
@pytest.mark.full
async def test_that_check_sees_an_ack_of_what_was_not_synced(serve: Serve, tmp_path: Path) -> None:
    assert (await fail_to_sync(serve, tmp_path, killed=True, mutant="early_ack")).lost_samples > 0


# --- damage ------------------------------------------------------------------------------------------------------


def damaged(path: Path, random: Random) -> range:
    """Cut a file off or change one bit of it; the bytes that are no longer what they were."""
    data = bytearray(path.read_bytes())
    at = random.randrange(len(data))
    if random.random() < 0.5:
        path.write_bytes(data[:at])
        return range(at, len(data))
    data[at] ^= 1 << random.randrange(8)
    path.write_bytes(data)
    return range(at, at + 1)


async def damage_the_journal(serve: Serve, tmp_path: Path, seed: int, times: int) -> Outcome:
    """Kill a server in two calls, damage what it left, and start another on it."""
    random = Random(seed)
    outcome = Outcome(note=f"seed {seed}; lost beyond what was damaged")
    async with vendor_open() as vendor:
        start = partial(serve, environment=vendor.environment | NOBODY_COMES_BACK)
        server = await asyncio.to_thread(start, "pristine")
        phones: list[Softphone] = []
        while len([phone for phone in phones if phone.acked_samples]) < 2:
            phones = list(await killed_mid_call(server, random))
            if len([phone for phone in phones if phone.acked_samples]) < 2:
                shutil.rmtree(server.data)
                server = await asyncio.to_thread(start, "pristine")
        (segment,) = (server.data / "journal").rglob("*.log")
        records = list(scan(segment.read_bytes(), None))
        # What is cut off near its begin spares nothing, which says nothing.
        while outcome.tried < times or not outcome.acked_samples:
            number = outcome.tried
            copy = tmp_path / f"damaged-{number}"
            shutil.copytree(server.data, copy)
            hurt = damaged(copy / segment.relative_to(server.data), random)
            after = await asyncio.to_thread(start, copy.name)
            intact = [one for one in records if isinstance(one, Located) and not _overlap(one, hurt)]
            assert not any(isinstance(one, Damage) for one in records)
            await _account_for_records(outcome, after, phones, intact)
            if len(hurt) == 1 or all(hurt.start != one.offset_bytes for one in records):

                async def is_kept(quarantine: Path = copy / "quarantine") -> bool:
                    return bool(held_in(quarantine))

                await eventually(is_kept)  # what cannot be read, by a server that listens before it has read all
            after.kill()
            outcome.tried += 1
    return outcome


def held_in(folder: Path) -> list[Path]:
    """What a folder holds, if it is there at all."""
    return list(folder.iterdir()) if folder.exists() else []


def _overlap(record: Located, hurt: range) -> bool:
    return record.offset_bytes < hurt.stop and hurt.start < record.offset_bytes + record.size_bytes


async def _account_for_records(
    outcome: Outcome, server: FaultServer, phones: list[Softphone], intact: list[Located]
) -> None:
    """Every audio record of the calls that was spared must be in their recordings, where it was."""
    known = {one.record.call_id for one in intact if one.record.kind in (Kind.OPEN, Kind.AUDIO)}
    calls = [phone for phone in phones if phone.call_id in known]
    recordings = await recordings_of(server, [phone.call_id for phone in calls], 60)
    for phone, recorded in zip(calls, recordings, strict=True):
        assert recorded is not None, "a call of which anything was spared has a recording that opens"
        for one in intact:
            if one.record.call_id == phone.call_id and one.record.kind is Kind.AUDIO:
                begin = 2 * one.record.number
                pcm = one.record.payload
                outcome.acked_samples += len(pcm) // 2
                outcome.lost_samples += 0 if recorded[begin : begin + len(pcm)] == pcm else len(pcm) // 2


@pytest.mark.row(22)
@pytest.mark.timeout(600)
async def test_a_journal_cut_off_or_with_a_bit_flipped_gives_back_everything_else(
    serve: Serve, ledger: Ledger, tmp_path: Path, seed: int, tries: Callable[[int, int], int]
) -> None:
    outcome = await damage_the_journal(serve, tmp_path, seed, tries(2, 30))
    outcome.enter(ledger, 22, "journal cut off at a random byte, or a bit of it flipped")


async def lose_the_heads(serve: Serve, seed: int, *, forget: bool) -> tuple[FaultServer, Outcome]:
    """Kill a server in two calls, damage the record that begins each, and start another on it. `forget`: whose calls
    they were is not in the database either."""
    outcome = Outcome(tried=1)
    async with vendor_open() as vendor:
        server = await asyncio.to_thread(partial(serve, environment=vendor.environment | NOBODY_COMES_BACK))
        phones = [Softphone(server.ws, whisper(seed + number, 1000)) for number in range(2)]
        for phone in phones:
            await phone.__aenter__()
            await phone.talk()
            await phone.acked(phone.sent_samples)
        server.kill()
        (segment,) = (server.data / "journal").rglob("*.log")
        data = bytearray(segment.read_bytes())
        for one in list(scan(bytes(data), None)):
            if isinstance(one, Located) and one.record.kind is Kind.OPEN:
                data[one.offset_bytes + one.size_bytes // 2] ^= 1
        segment.write_bytes(data)
        if forget:
            with closing(sqlite3.connect(server.data / "earshot.db")) as database, database:
                database.execute("DELETE FROM calls")
        server = await asyncio.to_thread(server.again)
        if forget:
            for phone in phones:
                await asyncio.to_thread(server.wait_for_line, f"call_without_owner.*{phone.call_id}")
                with wave.open(str(server.data / "recordings" / f"{phone.call_id}.wav")) as wav:
                    outcome.add(phone, wav.readframes(wav.getnframes()), 0)
            outcome.tasks_expected = 0
        else:
            await account_for(outcome, server, phones, vendor)
        assert len(held_in(server.data / "quarantine")) == 2, "what cannot be read is kept"
    return server, outcome


@pytest.mark.row(22)
async def test_a_call_whose_first_record_is_damaged_is_judged_all_the_same(serve: Serve, ledger: Ledger) -> None:
    _, outcome = await lose_the_heads(serve, 220, forget=False)
    outcome.enter(ledger, 22, "the record that begins a call is damaged")


@pytest.mark.full
@pytest.mark.row(22)
async def test_a_call_of_which_nobody_knows_whose_it_is_is_kept_and_reported(serve: Serve, ledger: Ledger) -> None:
    server, outcome = await lose_the_heads(serve, 222, forget=True)
    assert held_in(server.data / "journal"), "its records stay as they are"
    outcome.enter(ledger, 22, "the record that begins a call is damaged, and its app unknown")
