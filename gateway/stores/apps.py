"""The apps (tenants) and their secrets."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Mapping

from gateway.stores.sqlite import Database

SCHEMA = """
CREATE TABLE IF NOT EXISTS apps (
    app_id TEXT NOT NULL,
    secret TEXT NOT NULL,
    PRIMARY KEY (app_id, secret)
) WITHOUT ROWID;
"""


class Apps:
    """The directory of apps that credentials are checked against; lookups come from memory.

    Secrets are stored as they are, not hashed: signatures are HMACs keyed with them, so both sides need the secret
    itself. What protects them is the database file's mode, 0600, which `Database` sets.
    """

    def __init__(self, database: Database, configured: Mapping[str, tuple[str, ...]] | None = None) -> None:
        """Load every app; `configured` are those of the settings (app id to secrets), which are never stored.

        Blocks while it reads. `database` must have been opened with this module's SCHEMA among its own.
        """
        self._database = database
        self._configured = dict(configured or {})
        self._stored = database.run_blocking(_load)

    def secrets(self, app_id: str) -> tuple[str, ...]:
        """The app's live secrets, stored and configured; empty when there is no such app."""
        return (*self._configured.get(app_id, ()), *self._stored.get(app_id, ()))

    @property
    def app_ids(self) -> frozenset[str]:
        return frozenset(self._configured) | frozenset(self._stored)

    async def refresh(self) -> None:
        """Read again what another process, such as `earshot app create`, may have changed."""
        self._stored = await self._database.run(_load)

    def create(self, app_id: str | None = None) -> tuple[str, str]:
        """A new app and its secret, durably; without `app_id` one is made up. Blocks: for commands and start-up.

        Raises ValueError when the id is taken, or is not 1 to 64 visible ASCII characters without a colon or comma.
        """
        app_id = secrets.token_hex(8) if app_id is None else app_id
        if not (1 <= len(app_id) <= 64 and all("!" <= letter <= "~" and letter not in ":," for letter in app_id)):
            raise ValueError("an app id is 1 to 64 visible ASCII characters without ':' and ','")
        if self.secrets(app_id):
            raise ValueError(f"app {app_id} exists already")
        return app_id, self._add(app_id)

    def add_secret(self, app_id: str) -> str:
        """One more secret for an app, so that it can move over before the old one goes. Raises ValueError. Blocks."""
        if not self.secrets(app_id):
            raise ValueError(f"there is no app {app_id}")
        return self._add(app_id)

    def drop_secret(self, app_id: str, secret: str) -> bool:
        """Make a stored secret invalid from now on; False when the app has no such stored secret. Blocks."""

        def work(connection: sqlite3.Connection) -> int:
            return connection.execute("DELETE FROM apps WHERE app_id = ? AND secret = ?", (app_id, secret)).rowcount

        dropped = self._database.run_blocking(work)
        self._stored = self._database.run_blocking(_load)
        return dropped == 1

    def _add(self, app_id: str) -> str:
        secret = secrets.token_urlsafe(24)
        self._database.run_blocking(
            lambda connection: connection.execute("INSERT INTO apps (app_id, secret) VALUES (?, ?)", (app_id, secret))
        )
        self._stored = self._database.run_blocking(_load)
        return secret


def _load(connection: sqlite3.Connection) -> dict[str, tuple[str, ...]]:
    apps: dict[str, tuple[str, ...]] = {}
    for row in connection.execute("SELECT app_id, secret FROM apps ORDER BY app_id, secret"):
        apps[row["app_id"]] = (*apps.get(row["app_id"], ()), row["secret"])
    return apps
