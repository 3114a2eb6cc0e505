"""What the harness itself costs: a run against a server that only counts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from loadtest.server.own import Served


@contextmanager
def sink() -> Iterator[Served]:
    """A process of `loadtest.server.sink`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "loadtest.server.sink"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = int(process.stdout.readline())
        url = f"http://127.0.0.1:{port}"
        yield Served(f"ws://127.0.0.1:{port}/v1/calls", url, process.pid, "cost", "none")
    finally:
        process.kill()  # it has nothing to lose
        process.wait()
        process.stdin.close()
        process.stdout.close()
