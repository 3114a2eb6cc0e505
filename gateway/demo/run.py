"""The demo: a real server in a process of its own, played real calls, and a look at whether everything happened."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import aiohttp
from rich.console import Console

from gateway.clients.quality_http import QualityHttp
from gateway.clients.voiceprint_http import VoiceprintHttp
from gateway.demo.check import stages
from gateway.demo.material import DemoCall, categories, demo_call
from gateway.ports import StoredCategory
from gateway.stores.serving import Serving
from gateway.terminal.serving import served
from gateway.terminal.softphone import Playback, read_audio
from gateway.terminal.timeline import Timeline
from protocol.audio import AudioFormat
from protocol.client import CallClient
from protocol.messages import ServerMessage, Start

APP_ID = "demo"
RATE_HZ: Final = 16000


async def run_demo(languages: Sequence[str], console: Console) -> bool:
    """Play the demo calls of `languages`, one after the other; True when every stage of each really happened."""
    secret = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="earshot-demo-") as folder:
        async with served(Path(folder), f"{APP_ID}:{secret}", console) as serving:
            outcomes = [await _play(demo_call(language), serving, secret, console) for language in languages]
    return all(outcomes)


async def _play(call: DemoCall, serving: Serving, secret: str, console: Console) -> bool:
    console.rule(f"[bold]{'Mandarin' if call.language == 'zh' else 'English'}")
    await _prepare(call, serving, secret, console)
    pcm, channels = read_audio(call.audio, RATE_HZ, 2)
    start = Start(
        rate=RATE_HZ,
        channels=2,
        language=call.language,
        metadata={"agent": call.agent.name, "demo": call.language},
        categories=[category.name for category in categories(call.language)],
    )
    playback = Playback(pcm, AudioFormat("pcm_s16le", RATE_HZ, channels), 1.0)
    timeline = Timeline(console, playback.since_ms)
    heard: list[ServerMessage] = []
    client = CallClient(serving.ws, start, app_id=APP_ID, secret=secret)
    async with client, asyncio.TaskGroup() as group:
        speaking = group.create_task(_speak(client, playback, timeline, heard))
        async for message in client:
            heard.append(message)
            timeline.show(message)
    console.print(timeline.summary())
    return _report(call, heard, len(pcm) // (2 * channels), speaking.result(), console)


async def _speak(client: CallClient, playback: Playback, timeline: Timeline, heard: list[ServerMessage]) -> int:
    """Play to the end and hang up; returns how many messages had come by then."""
    await playback.run(client)
    hangup_at = len(heard)
    await client.hang_up()
    timeline.wait_for_verdict()
    return hangup_at


async def _prepare(call: DemoCall, serving: Serving, secret: str, console: Console) -> None:
    """Enrol the agent and add the rules through the two APIs, as any client of theirs would."""
    async with aiohttp.ClientSession() as session:
        voices = VoiceprintHttp(serving.http, session, credentials=lambda _: (APP_ID, secret), now=time.time)
        await voices.register(
            APP_ID, APP_ID, "agents", call.agent.name, call.enrolment.read_bytes(), filename=call.enrolment.name
        )
        console.print(f"enrolled the agent's voice: {call.agent.name}")
        quality = QualityHttp(session, serving.http, lambda _: (APP_ID, secret))
        for category in categories(call.language):
            await quality.add_rule(
                APP_ID, StoredCategory(category.name, category.description, tuple(category.contents))
            )
            console.print(f"added the rule {category.name}: {' , '.join(category.contents)}")


def _report(
    call: DemoCall, heard: Sequence[ServerMessage], sent_samples: int, hangup_at: int, console: Console
) -> bool:
    good = True
    for stage in stages(call, heard, sent_samples, hangup_at):
        good = good and not stage.fault
        mark = "[red]FAILED[/]" if stage.fault else "[green]ok[/]    "
        console.print(f"{mark} {stage.name}{': ' + stage.fault if stage.fault else ''}", highlight=False)
    return good
