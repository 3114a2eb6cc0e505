"""A server in a process of its own, as an operator runs it: started, told to stop, killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from gateway.stores.serving import served_at

START_TIMEOUT_S = 100
STOP_TIMEOUT_S = 30
REAL = "gateway.cli"
HUMMED = "tests.integration.hummed_server"
"""The same server around engines that need no models."""
OURS = {"PYTHONUNBUFFERED": "1", "EARSHOT_MAX_LOOP_LAG_MS": "0"}


class EarshotProcess:
    """`earshot serve` on free loopback ports. As a context manager it is gone at the end, whatever happens."""

    def __init__(
        self,
        data: Path,
        environment: Mapping[str, str] | None = None,
        *,
        module: str = REAL,
        http: str = "127.0.0.1:0",
        ws: str = "127.0.0.1:0",
        replace: bool = False,
    ) -> None:
        """Start it, with `replace` in the place of one that runs; `environment` holds its `EARSHOT_*` variables.
        Nothing of ours but the models is inherited. That the machine is slow is no reason to refuse calls."""
        self.data = data
        self._log_path = data.with_name(data.name + ".log")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("EARSHOT_")}
        models = {name: os.environ[name] for name in ("EARSHOT_MODELS_DIR",) if name in os.environ}
        with self._log_path.open("ab") as output:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", module, "serve", "--data", str(data)),
                    *("--http", http, "--ws", ws, *(("--replace",) if replace else ())),
                ],
                env={**inherited, **models, **OURS, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self.http = self.ws = ""

    def __enter__(self) -> Self:
        self.wait_until_listening()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def wait_until_listening(self) -> None:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while self.process.poll() is None and time.monotonic() < deadline_s:
            serving = served_at(self.data)
            # A process that was killed leaves its note behind.
            if serving is not None and serving.pid == self.process.pid:
                self.http, self.ws = serving.http, serving.ws
                return
            time.sleep(0.05)
        self.kill()
        raise AssertionError(f"the server did not start:\n{self.log}")

    @property
    def log(self) -> str:
        """What it has printed and logged."""
        return self._log_path.read_text()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self) -> int:
        """SIGTERM, and the exit status. Raises subprocess.TimeoutExpired when it does not go."""
        self.process.terminate()
        return self.process.wait(STOP_TIMEOUT_S)

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        self.process.kill()
        self.process.wait()
