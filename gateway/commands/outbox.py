"""`earshot outbox`: the recordings that voice QC owes a verdict on, and those it was given up for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import time
from typing import Any, TypeVar, get_args

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.assembly.clock import SystemClock
from gateway.commands.options import config_option, data_option, settings_of
from gateway.stores.outbox import SCHEMA, AtFault, Outbox, OutboxRow, OutboxState
from gateway.stores.sqlite import Database

T = TypeVar("T")
UNFINISHED: tuple[OutboxState, ...] = ("pending", "submitted", "dead")
AT_FAULT: dict[AtFault, str] = {"": "", "voice_qc": "voice QC", "task": "the task", "earshot": "Earshot"}


@click.group()
def outbox() -> None:
    """See and retry what is to be judged by voice QC. Works beside a running server."""


@outbox.command("list")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(get_args(OutboxState)),
    help="Only tasks in this state; may be given again. Default: all but done.",
)
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1), help="At most so many, newest first.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@config_option
@data_option
def show(states: tuple[OutboxState, ...], limit: int, as_json: bool, config: Path | None, data: str | None) -> None:
    """List tasks: where they stand, when they are tried next, what went wrong and whose fault it was.

    pending: to be handed in. submitted: voice QC has it. done: it has answered. dead: given up, see `retry`.
    """
    rows = _with_outbox(config, data, lambda box: box.list(states or UNFINISHED, limit=limit))
    told = [_told(row, time()) for row in rows]
    if as_json:
        for one in told:
            click.echo(msgspec.json.encode(one))
        return
    console = Console()
    if not told:
        console.print(f"No task is {' or '.join(states or UNFINISHED)}.")
        return
    table = Table("session", "app", "state", "age", "attempts", "next try", "fault of", "last error")
    for one, row in zip(told, rows, strict=True):
        wait_s = one["next_try_in_s"]
        table.add_row(
            Text(row.session_id),
            row.app_id,
            row.state,
            duration(one["age_s"]),
            str(row.attempts),
            "" if wait_s is None else f"in {duration(wait_s)}" if wait_s else "now",
            AT_FAULT[row.at_fault],
            Text(row.last_error),  # another server's words: not to be read as markup
        )
    console.print(table)
    if len(rows) == limit:
        console.print(f"The newest {limit}; --limit shows more.")


@outbox.command()
@click.argument("session_id", required=False)
@click.option("--all-dead", is_flag=True, help="Every task that was given up.")
@config_option
@data_option
def retry(session_id: str | None, all_dead: bool, config: Path | None, data: str | None) -> None:
    """Try a task again now: one that was given up begins anew, one that waits for its next try no longer waits.

    A running server notices within a second; else the next start does. While voice QC answers nobody, it is tried
    as soon as that is back.
    """
    if all_dead == (session_id is not None):
        raise click.UsageError("name one SESSION_ID, or give --all-dead")
    if session_id is None:
        revived = _with_outbox(config, data, lambda box: box.retry_dead())
        click.echo(f"{revived} task{'' if revived == 1 else 's'} will be tried again")
        return
    named = session_id
    before = _with_outbox(config, data, lambda box: box.retry(named))
    if before is None:
        raise click.ClickException(f"no task {session_id!r} is in the outbox; `earshot outbox list` shows what is")
    if before == "done":
        raise click.ClickException(f"voice QC has answered {session_id} already: there is nothing to try again")
    click.echo(f"{session_id} was {before} and will be tried again now")


def _with_outbox(config: Path | None, data: str | None, work: Callable[[Outbox], Awaitable[T]]) -> T:
    """What `work` makes of the outbox in the data folder; without one the command ends with an error."""
    settings = settings_of(config, data=data).settings
    folder = settings.data_path
    path = folder / "earshot.db"
    if not path.is_file():
        raise click.ClickException(f"no server has run in the data folder {folder} yet: name another with --data")
    database = Database(path, [SCHEMA])

    async def run() -> T:
        return await work(Outbox(database, SystemClock(), data_dir=folder, recordings_dir=settings.shared_recordings))

    try:
        return asyncio.run(run())
    finally:
        database.close()


def _told(row: OutboxRow, now: float) -> dict[str, Any]:
    waits = row.state in ("pending", "submitted")
    return {
        "session_id": row.session_id,
        "app_id": row.app_id,
        "call_id": row.call_id,
        "state": row.state,
        "age_s": round(max(0.0, now - row.created_at), 1),
        "attempts": row.attempts,
        "failures": row.failures,
        "next_try_in_s": round(max(0.0, row.next_at - now), 1) if waits else None,
        "at_fault": row.at_fault,
        "last_error": row.last_error,
        "recording": str(row.task.recording),
    }


def duration(seconds: float) -> str:
    """In the two largest units that it fills."""
    for unit_s, unit, part_s, part in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= unit_s:
            return f"{int(seconds // unit_s)} {unit} {int(seconds % unit_s // part_s)} {part}"
    return f"{seconds:.0f} s"
