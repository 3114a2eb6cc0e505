"""A Redis server of a test's own: started, stopped for a while, killed, flushed, filled."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

START_TIMEOUT_S = 30


class RedisServer:
    """`redis-server` on a unix socket of a folder. As a context manager it is gone at the end, whatever happens."""

    def __init__(self, folder: Path, *options: str) -> None:
        """Skips the test where redis-server is not installed."""
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("redis-server is not installed")
        self._folder = folder
        # A unix socket's path may hold about a hundred characters, fewer than many a temporary folder has.
        self._socket = Path(f"/tmp/earshot-redis-{os.getpid()}-{id(self):x}.sock")
        self.url = f"unix://{self._socket}"
        self._command = [
            *(program, "--port", "0", "--unixsocket", str(self._socket), "--dir", str(folder), "--save", ""),
            *("--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction", *options),
        ]
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._socket.unlink(missing_ok=True)

    def start(self) -> None:
        """Return once it answers."""
        with (self._folder / "redis.log").open("ab") as output:
            self.process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s:
            if self.process.poll() is not None:
                break
            try:
                if self.ask("PING") == "+PONG":
                    return
            except OSError:
                pass
            time.sleep(0.01)
        raise AssertionError(f"Redis did not start:\n{(self._folder / 'redis.log').read_text()}")

    def ask(self, *words: str) -> str:
        """Send a command on a connection of its own; the first line of the reply."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(self._socket))
            connection.sendall(" ".join(words).encode() + b"\r\n")
            return connection.makefile("rb").readline().decode().strip()

    def kill(self) -> None:
        """SIGKILL, as a machine that loses power."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def freeze(self) -> None:
        """It keeps its connections and answers nobody."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)
