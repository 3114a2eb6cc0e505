"""A call of another client that goes on meanwhile: whatever is done to the server, it must lose nothing."""

from __future__ import annotations

import asyncio
import io
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np

from tests.client import Account, account
from tests.faults.raw import BINARY, RawSocket, frame, started_call
from tests.faults.servers import APP_ID, SECRET, FaultServer
from tests.integration.hummed import RATE_HZ, eventually

PACKET_MS = 20
LONGEST_S = 100
"""A witness is heard no longer than this."""


@asynccontextmanager
async def unharmed_call(server: FaultServer) -> AsyncIterator[Account]:
    """A well-behaved call around the block, its app's account inside.

    Its client speaks all the time, as a softphone does. In the end it must have been heard to the last sample, without
    an error, on one connection, and its recording must be what was sent.
    """
    async with account(server.http, server.ws, APP_ID, SECRET) as app, started_call(server.ws) as wire:
        call_id = str(wire.texts[0]["call_id"])
        over = asyncio.Event()
        speaking = asyncio.create_task(_speak(wire, over))
        await wire.until("ack")  # it is under way before anything is done to the server
        listening = asyncio.create_task(wire.until("ended", patience_s=LONGEST_S))
        try:
            yield app
        except BaseException:
            speaking.cancel()
            listening.cancel()
            await asyncio.gather(speaking, listening, return_exceptions=True)
            raise
        over.set()
        sent = await speaking
        await wire.tell(type="hangup", wait_qc_ms=0)
        ended = await listening
        assert wire.error_codes == []
        assert ended["samples"] == len(sent) // 2
        assert await recording_of(app, call_id) == sent


async def recording_of(app: Account, call_id: str, patience_s: float = 30) -> bytes:
    """A call's recorded PCM, as soon as it is sealed."""

    async def sealed() -> bytes:
        status, body = await app.get(f"/v1/calls/{call_id}/recording")
        return body if status == 200 else b""

    with wave.open(io.BytesIO(await eventually(sealed, patience_s))) as wav:
        return bytes(wav.readframes(wav.getnframes()))


async def _speak(wire: RawSocket, over: asyncio.Event) -> bytes:
    """Send noise, no two packets alike, at the pace of a softphone until it is over; all that was sent."""
    random = np.random.default_rng(1)
    sent = bytearray()
    while not over.is_set():
        packet = random.integers(-100, 100, RATE_HZ * PACKET_MS // 1000, np.int16).tobytes()
        sent += packet
        await wire.send(frame(BINARY, packet))
        await asyncio.sleep(PACKET_MS / 1000)
    return bytes(sent)
