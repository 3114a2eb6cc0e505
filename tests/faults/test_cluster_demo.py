"""The cluster demo as people run it, with engines that need no models; where something is lost it says so."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.earshot_process import HUMMED

PATIENCE_S = 240


def run(folder: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "loadtest.cluster_demo", "--keep", str(folder), "--module", HUMMED]
    command += ["--calls", "2", "--seconds", "8", *options]
    # A worker must still have a recording in hand when it is killed, and no test waits for a lease of half a minute.
    slow = {"HUMMED_RECORDING_PAUSE_S": "0.4", "HUMMED_LEASE_S": "2", "COLUMNS": "200"}
    return subprocess.run(
        command,
        env={**os.environ, **slow, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.fixture(autouse=True)
def redis_is_installed() -> None:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")


@pytest.mark.row(30)
@pytest.mark.timeout(PATIENCE_S)
def test_nothing_is_lost_when_a_gateway_a_worker_and_redis_die(tmp_path: Path) -> None:
    done = run(tmp_path / "run", "--redis", "restart")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nothing was lost" in done.stdout
    assert "BROKEN" not in done.stdout


@pytest.mark.row(30)
@pytest.mark.timeout(PATIENCE_S)
def test_where_acks_promise_less_the_demo_shows_what_is_lost(tmp_path: Path) -> None:
    done = run(tmp_path / "run", "--ack", "local")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "recording of call 1 (en) differs" in " ".join(done.stdout.split())


def test_without_redis_it_says_what_to_install(tmp_path: Path) -> None:
    done = run(tmp_path / "run", PATH="/nowhere")
    assert done.returncode == 1
    assert "redis-server is not installed" in done.stderr
