"""The apps (tenants) and their secrets."""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import time

from gateway.stores.sqlite import Database, add_column


def SCHEMA(connection: sqlite3.Connection) -> None:  # noqa: N802 - stands beside scripts of this name
    """Make the table, and give that of an earlier version the time at which a secret was made."""
    connection.execute(
        "CREATE TABLE IF NOT EXISTS apps"
        " (app_id TEXT NOT NULL, secret TEXT NOT NULL, PRIMARY KEY (app_id, secret)) WITHOUT ROWID"
    )
    add_column(connection, "apps", "created_at", "REAL")


@dataclass(frozen=True, slots=True)
class SecretNote:
    """What may be told of a secret: enough to name it, nothing to guess it by."""

    key_id: str
    created_at: float | None
    """Unix seconds; None when nobody noted it."""
    is_configured: bool
    """Whether it stands in the settings, which alone can take it away."""


class Apps:
    """The directory of apps that credentials are checked against; lookups come from memory.

    Secrets are stored as they are, not hashed: signatures are HMACs keyed with them, so both sides need the secret
    itself. What protects them is the database file's mode, 0600, which `Database` sets.
    """

    def __init__(
        self,
        database: Database,
        configured: Mapping[str, tuple[str, ...]] | None = None,
        *,
        now: Callable[[], float] = time,
    ) -> None:
        """Load every app; `configured` are those of the settings (app id to secrets), which are never stored.

        Blocks while it reads. `database` must have been opened with this module's SCHEMA among its own.
        """
        self._database = database
        self._configured = dict(configured or {})
        self._now = now
        self._stored = database.run_blocking(_load)
        self._version: int | None = None

    def secrets(self, app_id: str) -> tuple[str, ...]:
        """The app's live secrets, stored and configured; empty when there is no such app."""
        return (*self._configured.get(app_id, ()), *self._stored.get(app_id, ()))

    @property
    def app_ids(self) -> frozenset[str]:
        return frozenset(self._configured) | frozenset(self._stored)

    async def refresh(self) -> None:
        """Read again what another process, such as `earshot app create`, may have changed. Cheap if none has."""
        version = await self._database.data_version()
        if version != self._version:
            self._stored = await self._database.run(_load)
            self._version = version

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

    def notes(self, app_id: str) -> list[SecretNote]:
        """The app's live secrets, the oldest first; empty when there is no such app. Blocks."""

        def work(connection: sqlite3.Connection) -> list[SecretNote]:
            rows = connection.execute(
                "SELECT secret, created_at FROM apps WHERE app_id = ? ORDER BY created_at, secret", (app_id,)
            )
            return [SecretNote(key_id(row["secret"]), row["created_at"], is_configured=False) for row in rows]

        configured = [SecretNote(key_id(one), None, is_configured=True) for one in self._configured.get(app_id, ())]
        return [*configured, *self._database.run_blocking(work)]

    def revoke(self, app_id: str, revoked_id: str) -> None:
        """Make the secret of this `key_id` invalid from now on. Blocks.

        Raises ValueError when the app has none such, or it stands in the settings, or it is the app's last.
        """
        if revoked_id in map(key_id, self._configured.get(app_id, ())):
            raise ValueError(f"secret {revoked_id} of app {app_id} stands in the settings (apps): take it away there")
        found = [secret for secret in self._stored.get(app_id, ()) if key_id(secret) == revoked_id]
        if not found:
            raise ValueError(f"app {app_id} has no secret {revoked_id}: `earshot app list` shows what there is")
        if len(self.secrets(app_id)) == 1:
            raise ValueError(f"secret {revoked_id} is the last of app {app_id}: make another first")
        self.drop_secret(app_id, found[0])

    def _add(self, app_id: str) -> str:
        secret = secrets.token_urlsafe(24)
        values = (app_id, secret, self._now())
        self._database.run_blocking(
            lambda connection: connection.execute(
                "INSERT INTO apps (app_id, secret, created_at) VALUES (?, ?, ?)", values
            )
        )
        self._stored = self._database.run_blocking(_load)
        return secret


def key_id(secret: str) -> str:
    """A short name for a secret, which says nothing of it."""
    return hashlib.blake2b(secret.encode(), digest_size=4, person=b"earshot-key").hexdigest()


def _load(connection: sqlite3.Connection) -> dict[str, tuple[str, ...]]:
    apps: dict[str, tuple[str, ...]] = {}
    for row in connection.execute("SELECT app_id, secret FROM apps ORDER BY app_id, created_at, secret"):
        apps[row["app_id"]] = (*apps.get(row["app_id"], ()), row["secret"])
    return apps
