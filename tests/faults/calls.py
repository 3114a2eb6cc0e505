"""Calls that are under way while a fault strikes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random

from websockets.exceptions import WebSocketException

from tests.faults.servers import FaultServer
from tests.faults.softphone import Softphone, whisper

CALL_MS = 4000
CHUNK_PAUSE_S = 0.005
ABOUT_A_CALL_S = CALL_MS / 20 * CHUNK_PAUSE_S
"""What a call takes from its first chunk to its hangup, at least."""
NOBODY_COMES_BACK = {"EARSHOT_RESUME_WINDOW_S": "1"}
"""For calls whose clients are gone: to be judged soon."""


async def killed_mid_call(server: FaultServer, random: Random, calls: int = 2) -> Sequence[Softphone]:
    """Begin calls, kill the server at a random moment of them; those that had begun, with all that reached them."""
    phones = [Softphone(server.ws, whisper(random.getrandbits(32), CALL_MS)) for _ in range(calls)]
    tasks = [asyncio.create_task(whole_call(phone)) for phone in phones]
    await asyncio.sleep(random.uniform(0, 1.3 * ABOUT_A_CALL_S))  # the moment is the fault's, nothing waits for it
    server.kill()
    await asyncio.gather(*tasks)
    return [phone for phone in phones if phone.messages]


async def whole_call(phone: Softphone) -> None:
    """Say everything, hang up and wait for the end, as far as the server lives to hear it."""
    try:
        async with phone:
            if await phone.talk(pause_s=CHUNK_PAUSE_S) and await phone.hang_up():
                await phone.silence()
    except (OSError, WebSocketException, AssertionError):
        # Killed before it had answered; once it has, nothing of this may happen.
        assert not phone.messages, phone.messages
