"""What watchers cost a server: CPU with and without boards and call pages over the same calls, and memory for each.

`python -m loadtest.bench_watching`. The engines hum instead of hearing (`tests.integration.hummed_server`), so that no
model's work covers what is measured; every call speaks, and gets texts, labels and an alert now and then.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
import numpy as np
import psutil

from protocol.client import CallClient
from protocol.messages import Start
from protocol.watch_client import WatchClient

RATE_HZ: Final = 8000
CHUNK_MS = 100
APP_ID, SECRET = "bench", "secret"


@dataclass
class Server:
    """A server process, and where it listens."""

    ws: str
    process: psutil.Process

    @property
    def cpu_s(self) -> float:
        times = self.process.cpu_times()
        return float(times.user + times.system)

    @property
    def memory_bytes(self) -> int:
        used: int = self.process.memory_info().rss
        return used


@asynccontextmanager
async def server(data: Path) -> AsyncIterator[Server]:
    command = [sys.executable, "-m", "tests.integration.hummed_server", "serve", "--data", str(data)]
    environment = {
        **os.environ,
        "EARSHOT_APPS": f"{APP_ID}:{SECRET}",
        "EARSHOT_HTTP": "127.0.0.1:0",
        "EARSHOT_WS": "127.0.0.1:0",
        "EARSHOT_MAX_LOOP_LAG_MS": "0",
        "EARSHOT_DISK_LOW_MB": "0",
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            while not (found := re.match(rb"socket +(\S+)/v1/calls", await process.stdout.readline())):
                pass
        yield Server(found[1].decode(), psutil.Process(process.pid))
    finally:
        process.terminate()
        await process.wait()


def talk() -> bytes:
    """Ten seconds of humming, rich in overtones and swelling as voices are, and of silence; s16le."""
    at = np.arange(3 * RATE_HZ) / RATE_HZ
    tones = (sum(np.sin(2 * np.pi * pitch * n * at) / n for n in range(1, 20)) for pitch in (100, 160))
    swell = 4500 * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * at))
    return b"".join((swell * tone).astype("<i2").tobytes() + bytes(4 * RATE_HZ) for tone in tones)


async def carry(client: CallClient, pcm: bytes) -> None:
    """Send audio in real time, over and over."""
    chunk_bytes = 2 * RATE_HZ * CHUNK_MS // 1000
    loop = asyncio.get_running_loop()
    due_s, at = loop.time(), 0
    while True:
        await client.send_audio(pcm[at : at + chunk_bytes])
        at = (at + chunk_bytes) % len(pcm)
        due_s += CHUNK_MS / 1000
        await asyncio.sleep(max(0.0, due_s - loop.time()))


async def read(client: CallClient | WatchClient, counts: list[int]) -> None:
    async for _ in client:
        counts[0] += 1


class Watching:
    """So many boards and call pages, while it is entered."""

    def __init__(self, ws: str, boards: int, call_ids: list[str]) -> None:
        self._ws, self._boards, self._call_ids = ws, boards, call_ids
        self._begun = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self.told = [0]

    async def __aenter__(self) -> Watching:
        for call_id in [None] * self._boards + self._call_ids:
            client = await self._begun.enter_async_context(WatchClient(self._ws, app_id=APP_ID, secret=SECRET))
            await client.watch(call_id=call_id, levels=True)
            self._tasks.append(asyncio.create_task(read(client, self.told)))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._begun.aclose()
        await asyncio.gather(*self._tasks)


async def measure(calls: int, boards: int, pages: int, seconds: float, rounds: int, crowd: int) -> None:
    async with AsyncExitStack() as begun:
        data = Path(begun.enter_context(tempfile.TemporaryDirectory(prefix="earshot-bench-")))
        served = await begun.enter_async_context(server(data))
        tasks, call_ids = [], []
        for number in range(calls):
            start = Start(rate=RATE_HZ, metadata={"agent": f"agent {number}"})
            client = CallClient(f"{served.ws}/v1/calls", start, app_id=APP_ID, secret=SECRET)
            await begun.enter_async_context(client)
            call_ids.append(client.call_id)
            tasks += [asyncio.create_task(carry(client, talk())), asyncio.create_task(read(client, [0]))]
        await asyncio.sleep(3)
        cost: dict[str, list[float]] = {"nobody": [], "boards": [], "boards and pages": []}
        told: dict[str, float] = {}
        for _ in range(rounds):
            for who, of_boards, of_pages in zip(cost, (0, boards, boards), (0, 0, pages), strict=True):
                async with Watching(served.ws, of_boards, call_ids[:of_pages]) as watching:
                    await asyncio.sleep(1)
                    before_s, watching.told[0] = served.cpu_s, 0
                    await asyncio.sleep(seconds)
                    cost[who].append((served.cpu_s - before_s) / seconds)
                    told[who] = watching.told[0] / seconds
        click.echo(f"{calls} calls; {boards} boards and {pages} call pages, with levels; {rounds} x {seconds:g} s")
        alone = sum(cost["nobody"]) / rounds
        for who, shares in cost.items():
            mean = sum(shares) / rounds
            click.echo(f"{who:17} {mean:6.1%} of a core   x {mean / alone:.2f}   {told[who]:6.0f} messages/s")
        before_bytes = served.memory_bytes
        async with Watching(served.ws, crowd, []):
            await asyncio.sleep(3)
            each_bytes = (served.memory_bytes - before_bytes) / crowd
            click.echo(f"memory: {each_bytes / 1000:.0f} kB for each of {crowd} boards")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@click.command()
@click.option("--calls", default=20, show_default=True)
@click.option("--boards", default=5, show_default=True)
@click.option("--pages", default=10, show_default=True)
@click.option("--seconds", default=10.0, show_default=True, help="Of each measurement.")
@click.option("--rounds", default=3, show_default=True, help="With and without watchers in turn.")
@click.option("--crowd", default=200, show_default=True, help="Boards whose memory is measured.")
def main(calls: int, boards: int, pages: int, seconds: float, rounds: int, crowd: int) -> None:
    """Measure what watchers cost."""
    asyncio.run(measure(calls, boards, pages, seconds, rounds, crowd))


if __name__ == "__main__":
    main()
