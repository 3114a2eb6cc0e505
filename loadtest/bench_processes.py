"""What a packet costs a server whose calls one process takes, or several: CPU time, process by process.

    python -m loadtest.bench_processes [--calls 100] [--seconds 20]

Servers without models, so that what is measured is the way in, the journal, the gate and, in the second pair of rows,
the way to the engine that confirms speech: in the same process, or over a link to the main one.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import psutil
from rich.console import Console

SERVER = "tests.integration.hummed_server"
PACKETS_PER_S = 50
PATIENCE_S = 120
ENVIRONMENT = {
    "EARSHOT_APPS": "load:secret",
    "EARSHOT_DISK_LOW_MB": "0",
    "EARSHOT_MAX_LOOP_LAG_MS": "0",
    "EARSHOT_LIVE_TEXT": "false",
    "EARSHOT_QUALITY_WORKERS": "0",
    "EARSHOT_INDEX_CALLS": "false",
}


@click.command()
@click.option("--calls", type=click.IntRange(min=1), default=100, show_default=True)
@click.option(
    "--seconds", type=click.FloatRange(min=1), default=20.0, show_default=True, help="How long CPU time is counted."
)
def main(calls: int, seconds: float) -> None:
    """Print CPU time a packet of 20 ms, in us."""
    click.echo(f"{calls} calls, {os.cpu_count()} processors, load average {os.getloadavg()[0]:.1f}")
    for vad in ("webrtc", "webrtc+silero"):
        for workers in (1, 2):
            with Console(stderr=True).status(f"vad {vad}, workers {workers}: {calls} calls") as status:
                main_us, workers_us = measured(workers, vad, calls, seconds, status.update)
            each = ", ".join(f"{one:.1f}" for one in workers_us) or "-"
            total = main_us + sum(workers_us)
            click.echo(f"vad {vad:14} workers {workers}: main {main_us:.1f}, workers {each}, together {total:.1f} us")


def measured(
    workers: int, vad: str, calls: int, seconds: float, say: Callable[[str], None] = lambda doing: None
) -> tuple[float, list[float]]:
    """CPU time a packet in us: the main process's, and each worker's. Raises ClickException when there is none."""
    name = f"vad {vad}, workers {workers}"
    say(f"{name}: starting the server")
    with tempfile.TemporaryDirectory() as folder, served(Path(folder), workers, vad) as (server, http, ws):
        arguments = ["steady", "--calls", str(calls), "--ramp", "3", "--duration", str(seconds + 25), "--verify", "0"]
        command = [sys.executable, "-m", "loadtest", "run", *arguments, "--url", ws, "--http-url", http]
        told = Path(folder) / "load"
        with told.open("wb") as output:
            load = subprocess.Popen([*command, "--app", "load:secret"], stdout=output, stderr=output)
        try:
            say(f"{name}: {calls} calls begin")
            wait_for(lambda: metric(http, "earshot_calls_live") >= calls, load, told, f"{calls} calls were not up")
            time.sleep(4)  # for what beginning costs
            say(f"{name}: counting for {seconds:g} s")
            audio_s, before = metric(http, "earshot_audio_seconds_total"), cpu_s(server.pid)
            time.sleep(seconds)
            audio_s, after = metric(http, "earshot_audio_seconds_total") - audio_s, cpu_s(server.pid)
        finally:
            load.terminate()
            load.wait()
    if not audio_s:
        raise click.ClickException("the server took no audio while CPU was counted")
    spent = {pid: (after[pid] - before[pid]) / (audio_s * PACKETS_PER_S) * 1e6 for pid in after if pid in before}
    return spent.pop(server.pid), sorted(spent.values())


@contextmanager
def served(folder: Path, workers: int, vad: str) -> Iterator[tuple[subprocess.Popen[bytes], str, str]]:
    """A server, and the addresses of its two listeners."""
    variables = {**ENVIRONMENT, "EARSHOT_VAD": vad, "EARSHOT_WORKERS": str(workers)}
    log = folder / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", SERVER, "serve", "--data", str(folder / "data")),
                *("--http", "127.0.0.1:0", "--ws", "127.0.0.1:0"),
            ],
            env={**os.environ, **variables, "PYTHONUNBUFFERED": "1"},
            stdout=output,
            stderr=output,
        )
    try:
        wait_for(lambda: "socket " in log.read_text(), server, log, "the server did not come up")
        told = log.read_text()
        yield server, re.findall(r"HTTP +(\S+)", told)[0], re.findall(r"socket +(\S+)", told)[0]
    finally:
        server.terminate()
        server.wait()


def wait_for(holds: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, otherwise: str) -> None:
    """Return once `holds()` is true. Raises ClickException when it does not come to be, or `process` has ended."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not holds():
        if process.poll() is not None or time.monotonic() > deadline_s:
            why = f"within {PATIENCE_S} s" if process.poll() is None else f"(status {process.poll()})"
            end = "\n".join(log.read_text("utf-8", "replace").splitlines()[-12:])
            raise click.ClickException(f"{otherwise} {why}. The end of what was told:\n{end}")
        time.sleep(0.2)


def metric(http: str, name: str) -> float:
    with urllib.request.urlopen(f"{http}/metrics") as page:  # noqa: S310 - our own server's address
        found = re.search(rf"^{name} (\S+)", page.read().decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


def cpu_s(pid: int) -> dict[int, float]:
    """CPU time of a process and all below it, by process id."""
    process = psutil.Process(pid)
    times = {one.pid: one.cpu_times() for one in (process, *process.children(recursive=True))}
    return {one: spent.user + spent.system for one, spent in times.items()}


if __name__ == "__main__":
    main()
