"""Earshot servers to be ill-treated: real processes around engines that need no models."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

APP_ID, SECRET = "demo", "secret"
ENVIRONMENT: Final = {
    "EARSHOT_APPS": f"{APP_ID}:{SECRET}",
    "EARSHOT_QC_POLL_S": "0.05",
    # A slow machine or a full one is no fault that a test has caused: they turn no call away.
    "EARSHOT_MAX_LOOP_LAG_MS": "0",
    "EARSHOT_DISK_LOW_MB": "0",
}
PATIENCE_S = 60
"""For what must happen on a machine under load; who waits this long has failed."""


class Died(AssertionError):
    """The server ended before it listened, which a fault at its start may mean to cause."""


class Serve(Protocol):
    """How a check gets its servers, so that the very same check runs on a broken build."""

    def __call__(
        self,
        data: str = "data",
        *,
        mutant: str = "",
        wrap: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        http: str = "127.0.0.1:0",
        ws: str = "127.0.0.1:0",
        ready: bool = True,
    ) -> FaultServer: ...


class FaultServer:
    """`earshot serve` as a process. `http` and `ws` are its URLs once it listens."""

    def __init__(
        self,
        data: Path,
        *,
        mutant: str = "",
        wrap: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        http: str = "127.0.0.1:0",
        ws: str = "127.0.0.1:0",
        family: list[FaultServer] | None = None,
    ) -> None:
        """Start it. `mutant` names a module of `tests.faults.mutants`; `wrap` comes before its command line, such as
        `("strace", "-D", "-f", ...)` or `("ip", "netns", "exec", name)`; `environment` holds its `EARSHOT_*` variables
        and any other, such as LD_PRELOAD. It enters itself in `family`, and so does whoever comes `again` after it."""
        self.data = data
        self.mutant = mutant
        self.http = self.ws = ""
        self._options: dict[str, Any] = {
            "mutant": mutant,
            "wrap": wrap,
            "environment": environment,
            "http": http,
            "ws": ws,
        }
        self._family = [] if family is None else family
        self._family.append(self)
        module = ["tests.faults.mutants", mutant] if mutant else ["tests.integration.hummed_server"]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("EARSHOT_")}
        self.process = subprocess.Popen(
            [*wrap, sys.executable, "-m", *module, "serve", "--data", str(data), "--http", http, "--ws", ws],
            env={**inherited, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1", **ENVIRONMENT, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._lines: list[str] = []
        self._said = threading.Condition()
        self._silent = False
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        self.wait_ready()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    # --- what it says ---

    @property
    def log(self) -> str:
        """All it has printed and logged so far, without colours."""
        with self._said:
            return "".join(self._lines)

    def wait_for_line(self, pattern: str, *, times: int = 1, patience_s: float = PATIENCE_S) -> str:
        """Block until a line of its output matches the regular expression for the `times`th time, and return it.

        Raises Died when the output ends first, AssertionError when `patience_s` is over.
        """
        wanted = re.compile(pattern)

        def lines() -> list[str]:
            return [line for line in self._lines if wanted.search(line)]

        with self._said:
            in_time = self._said.wait_for(lambda: len(lines()) >= times or self._silent, patience_s)
            found = lines()
        if len(found) >= times:
            return found[times - 1]
        reason = "ended" if in_time else f"ran for {patience_s:g} s more"
        raise (Died if in_time else AssertionError)(f"the server {reason} without a line like {pattern!r}:\n{self.log}")

    def wait_ready(self) -> None:
        """Block until it listens. Raises Died."""
        self.http = self.wait_for_line(r"^HTTP +http").split()[1]
        self.ws = self.wait_for_line(r"^socket +ws").split()[1]

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._said:
                self._lines.append(re.sub("\x1b\\[[0-9;]*m", "", line.decode(errors="replace")))
                self._said.notify_all()
        with self._said:
            self._silent = True
            self._said.notify_all()
        self.process.stdout.close()

    # --- what is done to it ---

    @property
    def pid(self) -> int:
        """Its own, given that what wraps it becomes it (`strace -D`, `ip netns exec`, `setpriv` do)."""
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, if it still runs; everything it said is in `log` then."""
        self.process.kill()
        self.wait()

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        self.process.terminate()
        return self.wait()

    def wait(self, patience_s: float = PATIENCE_S) -> int:
        """Its exit status (-9: killed) when it has ended. Raises subprocess.TimeoutExpired."""
        status = self.process.wait(patience_s)
        self._reader.join(5)  # a child of its own may hold the pipe a little longer
        return status

    def again(self, *, ready: bool = True, **changes: Any) -> FaultServer:
        """A new process on the same data with the same options but `changes`; kills this one if it runs."""
        self.kill()
        server = FaultServer(self.data, **{**self._options, **changes}, family=self._family)
        if ready:
            server.wait_ready()
        return server

    @property
    def has_exited(self) -> bool:
        """Whether it runs no more, although a tracer may keep others from reaping it."""
        return (
            self.process.poll() is not None or Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2][0] == "Z"
        )

    # --- what it takes ---

    @property
    def peak_memory_bytes(self) -> int:
        """Its largest resident set since `forget_peak_memory`."""
        return self._status("VmHWM")

    @property
    def memory_bytes(self) -> int:
        """Its resident set now."""
        return self._status("VmRSS")

    def forget_peak_memory(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def holds_socket_to(self, port: int) -> bool:
        """Whether it has a TCP connection whose other end has that port, however dead the other end is."""
        lines = Path(f"/proc/{self.pid}/net/tcp").read_text().splitlines()[1:]
        inodes = {line.split()[9] for line in lines if line.split()[2].endswith(f":{port:04X}")}
        return bool(inodes - {"0"})  # what the process has let go of has none

    def _status(self, field: str) -> int:
        text = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(rf"^{field}:\s+(\d+) kB$", text, re.MULTILINE)
        assert found is not None, text
        return int(found[1]) * 1024
