"""Many softphones at once, each playing the same file in real time, and what they saw."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.terminal.softphone import Playback
from protocol.audio import AudioFormat
from protocol.client import CallClient, CallLost, CallRefused
from protocol.messages import Ack, Ended, ServerMessage, Start


@dataclass(slots=True)
class Seen:
    """What one call saw. Lags count from when the audio was due to be sent, so a slow client cannot hide them."""

    connect_s: float = 0.0
    ack_lag_s: list[float] = field(default_factory=list)
    unacked_samples: int = 0
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    url: str
    app_id: str
    secret: str


async def run_calls(
    target: Target, pcm: bytes, audio: AudioFormat, calls: int, ramp_s: float, on_end: Callable[[], None]
) -> list[Seen]:
    """Begin `calls` calls evenly over `ramp_s` and play `pcm` to each; `on_end` hears of each that is over."""

    async def one(number: int) -> Seen:
        await asyncio.sleep(ramp_s * number / calls)
        try:
            return await _call(target, pcm, audio)
        except (CallRefused, CallLost, OSError) as fault:
            return Seen(fault=str(fault))
        finally:
            on_end()

    return list(await asyncio.gather(*(one(number) for number in range(calls))))


async def _call(target: Target, pcm: bytes, audio: AudioFormat) -> Seen:
    seen = Seen()
    start = Start(
        encoding=audio.encoding,
        rate=audio.rate_hz,  # type: ignore[arg-type]  # the caller's choice is one of the three
        channels=audio.channels,  # type: ignore[arg-type]  # one or two
    )
    loop = asyncio.get_running_loop()
    playback = Playback(pcm, audio, 1.0)
    began_s = loop.time()
    async with CallClient(target.url, start, app_id=target.app_id, secret=target.secret) as call:
        seen.connect_s = loop.time() - began_s
        async with asyncio.TaskGroup() as group:
            group.create_task(_play(playback, call))
            async for message in call:
                _note(message, playback, audio, seen)
    seen.unacked_samples = len(pcm) // (2 * audio.channels) - call.acked_samples
    return seen


async def _play(playback: Playback, call: CallClient) -> None:
    await playback.run(call)
    await call.hang_up(wait_qc_ms=0)


def _note(message: ServerMessage, playback: Playback, audio: AudioFormat, seen: Seen) -> None:
    if isinstance(message, Ack):
        since_ms = playback.since_ms(audio.samples_to_ms(message.samples))
        if since_ms is not None:
            seen.ack_lag_s.append(since_ms / 1000)
    elif isinstance(message, Ended) and message.reason not in ("hangup", "qc_pending"):
        seen.fault = message.reason


def percentiles(values: list[float]) -> tuple[float, float, float, float]:
    """p50, p95, p99 and the largest; zeros where there is nothing."""
    ordered = sorted(values)
    if not ordered:
        return 0.0, 0.0, 0.0, 0.0
    last = len(ordered) - 1
    return ordered[last // 2], ordered[round(last * 0.95)], ordered[round(last * 0.99)], ordered[last]
