"""Verdicts that voice QC brings by itself: too often, in the wrong order, too early, never. Each counts once."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import aiohttp
import pytest
from aiohttp import web

from protocol.messages import Ended, QcResult, QcStatus
from tests.faults.accounts import Outcome, account_for, eventually, state_of
from tests.faults.ledger import Ledger
from tests.faults.servers import Serve
from tests.faults.softphone import Softphone, whisper
from tests.faults.vendor import Step, Vendor, at_first, vendor_open, verdict


async def still_at_it(step: Step, session_id: str) -> web.Response | None:
    """Who asks is told to wait: the verdict comes by callback or not at all."""
    return web.json_response(verdict(session_id, state=1)) if step == "result" else None


async def deliver(vendor: Vendor, session_id: str, *states: int) -> None:
    """Send the gateway these answers, one after another."""
    async with aiohttp.ClientSession() as http:
        for state in states:
            async with http.post(vendor.callback_urls[session_id], json=verdict(session_id, state)) as response:
                assert response.status == 200, await response.text()


@asynccontextmanager
async def called_back(serve: Serve, outcome: Outcome) -> AsyncIterator[tuple[Vendor, Softphone]]:
    """A call that waits for its verdict; at the end it must have had one, once."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    async with vendor_open() as vendor:
        environment = vendor.environment | {"EARSHOT_PUBLIC_URL": f"http://{address}"}
        server = await asyncio.to_thread(partial(serve, http=address, environment=environment))
        async with Softphone(server.ws, whisper(27, 600)) as phone:
            await phone.talk()
            yield vendor, phone
            await phone.until(Ended)
            await phone.silence()
        assert len(phone.of(QcResult)) == 1, "one verdict"
        assert phone.of(Ended)[0].reason == "hangup"
        await account_for(outcome, server, [phone], vendor, whole=True)
        assert await state_of(server, phone.call_id) == "judged"
        outcome.tried += 1


async def accepted(vendor: Vendor) -> str:
    """The session id of the one task, once voice QC has been asked about it."""

    async def asked() -> bool:
        return bool(vendor.asked("result"))

    await eventually(asked)
    (session_id,) = vendor.tasks
    return session_id


@pytest.mark.row(27)
async def test_a_verdict_that_comes_three_times_and_then_a_note_that_it_is_being_made_counts_once(
    serve: Serve, ledger: Ledger
) -> None:
    outcome = Outcome()
    async with called_back(serve, outcome) as (vendor, phone):
        vendor.before = still_at_it
        await phone.hang_up()
        await deliver(vendor, await accepted(vendor), 2, 2, 2, 1)
    outcome.enter(ledger, 27, "callback three times, then out of order")


@pytest.mark.row(27)
async def test_a_verdict_that_comes_before_the_upload_is_answered_counts(serve: Serve, ledger: Ledger) -> None:
    outcome = Outcome()
    async with called_back(serve, outcome) as (vendor, phone):

        async def at_once() -> None:
            (session_id,) = vendor.tasks
            await deliver(vendor, session_id, 2)

        vendor.after = at_first("create", at_once)
        vendor.before = still_at_it
        await phone.hang_up()
        await phone.until(QcStatus)
    outcome.enter(ledger, 27, "callback before the upload is answered")


@pytest.mark.row(27)
async def test_a_verdict_of_which_voice_qc_never_tells_is_asked_for(serve: Serve, ledger: Ledger) -> None:
    outcome = Outcome()
    async with called_back(serve, outcome) as (_, phone):
        await phone.hang_up()
    outcome.enter(ledger, 27, "callback never")
