"""Real calls on a real server, as many as a test wants on its board, with what they say in its hands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from protocol.audio import compress
from protocol.client import CallClient
from protocol.messages import ServerMessage, Start
from tests.client import Account
from tests.integration.hummed import RATE_HZ, humming

CHUNK_MS = 200
NOWHERE = "ws://127.0.0.1:1/v1/calls"
"""Nobody listens on port 1."""
AGENT_OFFERS = (100, 1500)
CUSTOMER_WANTS_A_REFUND = (130, 1500)
CUSTOMER_WANTS_THE_MANAGER = (160, 1500)
PAUSE = (0, 1000)
QUIET = (0, 400)


def start_of(agent: str, **more: Any) -> Start:
    """Of a call with the agent on the first channel and the customer on the second."""
    return Start(
        encoding="pcmu",
        rate=RATE_HZ,
        channels=2,
        roles=["agent", "customer"],
        language="en",
        metadata={"agent": agent},
        **more,
    )


def two_channels(agent: Sequence[tuple[int, int]], customer: Sequence[tuple[int, int]]) -> bytes:
    """G.711 of both, the shorter one with silence at its end."""
    sides = [
        np.frombuffer(humming(*parts), np.int16) if parts else np.zeros(0, np.int16) for parts in (agent, customer)
    ]
    length = max(len(side) for side in sides)
    both = np.stack([np.pad(side, (0, length - len(side))) for side in sides], axis=1)
    return compress("pcmu", both.astype("<i2").tobytes())


async def speak(call: CallClient, sound: bytes) -> None:
    """Send it all at once: the server takes it as fast as it can."""
    step = 2 * RATE_HZ * CHUNK_MS // 1000
    for at in range(0, len(sound), step):
        await call.send_audio(sound[at : at + step])


@asynccontextmanager
async def calling(account: Account, agent: str, *sounds: bytes) -> AsyncIterator[Caller]:
    """A call that has said `sounds`, and is hung up at the end of the block if it has not been."""
    client = CallClient(account.ws, start_of(agent), app_id=account.app_id, secret=account.secret)
    async with client:
        caller = Caller(client)
        reading = asyncio.create_task(caller.read())
        try:
            for sound in sounds:
                await caller.speak(sound)
            yield caller
        finally:  # also of a test that has failed: the next ones shall not see its calls
            caller.plug_in()
            await caller.hang_up()
            await reading


@dataclass
class Caller:
    """A softphone that says what it is told to."""

    client: CallClient
    hung_up: bool = False
    messages: list[ServerMessage] = field(default_factory=list)
    _urls: list[str] = field(default_factory=list)

    async def speak(self, sound: bytes) -> None:
        """Send it all at once: the server takes it as fast as it can."""
        step = 2 * RATE_HZ * CHUNK_MS // 1000
        for at in range(0, len(sound), step):
            await self.client.send_audio(sound[at : at + step])

    async def hang_up(self) -> None:
        """It ends without waiting for its verdict."""
        if not self.hung_up:
            self.hung_up = True
            await self.client.hang_up(wait_qc_ms=0)

    def unplug(self) -> None:
        """Its network fails, until `plug_in`."""
        assert self.client._socket is not None
        self._urls = list(self.client._urls)
        self.client._urls[:] = [NOWHERE]
        self.client._socket.transport.abort()

    def plug_in(self) -> None:
        """Its network works; the client finds out by itself."""
        if self._urls:
            self.client._urls[:] = self._urls

    async def read(self) -> None:
        async for message in self.client:
            self.messages.append(message)
