"""What the command line says, parsed once: what cannot be meant is refused before anything is begun."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import click


class ToBeWritten(click.Path):
    """A file to be written at the end: that it can be is seen at the beginning."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, writable=True, dir_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if not path.parent.is_dir():
            self.fail(f"there is no folder {path.parent} to write {path.name} to", param, ctx)
        if not path.exists() and not os.access(path.parent, os.W_OK):
            self.fail(f"this user may not write to {path.parent}", param, ctx)
        return path


def credentials_of(text: str) -> tuple[str, str]:
    """App id and secret. Raises UsageError."""
    app_id, colon, secret = text.partition(":")
    if not (app_id and colon and secret):
        raise click.UsageError("--app is not APPID:SECRET")
    return app_id, secret


def settings_given(given: tuple[str, ...]) -> dict[str, str]:
    """Values by name, of NAME=VALUE. Raises UsageError."""
    pairs = dict(one.partition("=")[::2] for one in given)
    if not all(pairs) or any("=" not in one for one in given):
        raise click.UsageError("--set expects NAME=VALUE, such as vad=webrtc")
    return pairs


def server_options(text: str) -> list[str]:
    """The options of serve, split as a shell does. Raises UsageError."""
    try:
        return shlex.split(text)
    except ValueError as fault:
        raise click.UsageError(f"--server is no list of options: {fault}") from fault


def processors_of(text: str | None) -> tuple[int, ...]:
    """The processors of a list such as 0,1; none where nothing was said. Raises UsageError."""
    if not text:
        return ()
    try:
        wanted = tuple(int(part) for part in text.split(","))
    except ValueError as fault:
        raise click.UsageError(f"{text!r} is no list of processors; expected numbers such as 0,1") from fault
    allowed = sorted(os.sched_getaffinity(0))
    for one in wanted:
        if one not in allowed:
            raise click.UsageError(
                f"processor {one} is none of those this command may use: {', '.join(map(str, allowed))}"
            )
    return wanted


def process_id(pid: int | None) -> int | None:
    """The same, if there is such a process. Raises UsageError."""
    if pid is not None and not Path(f"/proc/{pid}").exists():
        raise click.UsageError(f"--pid: no process has the id {pid}")
    return pid
