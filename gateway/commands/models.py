"""`earshot models`: the weights that the engines load."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from gateway.commands.options import config_option, settings_of
from gateway.engines.manifest import DEFAULTS, MANIFEST
from gateway.engines.models import PullFailed, installed, pull

MIB = 1024 * 1024


@click.group()
def models() -> None:
    """Fetch and list the models."""


@models.command("pull")
@click.argument("names", nargs=-1)
@config_option
def pull_command(names: tuple[str, ...], config: Path | None) -> None:
    """Fetch models into the models folder: NAMES, or the defaults. What is there already is kept."""
    settings = settings_of(config).settings
    unknown = [name for name in names if name not in MANIFEST]
    if unknown:
        raise click.ClickException(f"there is no model {unknown[0]!r}; expected {', '.join(MANIFEST)}")
    with _Bars() as bars:
        try:
            pull(settings.models_path, names or DEFAULTS, bars)
        except PullFailed as fault:
            raise click.ClickException(str(fault)) from fault


@models.command("list")
@config_option
def list_command(config: Path | None) -> None:
    """List the models, what each is for and whether it is here."""
    settings = settings_of(config).settings
    table = Table("model", "for", "licence", "MiB", "here")
    for name, model in MANIFEST.items():
        here = "yes" if installed(settings.models_path, name) else "no"
        table.add_row(name, model.role, model.licence, f"{model.size_bytes / MIB:.0f}", here)
    Console().print(table)


class _Size(DownloadColumn):
    """How much has come, for steps that count bytes."""

    def render(self, task: Task) -> Text:
        return super().render(task) if task.fields["counted"] else Text("")


class _Bars:
    """A bar for each step of a pull, on standard error."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def kept(self, model: str) -> None:
        self._console.print(f"{model}: here already")

    def begun(self, step: str, total_bytes: int | None) -> None:
        self._tasks[step] = self._progress.add_task(step, total=total_bytes, counted=(total_bytes or 0) > 1)

    def advanced(self, step: str, done_bytes: int) -> None:
        self._progress.update(self._tasks[step], completed=done_bytes)

    def ended(self, step: str) -> None:
        task = self._tasks[step]
        total = self._progress.tasks[self._progress.task_ids.index(task)].total or 1
        self._progress.update(task, total=total, completed=total)
