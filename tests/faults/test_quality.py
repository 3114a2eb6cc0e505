"""Voice QC that is down, busy, slow, forgetful or deaf: every call is handed in once, and judged when it can be."""

from __future__ import annotations

import asyncio
import sqlite3
import wave
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Literal

import aiohttp
import pytest
from aiohttp import web

from gateway.clients.quality_http import QualityHttp
from gateway.ports import QualityTask
from tests.faults.accounts import Outcome, account_for, eventually, state_of, undelivered
from tests.faults.calls import NOBODY_COMES_BACK
from tests.faults.clocks import WallClock, fast_clock
from tests.faults.ledger import Ledger
from tests.faults.servers import APP_ID, SECRET, FaultServer, Serve
from tests.faults.softphone import Softphone, whisper
from tests.faults.vendor import Request, at_first, failing, hanging, in_order, vendor_open

Outage = Literal["refuses connections", "answers 500", "answers 429 with Retry-After", "hangs"]
OUTAGES: tuple[Outage, ...] = ("answers 429 with Retry-After", "refuses connections", "answers 500", "hangs")
RETRY_AFTER_S = 30
CALLS = 3


async def short_calls(server: FaultServer, calls: int) -> list[Softphone]:
    """Whole calls whose clients do not wait for the verdict."""
    phones = [Softphone(server.ws, whisper(seed, 600)) for seed in range(calls)]
    for phone in phones:
        async with phone:
            await phone.talk()
            await phone.acked(phone.sent_samples)
            await phone.hang_up(wait_qc_ms=0)
            await phone.silence()
    return phones


async def be_out(serve: Serve, outage: Outage, outcome: Outcome, times: int) -> list[Request]:
    """Have voice QC out for ten minutes of a clock `times` as fast as ours; the requests that came in that time."""
    async with vendor_open() as vendor:
        environment = vendor.environment | NOBODY_COMES_BACK
        back = asyncio.Event()
        match outage:
            case "refuses connections":
                await vendor.close()
            case "answers 500":
                vendor.before = failing(500)
            case "answers 429 with Retry-After":
                vendor.before = failing(429, retry_after_s=RETRY_AFTER_S)
            case "hangs":
                vendor.before = hanging(back)
        server = await asyncio.to_thread(partial(serve, outage, environment=environment))
        phones = await short_calls(server, CALLS)
        assert await asyncio.to_thread(server.stop) == 0
        before = len(vendor.requests)
        # It has nothing to do but to try: no call is there to suffer from a clock that runs fast.
        fast = {**environment, **fast_clock(times), "EARSHOT_QC_POLL_S": "5"}
        server = await asyncio.to_thread(partial(serve, outage, environment=fast))
        await asyncio.sleep(600 / times)
        assert undelivered(server.data) == CALLS, "no task was given up"
        assert not vendor.tasks
        during = vendor.requests[before:]
        vendor.before = in_order
        back.set()
        if outage == "refuses connections":
            await vendor.open()
        await account_for(outcome, server, phones, vendor, whole=True)
        assert [await state_of(server, phone.call_id) for phone in phones] == ["judged"] * CALLS
        server.kill()
        outcome.tried += 1
    return during


@pytest.mark.row(23)
@pytest.mark.timeout(300)
async def test_ten_minutes_without_voice_qc_cost_no_verdict(
    serve: Serve, ledger: Ledger, tries: Callable[[int, int], int]
) -> None:
    for outage in OUTAGES[: tries(1, 4)]:
        outcome = Outcome()
        during = await be_out(serve, outage, outcome, tries(150, 60))
        if outage == "answers 429 with Retry-After":
            assert during, "it was asked at all"
            asked_at_s = [request.at_s for request in during]
            # Every task waits as long as it is told to; so all three together ask no oftener than this.
            assert len(asked_at_s) <= CALLS * (600 / RETRY_AFTER_S + 1)
        outcome.note = f"asked {len(during)} times meanwhile"
        outcome.enter(ledger, 23, f"voice QC {outage} for ten minutes")


async def answer_nothing() -> web.Response:
    """Break the connection off instead of answering."""
    raise ConnectionResetError("as told")


async def die_after_accepting(serve: Serve, mutant: str = "") -> Outcome:
    """Voice QC takes a task and breaks off before saying so: the gateway must hand it in again under the same name."""
    outcome = Outcome(tried=1)
    async with vendor_open() as vendor:
        vendor.after = at_first("create", answer_nothing)
        server = await asyncio.to_thread(partial(serve, mutant=mutant, environment=vendor.environment))
        phones = await short_calls(server, 1)
        await account_for(outcome, server, phones, vendor, whole=True)
        outcome.note = f"handed in {len(vendor.asked('create'))} times"
        assert len(vendor.asked("create")) > 1
    return outcome


@pytest.mark.row(24)
async def test_a_task_that_voice_qc_took_without_saying_so_stays_one_task(serve: Serve, ledger: Ledger) -> None:
    (await die_after_accepting(serve)).enter(ledger, 24, "voice QC dies after accepting")


@pytest.mark.row(25)
async def test_twenty_uploads_of_one_session_at_once_make_one_task(
    serve: Serve, ledger: Ledger, tmp_path: Path
) -> None:
    uploads = 20
    recording = tmp_path / "upload.wav"
    with wave.open(str(recording), "wb") as wav:
        wav.setparams((1, 2, 8000, 0, "NONE", ""))
        wav.writeframes(whisper(25, 1000))
    server = await asyncio.to_thread(serve)
    async with aiohttp.ClientSession() as http:
        ours = QualityHttp(http, server.http, lambda _: (APP_ID, SECRET))
        task = QualityTask("one-session", APP_ID, recording, 8000, 1, "en", ())
        await asyncio.gather(*(ours.create(task) for _ in range(uploads)))

        async def judged() -> bool:
            return (await ours.result(APP_ID, task.session_id)).succeeded

        await eventually(judged)
    with closing(sqlite3.connect(server.data / "earshot.db")) as database:
        (tasks,) = database.execute("SELECT count(*) FROM quality_tasks").fetchone()
    ledger.add(
        row=25, fault="20 concurrent uploads of one session", tried=uploads, tasks_created=tasks, tasks_expected=1
    )
    assert tasks == 1
    await asyncio.to_thread(server.stop)
    assert list((server.data / "quality").iterdir()) == [], "no audio of a task that was replaced stays behind"


@pytest.mark.row(26)
async def test_a_task_that_can_never_succeed_is_given_up_at_once(serve: Serve, ledger: Ledger) -> None:
    async with vendor_open() as vendor:
        vendor.before = failing(400)
        server = await asyncio.to_thread(partial(serve, environment=vendor.environment))
        (phone,) = await short_calls(server, 1)

        async def given_up() -> bool:
            return await state_of(server, phone.call_id) == "failed"

        await eventually(given_up)
        assert len(vendor.requests) == 1, "it was not asked again"
        ledger.add(row=26, fault="voice QC answers 400", tried=1, note="dead letter after one request")


@pytest.mark.full
@pytest.mark.row(26)
async def test_a_task_that_fails_for_a_day_is_given_up_then_and_not_before(
    serve: Serve, ledger: Ledger, tmp_path: Path
) -> None:
    clock = WallClock(tmp_path / "clock")
    async with vendor_open() as vendor:
        vendor.before = failing(503)
        environment = vendor.environment | clock.environment
        server = await asyncio.to_thread(partial(serve, environment=environment))
        (phone,) = await short_calls(server, 1)

        async def failure_noted() -> bool:
            with closing(sqlite3.connect(server.data / "earshot.db")) as database:
                return bool(database.execute("SELECT count(*) FROM outbox WHERE failing_since > 0").fetchone()[0])

        await eventually(failure_noted)
        for hours, state in ((23, "judging"), (25, "failed")):
            server.kill()
            clock.jump(hours * 3600)
            so_far = len(vendor.requests)
            server = await asyncio.to_thread(partial(serve, environment=environment))

            async def tried_again(server: FaultServer = server, so_far: int = so_far, state: str = state) -> bool:
                return len(vendor.requests) > so_far and await state_of(server, phone.call_id) == state

            await eventually(tried_again)
        ledger.add(row=26, fault="voice QC answers 503 for 24 h", tried=1, note="tried at 23 h, dead letter at 25 h")
