"""Throws away what waits for the disk when it is told to go."""

import os
import shutil

from gateway.stores.journal import FileJournal


async def _and_away(self: FileJournal) -> None:
    shutil.rmtree(self._directory)
    os._exit(0)


def break_it() -> None:
    FileJournal.stop = _and_away  # type: ignore[method-assign]
