"""How fast voices are enrolled, and whether a kill loses any: `python -m loadtest.bench_enrol --help`.

Clips of three seconds are cut from recordings, each one voice of its own, and brought to a real `earshot serve` by
`earshot voiceprint import`; once undisturbed, and once with kill -9 when a third and two thirds are enrolled, the
server started anew each time. Then every name must be there once, and each of a sample be found by its own clip.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import sys
import tempfile
import time
import wave
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import click
from rich.console import Console
from rich.table import Table

from gateway.clients.voiceprint_http import Recording, VoiceprintHttp
from gateway.evaluation.accounting import CpuTimes, cpu_times
from gateway.ports import Unavailable
from gateway.stores.serving import served_at
from gateway.terminal.softphone import read_audio
from loadtest.corpus import CORPUS

APP_ID, TAG = "bench", "agents"
RATE_HZ = 16000
CLIP_S = 3.0
HOP_S = 0.37
"""Between the beginnings of two clips of one recording."""
SAMPLE = 20
DEMO = Path(__file__).parent.parent / "gateway" / "demo" / "calls"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One import."""

    kills: int
    wall_s: float
    cpu_s: float
    missing: int
    twice: int
    found: int
    """Of the sample, those that their own clip finds first."""


def cut(folder: Path, count: int, sources: Sequence[Path]) -> int:
    """Write up to `count` clips as WAV; how many there were to cut."""
    folder.mkdir()
    made = 0
    for source in sources:
        pcm, _ = read_audio(source, RATE_HZ, 1)
        clip_bytes = int(2 * RATE_HZ * CLIP_S)
        for begin in range(0, len(pcm) - clip_bytes + 1, 2 * int(RATE_HZ * HOP_S)):
            if made == count:
                return made
            with wave.open(str(folder / f"clip-{made:05}.wav"), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(RATE_HZ)
                file.writeframes(pcm[begin : begin + clip_bytes])
            made += 1
    return made


class Bench:
    """A server that may be killed and comes back at the same address, and what is enrolled there."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._secret = secrets.token_hex(8)
        ports = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        self._http, self._ws = (f"127.0.0.1:{port.getsockname()[1]}" for port in ports)
        for port in ports:
            port.close()
        self.url = f"http://{self._http}"
        self._server: asyncio.subprocess.Process | None = None

    async def start(self) -> int:
        """Start the server and wait until it listens; its process id."""
        data = self._folder / "data"
        with (self._folder / "server.log").open("ab") as log:
            server = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "gateway.cli", "serve", "--data", str(data)),
                *("--http", self._http, "--ws", self._ws),
                env={**os.environ, "EARSHOT_APPS": f"{APP_ID}:{self._secret}"},
                stdout=log,
                stderr=log,
            )
        self._server = server
        while server.returncode is None:
            serving = served_at(data)
            if serving is not None and serving.pid == server.pid:
                return server.pid
            await asyncio.sleep(0.05)
        raise click.ClickException(f"the server did not start:\n{(self._folder / 'server.log').read_text()[-2000:]}")

    async def end(self, number: signal.Signals) -> None:
        """Send the server a signal and wait until it is gone."""
        assert self._server is not None
        self._server.send_signal(number)
        await self._server.wait()

    async def importing(self, clips: Path) -> asyncio.subprocess.Process:
        """`earshot voiceprint import`, begun."""
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway.cli", "voiceprint", "import", str(clips), "--tag", TAG),
            *("--url", self.url, "--app", f"{APP_ID}:{self._secret}"),
            stdout=asyncio.subprocess.PIPE,
        )

    @asynccontextmanager
    async def api(self) -> AsyncIterator[VoiceprintHttp]:
        async with aiohttp.ClientSession() as session:
            yield VoiceprintHttp(
                self.url, session, credentials=lambda _: (APP_ID, self._secret), now=time.time, send_rate_hz=None
            )


async def measure(folder: Path, clips: Path, count: int, kills: int) -> Outcome:
    """Import the clips into a server in `folder`, which is killed so many times meanwhile."""
    bench = Bench(folder)
    pid = await bench.start()
    began_s, began = time.monotonic(), cpu_times(pid)
    cpu_s = 0.0
    importing = await bench.importing(clips)
    async with bench.api() as api:
        for kill in range(1, kills + 1):
            await reached(api, count * kill // (kills + 1))
            cpu_s += spent_s(cpu_times(pid), began)
            await bench.end(signal.SIGKILL)
            pid = await bench.start()
            began = cpu_times(pid)
        output, _ = await importing.communicate()
        wall_s = time.monotonic() - began_s
        cpu_s += spent_s(cpu_times(pid), began)
        if importing.returncode:
            click.echo(output.decode())
        names = [one.name for one in await api.voices(APP_ID, APP_ID, TAG, limit=10_000)]
        files = recordings_in(clips)
        wanted = {path.stem for path in files}
        found = 0
        for path in files[:: max(1, count // SAMPLE)][:SAMPLE]:
            hits = await api.recognize_file(APP_ID, APP_ID, TAG, Recording(path.name, path.read_bytes()))
            found += hits[0].name == path.stem
    await bench.end(signal.SIGTERM)
    return Outcome(kills, wall_s, cpu_s, len(wanted - set(names)), len(names) - len(set(names)), found)


def recordings_in(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def spent_s(now: CpuTimes, before: CpuTimes) -> float:
    """CPU seconds of the server and its engines."""
    return sum(now.since(before).parts.values())


async def reached(api: VoiceprintHttp, count: int) -> None:
    """Wait until so many voices are enrolled."""
    while True:
        try:
            if await api.count(APP_ID, APP_ID, TAG) >= count:
                return
        except Unavailable as fault:
            raise click.ClickException(f"the server went away by itself: {fault}") from fault
        await asyncio.sleep(0.05)


@click.command()
@click.option("--clips", "count", type=click.IntRange(min=30), default=1000, show_default=True)
@click.option("--kills", type=click.IntRange(min=0), default=2, show_default=True, help="In the second import.")
def main(count: int, kills: int) -> None:
    """Enrol clips of three seconds, undisturbed and with the server killed meanwhile."""
    sources = [*sorted((CORPUS / "en").glob("*.flac")), *sorted((CORPUS / "calls").glob("*.flac"))]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = cut(folder / "clips", count, sources or sorted(DEMO.glob("*.flac")))
        click.echo(f"{made} clips of {CLIP_S:g} s")
        table = Table("kill -9", "s", "voices/s", "CPU ms a voice", "missing", "twice", f"found, of {SAMPLE}")
        for number in sorted({0, kills}):
            one = asyncio.run(measure(folder / f"run-{number}", folder / "clips", made, number))
            row = (one.wall_s, made / one.wall_s, 1000 * one.cpu_s / made)
            table.add_row(
                str(number), *(f"{value:.1f}" for value in row), *map(str, (one.missing, one.twice, one.found))
            )
        Console().print(table)


if __name__ == "__main__":
    main()
