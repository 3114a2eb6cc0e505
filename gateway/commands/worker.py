"""`earshot worker`: a process that does the work of voice QC, beside a server or on another machine."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import click
import structlog
import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from gateway.assembly.folder import StartFailed
from gateway.assembly.worker_process import WorkerProcess
from gateway.commands.open_files import raise_open_files
from gateway.commands.options import config_option, data_option, settings_of
from gateway.commands.supervisor import notify
from gateway.engines.models import ModelMissing
from gateway.ports import QualityJob, Unavailable
from gateway.settings import Settings
from gateway.telemetry import configure_logging
from protocol.quality_result import TaskState

log = structlog.get_logger(__name__)


@click.command()
@click.option(
    "--tasks-at-once",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Recordings at a time, each with a recogniser process of its own; about one for each processor.",
)
@data_option
@config_option
def worker(tasks_at_once: int, data: str | None, config: Path | None) -> None:
    """Judge recordings for voice QC until SIGTERM or Ctrl-C, which put what is in hand back into the queue.

    It takes its tasks from the server's data folder (--data), or with EARSHOT_REDIS_URL from Redis; then it needs the
    server's quality_folder too. Any number may run beside a server and one another; when one dies, another takes over.
    """
    settings = settings_of(config, data=data).settings
    raise_open_files()
    with ExitStack() as shown:
        # First, because it takes the standard error over: what is logged then goes above the bars.
        display = shown.enter_context(Display()) if sys.stderr.isatty() else None
        configure_logging(settings.log_level, settings.log_format)
        try:
            uvloop.run(_work(settings, tasks_at_once, display))
        except (StartFailed, ModelMissing, Unavailable) as fault:
            raise click.ClickException(str(fault)) from fault


async def _work(settings: Settings, tasks_at_once: int, display: Display | None) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    process = WorkerProcess(settings, tasks_at_once=tasks_at_once, watcher=display, on_progress=_say)
    working, stopping = asyncio.create_task(process.run()), asyncio.create_task(told.wait())
    await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
    if working.done():
        stopping.cancel()
        working.result()
        return
    log.info("stopping", worker=process.name)
    notify("STOPPING=1")
    working.cancel()
    with suppress(asyncio.CancelledError):
        await working


def _say(step: str) -> None:
    log.info("worker", step=step)
    if step.endswith("is ready"):
        notify("READY=1")


class Display:
    """Follows the role `Watcher`: a bar for each recording in hand, above it how many are done."""

    def __init__(self, console: Console | None = None) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=console or Console(stderr=True),
        )
        self._bars: dict[str, TaskID] = {}
        self._ended: dict[str, int] = {"done": 0, "failed": 0, "put back or lost": 0}
        self._total = self._progress.add_task(self._sum, total=None)

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begun(self, job: QualityJob) -> None:
        title = f"{job.app_id} {job.session_id}" + (f", attempt {job.attempts}" if job.attempts > 1 else "")
        self._bars[job.claim] = self._progress.add_task(_plain(title), total=100)

    def advanced(self, job: QualityJob, progress_percent: int) -> None:
        self._progress.update(self._bars[job.claim], completed=progress_percent)

    def ended(self, job: QualityJob, state: TaskState | None) -> None:
        self._progress.remove_task(self._bars.pop(job.claim))
        kind = "put back or lost" if state is None else "done" if state == TaskState.SUCCEEDED else "failed"
        self._ended[kind] += 1
        self._progress.update(self._total, description=self._sum)

    @property
    def _sum(self) -> str:
        return ", ".join(f"{count} {kind}" for kind, count in self._ended.items())


def _plain(title: str) -> str:
    """A caller's words, shown as they are: not as markup, nor as commands to the terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in title).replace("[", r"\[")[:80]
