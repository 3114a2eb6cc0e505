"""After a run: whether recordings hold, byte for byte, what was sent, and documents no more than was told."""

from __future__ import annotations

import asyncio
import io
import wave
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import aiohttp
import msgspec

from loadtest.softphones.orders import Outcome
from loadtest.softphones.speech import Script

AT_ONCE: Final = 4
SEAL_PATIENCE_S: Final = 60.0
RETRY_S: Final = 0.2


class _Segment(msgspec.Struct):
    segment_id: str


class _Alert(msgspec.Struct):
    alert_id: str


class _Document(msgspec.Struct):
    """Of `/v1/calls/{id}`, what is looked at."""

    segments: list[_Segment]
    alerts: list[_Alert]


@dataclass(slots=True)
class Verified:
    """`faults`: one line for each recording or document that is not as it should be."""

    recordings: int = 0
    wrong: int = 0
    messages_lost: int = 0
    faults: list[str] = field(default_factory=list)


def chosen(outcomes: Sequence[Outcome], wanted: int | None) -> list[Outcome]:
    """`wanted` of the calls that ended well (None: all), evenly over them."""
    good = [one for one in outcomes if one.call_id and not one.failure]
    if wanted is None or wanted >= len(good):
        return good
    return [good[at * len(good) // wanted] for at in range(wanted)]


async def verify(
    http_url: str,
    session: aiohttp.ClientSession,
    outcomes: Sequence[Outcome],
    scripts: Sequence[Sequence[Script]],
    on_compared: Callable[[], None] = lambda: None,
) -> Verified:
    """Fetch and compare. `session` has the credentials; `scripts` by kind of phone and source, as they were played.
    `on_compared`: hears of each."""
    verified = Verified()
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(outcome: Outcome) -> None:
        async with gate:
            script = scripts[outcome.phones][outcome.source]
            base = f"{http_url.rstrip('/')}/v1/calls/{outcome.call_id}"
            fault = await _recording_fault(session, base, outcome, script)
            if fault:
                verified.wrong += 1
                verified.faults.append(f"call {outcome.call_id}: {fault}")
            else:
                verified.recordings += 1
            for missing in await _untold(session, base, outcome):
                verified.messages_lost += 1
                verified.faults.append(f"call {outcome.call_id}: {missing}")
            on_compared()

    await asyncio.gather(*(one(outcome) for outcome in outcomes))
    return verified


async def _recording_fault(session: aiohttp.ClientSession, base: str, outcome: Outcome, script: Script) -> str:
    """What is wrong with a recording; empty if nothing is."""
    status, body = await _fetch(session, f"{base}/recording")
    if status != 200:
        return f"its recording cannot be had: HTTP {status} {body[:200].decode('utf-8', 'replace')}"
    return difference(body, outcome, script)


def difference(wav: bytes, outcome: Outcome, script: Script) -> str:
    """How a WAV file differs from what the call sent; empty if it does not."""
    try:
        with wave.open(io.BytesIO(wav)) as reader:
            shape = reader.getframerate(), reader.getnchannels(), reader.getsampwidth()
            pcm = reader.readframes(reader.getnframes())
    except (wave.Error, EOFError) as fault:
        return f"its recording is no WAV file: {fault}"
    if shape != (script.audio.rate_hz, script.audio.channels, 2):
        return f"its recording has rate, channels, bytes a sample {shape}"
    sent = script.recording(outcome.first_frame, outcome.sent_samples)
    if pcm == sent:
        return ""
    width = 2 * script.audio.channels
    at = next((at for at, (a, b) in enumerate(zip(pcm, sent, strict=False)) if a != b), min(len(pcm), len(sent)))
    return (
        f"its recording has {len(pcm) // width} samples of {len(sent) // width} sent and differs from {at // width} on"
    )


async def _untold(session: aiohttp.ClientSession, base: str, outcome: Outcome) -> list[str]:
    """One line for each utterance or alert that only the document has, or for a document that cannot be had."""
    status, body = await _fetch(session, base)
    if status != 200:
        return [f"its document cannot be had: HTTP {status} {body[:200].decode('utf-8', 'replace')}"]
    document = msgspec.json.decode(body, type=_Document)
    segments = {one.segment_id for one in document.segments} - set(outcome.segments)
    alerts = {one.alert_id for one in document.alerts} - set(outcome.alerts)
    untold = [*(f"segment {one}" for one in sorted(segments)), *(f"alert {one}" for one in sorted(alerts))]
    return [f"{one} stands in its document and was never told" for one in untold]


async def _fetch(session: aiohttp.ClientSession, url: str) -> tuple[int, bytes]:
    """Status and body; a recording that is not sealed yet is waited for."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + SEAL_PATIENCE_S
    while True:
        try:
            async with session.get(url) as answer:
                status, body = answer.status, await answer.read()
        except (aiohttp.ClientError, TimeoutError) as fault:
            status, body = 0, str(fault).encode()
        if status not in (0, 409, 503) or loop.time() > deadline_s:
            return status, body
        await asyncio.sleep(RETRY_S)
