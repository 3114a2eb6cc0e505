"""What is waited for in vain is told with whose log it was."""

import subprocess
import sys
from pathlib import Path

import click
import pytest

from loadtest.bench_processes import wait_for


def test_a_process_that_ends_is_not_waited_for(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("no server at ws://here")
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(2)"])
    with pytest.raises(click.ClickException, match=r"(?s)4 calls were not up \(status 2\).*no server at ws://here"):
        wait_for(lambda: False, process, log, "4 calls were not up")
    process.wait()
