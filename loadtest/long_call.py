"""A day of one call in minutes, and what it takes of memory as it goes on: `python -m loadtest.long_call`.

The core hears speech of the demo call over and over, its journal writes to a temporary folder and its messages are kept
for a client that comes back, as in a server. There is no text: what was said grows with what was said (BENCHMARKS.md).
"""

from __future__ import annotations

import asyncio
import gc
import tempfile
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from gateway.call.channel import AnalysisSettings
from gateway.call.effects import Identify, Send
from gateway.call.events import Accepted, AudioStored, Event, Identified
from gateway.call.machine import Call
from gateway.call.settings import CallSettings, CallTerms
from gateway.call.vad import VadSettings
from gateway.demo.material import demo_call
from gateway.engines.webrtc import WebrtcGate
from gateway.session.record import MessageRecord
from gateway.stores.journal import FileJournal, JournalLimits
from gateway.stores.recordings import Recordings
from gateway.terminal.softphone import read_audio
from protocol.codec import encode
from protocol.messages import Start
from protocol.rules.matcher import RuleSet

RATE_HZ: Final = 8000
PACKET_MS = 100


@dataclass(frozen=True, slots=True)
class Hour:
    """Bytes that Python has allocated since the call began."""

    core: int
    journal: int


class LongCall:
    """One call without a socket."""

    def __init__(self, journal: FileJournal) -> None:
        terms = CallTerms.of("long", Start(rate=RATE_HZ))
        settings = CallSettings(
            gate=WebrtcGate, vad=VadSettings("webrtc"), analysis=AnalysisSettings(transcribes=False)
        )
        self._call = Call(terms, settings, RuleSet([], pinyin=True))
        self._record = MessageRecord()
        self._journal = journal
        journal.open_call("long", b'{"rate_hz": 8000, "channels": 1}')
        self._happen(Accepted("token", 60, {}))

    def hear(self, pcm: bytes) -> None:
        self._journal.append_audio("long", self._call.samples, pcm)
        for effect in self._call.hear(pcm):
            self._carry_out(effect)

    async def store(self) -> None:
        """Make safe what was heard, and ack it."""
        await self._journal.synced(self._journal.position)
        self._happen(AudioStored(self._call.samples))

    def _happen(self, event: Event) -> None:
        for effect in self._call.receive(event):
            self._carry_out(effect)

    def _carry_out(self, effect: object) -> None:
        if isinstance(effect, Send):
            self._record.add(effect.message, encode(effect.message))
        elif isinstance(effect, Identify):
            self._happen(Identified(effect.channel, effect.ordinal, ()))


async def measure(hours: int, on_hour: Callable[[int, Hour], None]) -> None:
    """Let a call go on for so many hours of its own time."""
    pcm, _ = read_audio(demo_call("en").audio, RATE_HZ, 1)
    step = 2 * RATE_HZ * PACKET_MS // 1000
    packets = [pcm[at : at + step] for at in range(0, len(pcm) - step + 1, step)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        journal = FileJournal(folder, Recordings(folder), limits=JournalLimits(commit_interval_ms=1))
        await journal.start()
        try:
            call = LongCall(journal)
            tracemalloc.start()
            for hour in range(hours):
                for number in range(3600 * 1000 // PACKET_MS):
                    call.hear(packets[number % len(packets)])
                    if number % 100 == 0:
                        await call.store()
                gc.collect()
                on_hour(hour + 1, _hour())
        finally:
            tracemalloc.stop()
            await journal.stop()


def _hour() -> Hour:
    taken = tracemalloc.take_snapshot().statistics("filename")
    in_journal = ("stores/journal", "stores/commit_log", "stores/group_commit")
    by = [(any(part in one.traceback[0].filename for part in in_journal), one.size) for one in taken]
    return Hour(sum(size for journal, size in by if not journal), sum(size for journal, size in by if journal))


@click.command()
@click.option("--hours", default=24, show_default=True)
def main(hours: int) -> None:
    """Show what a long call keeps in memory, hour by hour."""

    def show(hour: int, kept: Hour) -> None:
        print(f"{hour:3} h  call {kept.core / 1000:9.1f} kB   journal {kept.journal / 1000:9.1f} kB", flush=True)

    asyncio.run(measure(hours, show))


if __name__ == "__main__":
    main()
