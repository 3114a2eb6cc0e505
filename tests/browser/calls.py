"""Calls for the call page's tests: two parties on two channels, with voices that are enrolled, and rules they hit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from gateway.ports import StoredCategory
from protocol.client import CallClient
from protocol.messages import ServerMessage, Start
from tests.client import CALL_TIMEOUT_S, Account
from tests.integration.hummed import RATE_HZ, humming
from tests.integration.test_http_side import wav_of
from tests.voices import voice

AGENT, CUSTOMER = "Anna Bell", "Carl Fox"


def spoken(speaker: int, seconds: float) -> bytes:
    return voice(speaker, take=1, seconds=seconds, rate_hz=RATE_HZ)


def together(agent: bytes, customer: bytes) -> bytes:
    """Two channels as one; the shorter ends in silence."""
    samples = np.zeros((max(len(agent), len(customer)) // 2, 2), "<i2")
    for channel, pcm in enumerate((agent, customer)):
        samples[: len(pcm) // 2, channel] = np.frombuffer(pcm, "<i2")
    return samples.tobytes()


GREETING: Final = together(humming((0, 400)) + spoken(1, 3.8), humming((0, 3000), (130, 2500), (0, 900)))
"""The agent, known, says goodbye; the customer, while the agent still talks, wants a refund."""
ANSWER: Final = together(
    humming((0, 4500), (160, 2000), (0, 1200)), humming((0, 200)) + spoken(2, 3.6) + humming((0, 900))
)
"""The customer, known too, and after a silence of the customer the agent, who asks for a manager."""


async def people_and_rules(app: Account) -> None:
    """Enrol both, and keep rules that the calls here hit, hit in shadow, hit by silence alone, and do not hit."""
    for speaker, name in ((1, AGENT), (2, CUSTOMER)):
        enrolled = voice(speaker, take=2, seconds=8.0, rate_hz=RATE_HZ)
        await app.voices.register(app.app_id, app.app_id, "desk", name, wav_of(enrolled))
    await app.quality.add_rule(app.app_id, StoredCategory("Money back", "", ("refund",)))
    await app.quality.add_rule(app.app_id, StoredCategory("Escalation", "", ("manager&&!sorry",)))
    shadow = {"contents": [{"expression": "goodbye", "shadow": True}]}
    status, answer = await app.send("PUT", "/v1/rules/On%20trial", shadow)
    assert status == 200, answer


@dataclass
class Talk:
    """A call whose audio the test sends as it likes."""

    client: CallClient
    messages: list[ServerMessage] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def call_id(self) -> str:
        return self.client.call_id

    async def say(self, pcm: bytes) -> None:
        await self.client.send_audio(pcm)

    async def hang_up(self) -> None:
        """And wait for the verdict."""
        await self.client.hang_up()
        async with asyncio.timeout(CALL_TIMEOUT_S):
            await self.over.wait()


@asynccontextmanager
async def talking(app: Account, **start: Any) -> AsyncIterator[Talk]:
    """A call of two channels that goes on until it is hung up, at the end of the block at the latest."""
    terms = {"rate": RATE_HZ, "channels": 2, "language": "en", "metadata": {"agent": AGENT, "desk": "12"}, **start}
    client = CallClient(app.ws, Start(**terms), app_id=app.app_id, secret=app.secret)
    talk = Talk(client)

    async def listen() -> None:
        async for message in client:
            talk.messages.append(message)
        talk.over.set()

    async with client, asyncio.TaskGroup() as group:
        group.create_task(listen())
        yield talk
        if not talk.over.is_set():
            await talk.hang_up()
