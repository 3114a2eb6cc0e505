"""The embedded database: one SQLite file, one thread, one transaction per piece of work."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from errno import EIO, ENOSPC
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
_DISK_FAULTS = {sqlite3.SQLITE_FULL: ENOSPC, sqlite3.SQLITE_IOERR: EIO}

BUSY_S = 30.0
"""How long a transaction may wait for those of other processes, such as workers: SQLite serves them in no order."""


class DiskFailed(OSError, sqlite3.OperationalError):
    """SQLite could not read or write its file; nothing was committed."""


Schema = str | Callable[[sqlite3.Connection], None]
"""A script of `CREATE ... IF NOT EXISTS` statements, or work that may be done again at each start."""


class Database:
    """Runs functions over one connection, each in its own transaction, never on the event loop.

    The file is readable by its owner alone (mode 0600).
    Commits are durable (`synchronous=FULL`): a promise made after `run` returns survives a power cut.
    """

    def __init__(self, path: Path, schemas: Iterable[Schema]) -> None:
        """Open or create `path`, and see that it has each schema."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite")
        self._connection = self._thread.submit(_open, path, tuple(schemas)).result()

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` inside a transaction: committed when it returns, rolled back when it raises.

        Raises DiskFailed when the disk is full or fails: an OSError, as files raise, and SQLite's own error still.
        """
        return await asyncio.wrap_future(self._thread.submit(self._transact, work))

    async def scrub(self) -> bool:
        """Empty the log ahead of the file, which holds what was deleted or overwritten since it was emptied last.

        False: another process is reading, and it must be tried again. Raises sqlite3.Error, having lost nothing.
        """
        return await asyncio.wrap_future(self._thread.submit(self._checkpoint))

    def _checkpoint(self) -> bool:
        busy: int = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        return not busy

    def run_blocking(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """As `run`, for commands and start-up code that have no event loop."""
        return self._thread.submit(self._transact, work).result()

    def _transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            answer = work(connection)
            connection.execute("COMMIT")
        except BaseException as fault:
            if connection.in_transaction:  # some faults of the disk have rolled it back already
                connection.execute("ROLLBACK")
            number = _DISK_FAULTS.get(getattr(fault, "sqlite_errorcode", 0) & 0xFF)
            if number is not None:
                raise DiskFailed(number, str(fault)) from fault
            raise
        return answer

    async def data_version(self) -> int:
        """A number that changes when another connection, of any process, has committed. Cheap, and takes no lock."""
        return await asyncio.wrap_future(self._thread.submit(self._read_data_version))

    def _read_data_version(self) -> int:
        version: int = self._connection.execute("PRAGMA data_version").fetchone()[0]
        return version

    def close(self) -> None:
        """Finish what is queued, then close."""
        self._thread.submit(self._connection.close).result()
        self._thread.shutdown()


def add_column(connection: sqlite3.Connection, table: str, column: str, declaration: str) -> None:
    """Give a table of an earlier version a column that it lacks. All three are constants of the caller's."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        if column not in {row["name"] for row in connection.execute(f"PRAGMA table_info({table})")}:
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} {declaration}")
    finally:
        connection.execute("COMMIT")


def _open(path: Path, schemas: tuple[Schema, ...]) -> sqlite3.Connection:
    # The file holds secrets and what people said; SQLite gives its companion files the same mode.
    path.touch(mode=0o600)
    path.chmod(0o600)
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA secure_delete=ON")
    for schema in schemas:
        if isinstance(schema, str):
            connection.executescript(schema)
        else:
            schema(connection)
    return connection
