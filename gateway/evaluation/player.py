"""Plays one labelled call through the real socket in real time, and keeps what came back and when."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.evaluation.accounting import CpuTimes, cpu_times
from gateway.evaluation.material import RATE_HZ, LabelledCall
from gateway.stores.serving import Serving
from gateway.terminal.softphone import Playback
from protocol.audio import AudioFormat
from protocol.client import CallClient
from protocol.messages import ServerMessage, Start

WAIT_QC_MS = 900_000


@dataclass(frozen=True, slots=True)
class Arrived:
    """`at_ms`: the client's clock at arrival, ms after the first sample of the call was spoken."""

    at_ms: float
    message: ServerMessage


@dataclass(frozen=True, slots=True)
class Played:
    """`live` and `after`: CPU spent up to the hangup, and from there to `ended`; other calls' too if any were on."""

    call: LabelledCall
    channels: int
    speed: float
    duration_ms: int
    hangup_ms: float
    arrived: tuple[Arrived, ...]
    live: CpuTimes
    after: CpuTimes


def start_of(call: LabelledCall, channels: int, categories: Sequence[str] = ()) -> Start:
    """How the call announces itself."""
    agents = call.speakers("agent")
    return Start(
        rate=RATE_HZ,
        channels=2 if channels == 2 else 1,
        language=call.language,
        metadata={"agent": agents[0]} if channels == 2 and agents else {},
        categories=list(categories),
    )


async def play(
    call: LabelledCall,
    pcm: bytes,
    channels: int,
    serving: Serving,
    credentials: tuple[str, str],
    categories: Sequence[str],
    speed: float,
    on_progress: Callable[[float], None],
) -> Played:
    """Play interleaved s16le PCM, hang up, wait for `ended`. `on_progress` hears seconds played.

    `speed`: times real time; what arrives is timed by the wall all the same.

    Raises CallRefused, CallLost.
    """
    app_id, secret = credentials
    playback = Playback(pcm, AudioFormat("pcm_s16le", RATE_HZ, channels), speed)
    client = CallClient(serving.ws, start_of(call, channels, categories), app_id=app_id, secret=secret)
    arrived: list[Arrived] = []
    began = cpu_times(serving.pid)

    async def speak() -> tuple[float, CpuTimes]:
        await playback.run(client)
        hangup_ms, spent = playback.since_ms(0), cpu_times(serving.pid)
        await client.hang_up(wait_qc_ms=WAIT_QC_MS)
        assert hangup_ms is not None
        return hangup_ms, spent

    async with client, asyncio.TaskGroup() as group:
        speaking = group.create_task(speak())
        async for message in client:
            at_ms = playback.since_ms(0)
            assert at_ms is not None
            arrived.append(Arrived(at_ms, message))
            on_progress(min(at_ms * speed, playback.duration_ms) / 1000)
    hangup_ms, at_hangup = speaking.result()
    live, after = at_hangup.since(began), cpu_times(serving.pid).since(at_hangup)
    return Played(call, channels, speed, playback.duration_ms, hangup_ms, tuple(arrived), live, after)
