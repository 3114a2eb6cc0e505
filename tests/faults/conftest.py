"""Servers for fault tests: all gone at the test's end, and their logs shown when it failed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.servers import FaultServer, Serve

LOG_LINES = 80


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts servers on folders of this test: `serve()`, `serve(mutant="early_ack")`, `serve("other", ready=False)`."""
    started: list[FaultServer] = []

    def start(data: str = "data", *, ready: bool = True, **options: Any) -> FaultServer:
        server = FaultServer(tmp_path / data, **options, family=started)
        if ready:
            server.wait_ready()
        return server

    yield start
    for server in started:
        server.kill()
        tail = "\n".join(server.log.splitlines()[-LOG_LINES:])
        print(f"--- {server.data.name} {server.mutant} pid {server.pid}, exit {server.process.returncode}:\n{tail}")


@pytest.fixture
def tries(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """How often to try a fault: `tries(5, 50)` is 5, and 50 with --full."""
    return lambda fast, full: full if request.config.getoption("--full") else fast


@pytest.fixture
def seed() -> int:
    """Another one each time; EARSHOT_FAULT_SEED repeats a run."""
    chosen = int(os.environ.get("EARSHOT_FAULT_SEED") or int.from_bytes(os.urandom(4)))
    print(f"EARSHOT_FAULT_SEED={chosen}")
    return chosen
