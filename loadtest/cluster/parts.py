"""The processes of a cluster on one machine: a Redis, gateways, workers of voice QC."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.error import URLError
from urllib.request import urlopen

import msgspec
import redis

from gateway.stores.serving import served_at

T = TypeVar("T")
START_S: Final = 180.0
"""For engines that load on a busy machine."""
STOP_S: Final = 20.0
WORKER_IS_READY: Final = "is ready"


class NotStarted(Exception):
    """A part of the cluster is missing or did not come up; the text says what to do, or holds the end of its log."""


class Part:
    """One process, its log, and whether it was meant to die."""

    def __init__(self, name: str, command: list[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log_path = log
        self._command = command
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        """Start the process; it is not ready yet. Again starts it anew, with the same log."""
        with self.log_path.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for us, who end the parts in order
            )

    @property
    def pid(self) -> int:
        assert self._process is not None, "begin first"
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "begin first"
        self._process.send_signal(number)

    def kill(self) -> None:
        """As a machine that loses power, for this process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def end(self) -> None:
        """Ask it to go, and see that it does."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def wait_until(self, ready: Callable[[], T | None]) -> T:
        """What `ready` answers once it does. Raises NotStarted."""
        deadline_s = time.monotonic() + START_S
        while time.monotonic() < deadline_s and self._process is not None and self._process.poll() is None:
            if (answer := ready()) is not None:
                return answer
            time.sleep(0.1)
        end = "\n".join(self.log_path.read_text("utf-8", "replace").splitlines()[-12:])
        raise NotStarted(f"{self.name} did not become ready. The end of its log:\n{end}")

    def entries(self) -> Iterator[dict[str, Any]]:
        """What it has logged as JSON."""
        for line in self.log_path.read_text("utf-8", "replace").splitlines():
            if line.startswith("{"):
                try:
                    yield msgspec.json.decode(line)
                except msgspec.DecodeError:  # the last words of a process that was killed
                    continue


class RedisPart(Part):
    """`redis-server` on a socket in `folder`, which keeps what it holds over a restart."""

    def __init__(self, folder: Path) -> None:
        """Raises NotStarted where it is not installed."""
        program = shutil.which("redis-server")
        if program is None:
            raise NotStarted(
                "redis-server is not installed: `apt install redis-server` (7 or newer), or put it in PATH"
            )
        socket = folder / "redis.sock"
        self.url = f"unix://{socket}"
        command = [program, "--port", "0", "--unixsocket", str(socket), "--dir", str(folder), "--save", ""]
        command += ["--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction"]
        super().__init__("redis", command, os.environ, folder / "redis.log")
        self.client = redis.Redis.from_url(self.url, socket_timeout=5)

    def start(self) -> None:
        """Return once it answers. Raises NotStarted."""
        self.begin()
        self.wait_until(self._answers)

    def _answers(self) -> bool | None:
        try:
            return bool(self.client.ping()) or None
        except redis.RedisError:
            return None


class Gateway(Part):
    """`earshot serve` in a data folder of its own."""

    def __init__(self, name: str, folder: Path, settings: Mapping[str, str], module: str) -> None:
        self._data = folder / name
        command = [sys.executable, "-m", module, "serve", "--data", str(self._data)]
        command += ["--http", "127.0.0.1:0", "--ws", "127.0.0.1:0"]
        super().__init__(name, command, _environment({**settings, "node": name}), folder / f"{name}.log")
        self.http = self.ws = ""

    def when_ready(self) -> None:
        """Return once it welcomes calls. Raises NotStarted."""
        self.http, self.ws = self.wait_until(self._addresses)

    def _addresses(self) -> tuple[str, str] | None:
        serving = served_at(self._data) if self._data.exists() else None
        if serving is None or serving.pid != self.pid or not _welcomes(serving.http):
            return None
        return serving.http, serving.ws


class Worker(Part):
    """`earshot worker` on the shared folder of recordings."""

    def __init__(self, name: str, folder: Path, settings: Mapping[str, str], module: str) -> None:
        command = [sys.executable, "-m", module, "worker", "--data", str(folder / name)]
        super().__init__(name, command, _environment(settings), folder / f"{name}.log")
        self.claims_as = ""
        """Its name in the queue."""

    def when_ready(self) -> None:
        """Return once it takes tasks. Raises NotStarted."""
        self.claims_as = self.wait_until(self._own_name)

    def _own_name(self) -> str | None:
        steps = (str(entry.get("step", "")) for entry in self.entries() if entry.get("event") == "worker")
        return next(
            (step.split()[1] for step in steps if step.endswith(WORKER_IS_READY) and len(step.split()) == 4), None
        )


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Nothing of ours but the models is inherited."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("EARSHOT_") or name == "EARSHOT_MODELS_DIR"
    }
    named = {f"EARSHOT_{name.upper()}": value for name, value in settings.items()}
    return {**inherited, **named, "EARSHOT_LOG_FORMAT": "json", "PYTHONUNBUFFERED": "1"}


def _welcomes(http_url: str) -> bool:
    try:
        with urlopen(f"{http_url}/readyz", timeout=5) as answer:  # noqa: S310 - our own server's address
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False
