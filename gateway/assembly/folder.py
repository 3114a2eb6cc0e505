"""Whose the data folder is: one process has it, and its successor waits with its engines loaded."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

from gateway.stores.ownership import DataFolderLock
from gateway.stores.serving import served_at

LEAVING_GRACE_S = 5.0
"""How much longer than a shutdown may take a successor waits for its predecessor."""


class StartFailed(Exception):
    """The server cannot start; the text says what is wrong and what to do."""


def refuse_to_share(data: Path, *, replace: bool) -> None:
    """Another process has the data folder: it is leaving, or told to leave later, or StartFailed."""
    serving = served_at(data)
    if serving is not None and not replace:
        raise StartFailed(
            f"process {serving.pid} serves the data folder {data} at {serving.http}: "
            "stop it, start with --replace to take over from it, or choose another folder with --data"
        )


async def take_over(lock: DataFolderLock, data: Path, *, replace: bool, patience_s: float) -> None:
    """Wait, ready to serve, until the predecessor has let go of the folder; with `replace`, tell it to.

    Raises StartFailed after `patience_s`.
    """
    predecessor = lock.holder()
    if replace and predecessor is not None and served_at(data) is not None:
        with suppress(ProcessLookupError):
            os.kill(predecessor, signal.SIGTERM)
    try:
        async with asyncio.timeout(patience_s):
            await lock.wait()
    except TimeoutError:
        raise StartFailed(
            f"process {predecessor} has not let go of the data folder {data} "
            f"in {patience_s:g} s: stop it, or choose another folder with --data"
        ) from None


def sweep_spool(spool: Path) -> None:
    """Remove what processes that are gone were decoding."""
    for left in spool.iterdir() if spool.is_dir() else ():
        if left.name == str(os.getpid()):
            continue
        if left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink()
