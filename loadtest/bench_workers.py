"""How much sooner two workers of voice QC finish a batch than one: `python -m loadtest.bench_workers --help`.

Real processes of `earshot worker` over the queue of a temporary data folder, with the real recogniser, one thread each.
Timed from the batch's submission, when every worker is loaded and waits, to the last result.
"""

from __future__ import annotations

import asyncio
import io
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import uuid
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from gateway.assembly.clock import SystemClock
from gateway.demo.material import demo_call
from gateway.ports import QualityJob
from gateway.quality.audio import AudioFolder
from gateway.quality.order import of_request
from gateway.stores import quality, quality_rules
from gateway.stores.quality import SqliteQualityTasks
from gateway.stores.sqlite import Database
from gateway.terminal.softphone import read_audio
from protocol.quality import PID_PLAIN, TaskRequest

APP_ID = "bench"
RATE_HZ = 8000
START_TIMEOUT_S = 120
AIM = 0.6


@dataclass(frozen=True, slots=True)
class Batch:
    """How long a batch took, and what it cost."""

    workers: int
    wall_s: float
    cpu_s: float


@click.command()
@click.option("--tasks", type=click.IntRange(2), default=12, show_default=True, help="Recordings in the batch.")
@click.option("--seconds", type=click.IntRange(5), default=40, show_default=True, help="Length of each.")
@click.option("--model", default="whisper-base", show_default=True)
@click.option("--workers", "counts", multiple=True, type=int, default=(1, 2), show_default=True)
def main(tasks: int, seconds: int, model: str, counts: Sequence[int]) -> None:
    """Time a batch of recordings with one worker, then with two. Exit 1: two took more than 0.6 of one's time."""
    recording = stereo_wav(seconds)
    batches = [asyncio.run(timed(count, tasks, recording, model)) for count in counts]
    table = Table("workers", "wall s", "of the first", "CPU s")
    for batch in batches:
        share = batch.wall_s / batches[0].wall_s
        table.add_row(str(batch.workers), f"{batch.wall_s:.1f}", f"{share:.2f}", f"{batch.cpu_s:.1f}")
    Console().print(table)
    Console().print(f"{tasks} recordings of {seconds} s, 2 channels, {model}; {os.cpu_count()} processors")
    if tuple(counts) == (1, 2) and batches[1].wall_s > AIM * batches[0].wall_s:
        raise SystemExit(1)


def stereo_wav(seconds: int) -> bytes:
    """The beginning of the demo's English call."""
    pcm, channels = read_audio(demo_call("en").audio, RATE_HZ, 2)
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setparams((channels, 2, RATE_HZ, 0, "NONE", ""))
        file.writeframes(pcm[: seconds * RATE_HZ * channels * 2])
    return data.getvalue()


async def timed(workers: int, tasks: int, recording: bytes, model: str) -> Batch:
    """A batch on a queue of its own, with so many workers."""
    with tempfile.TemporaryDirectory(prefix="earshot-bench-") as folder:
        data = Path(folder)
        database = Database(data / "earshot.db", (quality.SCHEMA, quality_rules.SCHEMA))
        before_s = children_cpu_s()
        processes = [started(data, model, number) for number in range(workers)]
        try:
            await asyncio.gather(*(ready(data / f"worker-{number}.log") for number in range(workers)))
            wall_s = await finished(
                SqliteQualityTasks(database, SystemClock()), AudioFolder(data / "quality"), tasks, recording
            )
        finally:
            for process in processes:
                process.send_signal(signal.SIGTERM)
            for process in processes:
                process.wait()
            database.close()
    return Batch(workers, wall_s, children_cpu_s() - before_s)


def started(data: Path, model: str, number: int) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "EARSHOT_RECOGNIZER": model, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with (data / f"worker-{number}.log").open("wb") as log:
        command = [sys.executable, "-m", "gateway.cli", "worker", "--data", str(data)]
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


async def ready(log: Path) -> None:
    async with asyncio.timeout(START_TIMEOUT_S):
        while "is ready" not in await asyncio.to_thread(log.read_text):  # noqa: ASYNC110 - another process's word
            await asyncio.sleep(0.1)


async def finished(queue: SqliteQualityTasks, folder: AudioFolder, tasks: int, recording: bytes) -> float:
    """Submit the batch; the wall time until all of it is judged, in s."""
    order = of_request(TaskRequest(session_id="", pid=PID_PLAIN, is_split_channel=True, language="en"), "file")
    begun_s = time.monotonic()
    for number in range(tasks):
        name = await folder.keep(recording)
        await queue.submit(QualityJob(uuid.uuid4().hex, APP_ID, str(number), name, order.encoded(), 0))
    for number in range(tasks):
        while (found := await queue.find(APP_ID, str(number))) is None or found.state in (0, 1):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.05)
        if found.state != 2:
            raise click.ClickException(f"recording {number} was not judged: {found.reason}")
    return time.monotonic() - begun_s


def children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
