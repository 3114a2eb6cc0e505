"""A server of our own for one run: in a temporary data folder, on free ports, gone afterwards."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.error import URLError
from urllib.request import urlopen

from gateway.stores.serving import served_at

READY_S: Final = 180.0
STOP_S: Final = 30.0


class NotStarted(Exception):
    """The server did not come up; the text holds the end of its log."""


@dataclass(frozen=True, slots=True)
class Served:
    """Where a server is, and how to get in."""

    ws_url: str
    http_url: str
    pid: int | None
    app_id: str
    secret: str
    data: Path | None = None


@contextmanager
def own_server(
    arguments: Sequence[str],
    settings: Mapping[str, str],
    *,
    module: str = "gateway.cli",
    processors: Sequence[int] = (),
) -> Iterator[Served]:
    """`earshot serve` with further arguments and settings, ready for calls. Raises NotStarted.

    `processors`: the only ones it may run on; empty: any.
    """
    secret = secrets.token_urlsafe(16)
    with tempfile.TemporaryDirectory(prefix="earshot-load-") as folder:
        data, log = Path(folder) / "data", Path(folder) / "log"
        environment = {name: value for name, value in os.environ.items() if name not in _OVERRULED}
        environment |= {"EARSHOT_APPS": f"loadtest:{secret}", "EARSHOT_MAX_CALLS": "1000000", "PYTHONUNBUFFERED": "1"}
        environment |= {f"EARSHOT_{name.upper()}": value for name, value in settings.items()}
        listeners = ("--http", "127.0.0.1:0", "--ws", "127.0.0.1:0", "--data", str(data))
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *module.split(), "serve", *listeners, *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for us: the server ends when the figures are in
            )
        try:
            if processors:
                os.sched_setaffinity(process.pid, processors)
            http_url, ws_url = _when_ready(process, data, log)
            yield Served(ws_url, http_url, process.pid, "loadtest", secret, data)
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


_OVERRULED: Final = frozenset({"EARSHOT_CONFIG", "EARSHOT_APPS", "EARSHOT_DATA", "EARSHOT_HTTP", "EARSHOT_WS"})


def _when_ready(process: subprocess.Popen[bytes], data: Path, log: Path) -> tuple[str, str]:
    """Its HTTP and socket addresses, once it welcomes calls."""
    deadline_s = time.monotonic() + READY_S
    while time.monotonic() < deadline_s and process.poll() is None:
        serving = served_at(data) if data.exists() else None
        if serving is not None and _welcomes(serving.http):
            return serving.http, serving.ws
        time.sleep(0.1)
    end = "\n".join(log.read_text("utf-8", "replace").splitlines()[-12:])
    state = f"ended with status {process.poll()}" if process.poll() is not None else f"is not ready after {READY_S:g} s"
    raise NotStarted(f"the server that was to be loaded {state}. The end of its log:\n{end}")


def _welcomes(http_url: str) -> bool:
    try:
        with urlopen(f"{http_url}/readyz", timeout=5) as answer:  # noqa: S310 - our own server's address
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False
