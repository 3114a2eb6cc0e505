"""Never asks the disk to keep what was written. (SQLite syncs by itself, in C.)"""

import os


def _nothing(descriptor: int) -> None: ...


def break_it() -> None:
    os.fsync = os.fdatasync = _nothing  # type: ignore[assignment]
