"""A wall clock that jumps in the middle of calls: the media clock is the number of samples, and nobody notices."""

from __future__ import annotations

import asyncio
import time
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from protocol.messages import Ended, QcResult
from tests.faults.accounts import Outcome, account_for
from tests.faults.clocks import WallClock
from tests.faults.ledger import Ledger
from tests.faults.servers import FaultServer, Serve
from tests.faults.softphone import RATE_HZ, Softphone, whisper
from tests.faults.vendor import vendor_open


async def jump(serve: Serve, folder: Path, offset_s: int) -> Outcome:
    """Set a server's clock forward or back in a call, and back in a second one."""
    outcome = Outcome(tried=2)
    clock = WallClock(folder / "clock")
    async with vendor_open() as vendor:
        server = await asyncio.to_thread(partial(serve, environment=vendor.environment | clock.environment))
        phones = []
        for number, now_off_by_s in enumerate((offset_s, 0)):
            async with Softphone(server.ws, whisper(number, 1000)) as phone:
                await phone.talk(RATE_HZ // 2)
                await phone.acked(RATE_HZ // 2)
                clock.jump(now_off_by_s)
                assert abs(await _wall_s(server) - time.time() - now_off_by_s) < 100, "the server sees it"
                await phone.talk()
                await phone.acked(phone.sent_samples)
                await phone.hang_up()
                await phone.silence()
            (ended,) = phone.of(Ended)
            assert (ended.reason, ended.samples) == ("hangup", phone.sent_samples)
            assert phone.of(QcResult)
            phones.append(phone)
        await account_for(outcome, server, phones, vendor, whole=True)
    return outcome


async def _wall_s(server: FaultServer) -> float:
    """What the server takes for the time."""
    async with aiohttp.ClientSession() as http, http.get(f"{server.http}/healthz") as response:
        return parsedate_to_datetime(response.headers["Date"]).timestamp()


@pytest.mark.row(34)
@pytest.mark.parametrize("offset_s", [400, -400])
async def test_a_wall_clock_that_jumps_disturbs_no_call(
    serve: Serve, ledger: Ledger, tmp_path: Path, offset_s: int
) -> None:
    outcome = await jump(serve, tmp_path, offset_s)
    outcome.enter(ledger, 34, f"wall clock jumps {offset_s:+d} s and back, in calls")
