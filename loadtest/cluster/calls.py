"""Calls that are played into a cluster in real time, and what their clients saw."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeVar

from gateway.demo.material import DemoCall, categories, demo_call
from gateway.terminal.softphone import Playback, read_audio
from protocol.audio import AudioFormat
from protocol.client import CallClient, CallLost, CallRefused
from protocol.errors import ProtocolError
from protocol.messages import Ack, ServerMessage, Start

RATE_HZ: Final = 8000
CHANNELS: Final[Literal[2]] = 2
VERDICT_MS: Final = 900_000
"""However slow the machine is, alerts are to be held against their verdicts while the client listens."""
M = TypeVar("M")


@dataclass(slots=True)
class PlayedCall:
    """One call from its client's side."""

    number: int
    first_node: str
    """Where it began."""
    start: Start
    pcm: bytes
    """What is sent: s16le, both channels interleaved."""
    call_id: str = ""
    messages: list[ServerMessage] = field(default_factory=list)
    acked_at_s: list[float] = field(default_factory=list)
    """When each ack came, by the monotonic clock."""
    hung_up: bool = False
    fault: str = ""
    """Why the client gave up, if it did."""

    @property
    def name(self) -> str:
        return f"call {self.number} ({self.start.language})"

    @property
    def samples(self) -> int:
        return len(self.pcm) // (2 * CHANNELS)

    def of(self, kind: type[M]) -> list[M]:
        return [message for message in self.messages if isinstance(message, kind)]

    def longest_silence_s(self, since_s: float = 0.0) -> float:
        """The longest time between two acks of which the later came after `since_s`."""
        pairs = zip(self.acked_at_s, self.acked_at_s[1:], strict=False)
        return max((later - earlier for earlier, later in pairs if later > since_s), default=0.0)


@dataclass(frozen=True, slots=True)
class Material:
    """What is played: the demo's calls, cut to the length of a run."""

    start: Start
    pcm: bytes


def material(seconds: float) -> list[Material]:
    """The beginnings of the English and the Mandarin demo call, with the rules that their calls name."""
    return [_cut(demo_call(language), seconds) for language in ("en", "zh")]


def _cut(call: DemoCall, seconds: float) -> Material:
    pcm, _ = read_audio(call.audio, RATE_HZ, CHANNELS)
    start = Start(
        rate=RATE_HZ,
        channels=CHANNELS,
        language=call.language,
        categories=[category.name for category in categories(call.language)],
    )
    return Material(start, pcm[: round(seconds * RATE_HZ) * 2 * CHANNELS])


async def play(call: PlayedCall, urls: Sequence[str], app_id: str, secret: str) -> None:
    """Play a call at one of `urls`, the first if it answers, to its end; it goes on at another when a node dies."""
    client = CallClient(urls, call.start, app_id=app_id, secret=secret)
    try:
        async with client, asyncio.TaskGroup() as group:
            call.call_id = client.call_id
            group.create_task(_speak(call, client))
            async for message in client:
                call.messages.append(message)
                if isinstance(message, Ack):
                    call.acked_at_s.append(time.monotonic())
    except* (CallLost, CallRefused, ProtocolError, OSError) as faults:
        call.fault = "; ".join(f"{type(fault).__name__}: {fault}" for fault in faults.exceptions)


async def _speak(call: PlayedCall, client: CallClient) -> None:
    await Playback(call.pcm, AudioFormat("pcm_s16le", RATE_HZ, CHANNELS), 1.0).run(client)
    await client.hang_up(wait_qc_ms=VERDICT_MS)
    call.hung_up = True
