"""The servers that `bench_ingest` measures, each a process (or several) on the processor it is told."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from gateway.stores.serving import served_at
from loadtest.frame_sender import Upgrade
from protocol.codec import SUBPROTOCOL, encode
from protocol.messages import Start

FLOOR_SOURCE = Path(__file__).with_name("epoll_floor.c")
START_S = 120.0
_LEAVE_S = 20.0
_APP, _SECRET = "bench", "bench-secret"


class NotStarted(Exception):
    """A server did not come up; the text says what it told."""


@dataclass(frozen=True, slots=True)
class Served:
    """A server that runs."""

    port: int
    pid: int
    upgrade: Upgrade

    def cpu_s(self) -> float:
        """CPU time of all its processes so far."""
        return sum(_cpu_s(pid) for pid in self._pids())

    def _pids(self) -> list[int]:
        return [self.pid, *(child.pid for child in psutil.Process(self.pid).children(recursive=True))]


def _cpu_s(pid: int) -> float:
    """User and system time of a process, in nanosecond steps (clock_getcpuclockid(3))."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0  # it has ended


@contextmanager
def earshot(processor: int, rate_hz: int, settings: Mapping[str, str]) -> Iterator[Served]:
    """A server of its own, on a new data folder; `settings` beside those that every measurement has."""
    data = Path(tempfile.mkdtemp(prefix="earshot-bench-"))
    every = {
        "http": "127.0.0.1:0",
        "ws": "127.0.0.1:0",
        "data": str(data),
        "apps": f"{_APP}:{_SECRET}",
        "vad": "webrtc",
        "max_calls": "100000",
        "audio_timeout_s": "3600",
        "ping_interval_s": "3600",  # the sender answers no pings
        "max_loop_lag_ms": "0",
        "quality_workers": "0",
        "index_calls": "false",
        "log_level": "warning",
    }
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("EARSHOT_")},
        **{f"EARSHOT_{key.upper()}": value for key, value in {**every, **settings}.items()},
    }
    credentials = base64.b64encode(f"{_APP}:{_SECRET}".encode()).decode()
    upgrade = Upgrade(
        (f"Authorization: Basic {credentials}", f"Sec-WebSocket-Protocol: {SUBPROTOCOL}"),
        encode(Start(rate=rate_hz)),  # type: ignore[arg-type]  # one of the three
        b'"type":"started"',
    )
    try:
        with _process([sys.executable, "-m", "gateway.cli", "serve"], processor, environment) as process:
            yield Served(_port_of(data, process), process.pid, upgrade)
    finally:
        shutil.rmtree(data, ignore_errors=True)


def _port_of(data: Path, process: subprocess.Popen[bytes]) -> int:
    deadline_s = time.monotonic() + START_S
    while (serving := served_at(data)) is None:
        if process.poll() is not None or time.monotonic() > deadline_s:
            raise NotStarted(f"earshot serve did not come up within {START_S:g} s, or ended: {process.returncode}")
        time.sleep(0.05)
    return int(serving.ws.rpartition(":")[2].partition("/")[0])


@contextmanager
def peer(processor: int, name: str) -> Iterator[Served]:
    """One of `ingest_peers`."""
    with _saying_its_port([sys.executable, "-m", "loadtest.ingest_peers", name], processor) as served:
        yield served


@contextmanager
def floor(processor: int, program: Path) -> Iterator[Served]:
    """The C program of `compiled_floor`."""
    with _saying_its_port([str(program)], processor) as served:
        yield served


def compiled_floor(folder: Path) -> Path | None:
    """The floor as a program in `folder`; None where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    program = folder / "epoll_floor"
    subprocess.run([compiler, "-O2", "-o", str(program), str(FLOOR_SOURCE)], check=True)
    return program


@contextmanager
def _saying_its_port(command: Sequence[str], processor: int) -> Iterator[Served]:
    with _process(command, processor, None, subprocess.PIPE, subprocess.DEVNULL) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        if not said:
            raise NotStarted(f"{' '.join(command)} ended before it listened")
        yield Served(int(said), process.pid, Upgrade())


@contextmanager
def _process(
    command: Sequence[str],
    processor: int,
    environment: Mapping[str, str] | None,
    stdout: int | None = None,
    stderr: int | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {processor})  # what is started now, and all that it starts, stays there
    try:
        process = subprocess.Popen(command, env=environment, stdout=stdout or subprocess.DEVNULL, stderr=stderr)
    finally:
        os.sched_setaffinity(0, ours)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_LEAVE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
