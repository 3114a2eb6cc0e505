"""What a fault cost: acknowledged samples that no recording holds, and tasks of voice QC too few or too many."""

from __future__ import annotations

import asyncio
import io
import sqlite3
import time
import wave
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgspec

from tests.faults.ledger import Ledger
from tests.faults.servers import PATIENCE_S, FaultServer
from tests.faults.softphone import BASIC, Softphone
from tests.faults.vendor import Vendor


@dataclass
class Outcome:
    """Sums over all tries of one fault."""

    tried: int = 0
    acked_samples: int = 0
    lost_samples: int = 0
    tasks_created: int = 0
    tasks_expected: int = 0
    altered: int = 0
    """Recordings that hold something else than what was sent."""
    note: str = ""

    @property
    def nothing_lost(self) -> bool:
        return self.lost_samples == 0 and self.altered == 0 and self.tasks_created == self.tasks_expected

    def enter(self, ledger: Ledger, row: int, fault: str) -> None:
        """Write it down, and fail unless nothing was lost."""
        ledger.add(
            row=row,
            fault=fault,
            tried=self.tried,
            acked_samples=self.acked_samples,
            lost_samples=self.lost_samples,
            tasks_created=self.tasks_created,
            tasks_expected=self.tasks_expected,
            note=self.note,
        )
        assert self.acked_samples > 0, "nothing was acknowledged, so nothing was tried"
        assert self.nothing_lost, self

    def add(self, phone: Softphone, recorded: bytes | None, tasks: int, *, whole: bool = False) -> None:
        """One call; `recorded` is its recording's PCM, None when there is none. `whole`: all that was sent counts."""
        promised = phone.sent_samples if whole else phone.acked_samples
        recorded_samples = len(recorded or b"") // 2
        same = recorded == phone.sent[: 2 * recorded_samples] if recorded else True
        self.acked_samples += promised
        self.altered += not same
        self.lost_samples += promised if not same else max(0, promised - recorded_samples)
        if promised:
            self.tasks_created += tasks
            self.tasks_expected += 1
        else:
            assert tasks <= 1, "a call of which nothing was acknowledged has more than one task"


async def account_for(
    outcome: Outcome,
    server: FaultServer,
    phones: Sequence[Softphone],
    vendor: Vendor,
    *,
    whole: bool = False,
    patience_s: float = PATIENCE_S,
) -> None:
    """Add up calls on a server that has come up again, once it has sealed them all and owes voice QC nothing."""
    give_up_at_s = time.monotonic() + patience_s
    recordings = await recordings_of(server, [phone.call_id for phone in phones], patience_s)
    expected = [phone for phone in phones if phone.acked_samples or (whole and phone.sent_samples)]
    while undelivered(server.data) or not all(vendor.tasks_of(phone.pcm) for phone in expected):
        if time.monotonic() > give_up_at_s:
            break  # what is missing is missing: the sums will say so
        await asyncio.sleep(0.05)
    for phone, recorded in zip(phones, recordings, strict=True):
        outcome.add(phone, recorded, len(vendor.tasks_of(phone.pcm)), whole=whole)


async def recordings_of(server: FaultServer, call_ids: Iterable[str], patience_s: float) -> list[bytes | None]:
    """The PCM of sealed recordings, in order; None for one that is not there when `patience_s` is over."""
    async with aiohttp.ClientSession() as http:
        give_up_at_s = time.monotonic() + patience_s
        return list(await asyncio.gather(*(_recording(http, server, one, give_up_at_s) for one in call_ids)))


async def _recording(
    http: aiohttp.ClientSession, server: FaultServer, call_id: str, give_up_at_s: float
) -> bytes | None:
    while True:
        status, body = await get(http, server, f"/v1/calls/{call_id}/recording")
        if status == 200:
            try:
                with wave.open(io.BytesIO(body)) as wav:
                    return bytes(wav.readframes(wav.getnframes()))
            except (wave.Error, EOFError):
                return None  # a file that does not open is no recording
        if time.monotonic() > give_up_at_s:
            return None
        await asyncio.sleep(0.05)


async def get(http: aiohttp.ClientSession, server: FaultServer, path: str) -> tuple[int, bytes]:
    """Status and body, with credentials that are good whatever the server takes for the time."""
    async with http.get(server.http + path, headers=BASIC) as response:
        return response.status, await response.read()


async def state_of(server: FaultServer, call_id: str) -> str:
    """That of the call's document; empty when the server knows no such call."""
    async with aiohttp.ClientSession() as http:
        status, body = await get(http, server, f"/v1/calls/{call_id}")
    return str(msgspec.json.decode(body)["state"]) if status == 200 else ""


async def eventually(holds: Callable[[], Awaitable[bool]], patience_s: float = PATIENCE_S) -> None:
    """Return as soon as it holds: for what nobody announces."""
    give_up_at_s = time.monotonic() + patience_s
    while not await holds():
        assert time.monotonic() < give_up_at_s, "it never came to hold"
        await asyncio.sleep(0.02)


def undelivered(data: Path) -> int:
    """How many tasks the outbox still has work with."""
    connection = sqlite3.connect(f"file:{data / 'earshot.db'}?mode=ro", uri=True)
    try:
        return int(connection.execute("SELECT count(*) FROM outbox WHERE delivered = 0").fetchone()[0])
    finally:
        connection.close()
