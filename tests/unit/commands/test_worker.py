"""`earshot worker`: what it shows, where it decodes, and how it ends when it cannot begin."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from rich.console import Console

from gateway.assembly.worker_process import own_spool
from gateway.commands.worker import Display
from gateway.ports import QualityJob
from protocol.quality_result import TaskState


def job(session_id: str, attempts: int = 1) -> QualityJob:
    return QualityJob("t", "shop", session_id, "audio", b"", attempts, claim=session_id)


def test_the_display_has_a_bar_for_each_task_and_counts_how_they_ended() -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)
    with Display(console) as display:
        display.begun(job("[bold]one\x1b[2J"))
        display.begun(job("two", attempts=2))
        display.advanced(job("two"), 40)
        drawn = "\n".join(str(task.description) for task in display._progress.tasks)
        assert r"shop \[bold]one?\[2J" in drawn, "a caller's words are neither markup nor commands"
        assert "shop two, attempt 2" in drawn
        display.ended(job("two"), TaskState.SUCCEEDED)
        display.ended(job("[bold]one\x1b[2J"), None)
        display.begun(job("three"))
        display.ended(job("three"), TaskState.AUDIO_UNUSABLE)
        (total,) = display._progress.tasks
        assert total.description == "1 done, 1 failed, 1 put back or lost"


async def test_what_a_killed_worker_was_decoding_is_removed_and_what_another_decodes_stays(tmp_path: Path) -> None:
    left = tmp_path / "of-a-process-that-is-gone"
    left.mkdir()
    (left / "voice.wav").write_bytes(b"voices")
    async with AsyncExitStack() as first, AsyncExitStack() as second:
        mine = own_spool(tmp_path, first)
        assert not left.exists()
        other = own_spool(tmp_path, second)
        assert mine.exists()
        assert other != mine
    assert os.listdir(tmp_path) == []  # noqa: PTH208


def test_without_its_models_it_ends_with_the_command_that_fetches_them(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "worker", "--data", str(tmp_path / "data")],
        env=os.environ | {"EARSHOT_MODELS_DIR": str(tmp_path / "none")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "earshot models pull" in ended.stderr
    assert "Traceback" not in ended.stderr
