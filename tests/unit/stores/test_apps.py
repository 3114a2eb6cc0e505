import stat
from pathlib import Path

import pytest

from gateway.stores import apps
from gateway.stores.apps import Apps, key_id
from gateway.stores.sqlite import Database


def test_a_created_app_is_known_at_once_and_after_a_restart(database: Database) -> None:
    app_id, secret = Apps(database).create()
    assert Apps(database).secrets(app_id) == (secret,)
    assert Apps(database).secrets("other") == ()


def test_configured_secrets_stand_beside_stored_ones_and_are_not_stored(database: Database) -> None:
    directory = Apps(database, {"desk": ("from-settings",)})
    added = directory.add_secret("desk")
    assert directory.secrets("desk") == ("from-settings", added)
    assert Apps(database).secrets("desk") == (added,)


def test_a_secret_is_rotated_without_a_moment_with_none(database: Database) -> None:
    directory = Apps(database)
    app_id, old = directory.create("desk")
    new = directory.add_secret(app_id)
    assert set(directory.secrets(app_id)) == {old, new}
    assert directory.drop_secret(app_id, old)
    assert not directory.drop_secret(app_id, old)
    assert directory.secrets(app_id) == (new,)


async def test_an_app_made_by_another_process_is_seen_after_a_refresh(database: Database) -> None:
    serving = Apps(database)
    app_id, secret = Apps(database).create()
    assert serving.secrets(app_id) == ()
    await serving.refresh()
    assert serving.secrets(app_id) == (secret,)
    assert app_id in serving.app_ids


def test_secrets_are_listed_by_names_that_tell_nothing_and_with_their_age(database: Database) -> None:
    seconds = 1000.0
    directory = Apps(database, {"desk": ("from-settings",)}, now=lambda: seconds)
    first = directory.add_secret("desk")
    seconds = 2000.0
    second = directory.add_secret("desk")
    notes = directory.notes("desk")
    assert [(note.created_at, note.is_configured) for note in notes] == [(None, True), (1000, False), (2000, False)]
    assert [note.key_id for note in notes] == [key_id(one) for one in ("from-settings", first, second)]
    assert not any(note.key_id in first + second for note in notes)
    assert directory.secrets("desk") == ("from-settings", first, second)


def test_a_secret_is_revoked_by_its_name_but_not_the_last_and_not_one_of_the_settings(database: Database) -> None:
    directory = Apps(database, {"both": ("from-settings",)})
    _, old = directory.create("desk")
    with pytest.raises(ValueError, match="is the last of app desk"):
        directory.revoke("desk", key_id(old))
    new = directory.add_secret("desk")
    with pytest.raises(ValueError, match="app desk has no secret 00000000"):
        directory.revoke("desk", "00000000")
    directory.revoke("desk", key_id(old))
    assert directory.secrets("desk") == (new,)
    with pytest.raises(ValueError, match="stands in the settings"):
        directory.revoke("both", key_id("from-settings"))


def test_a_table_of_an_earlier_version_gets_ages_for_new_secrets(tmp_path: Path) -> None:
    old = "CREATE TABLE apps (app_id TEXT NOT NULL, secret TEXT NOT NULL, PRIMARY KEY (app_id, secret)) WITHOUT ROWID"
    database = Database(tmp_path / "a.db", [old.replace("TABLE", "TABLE IF NOT EXISTS"), apps.SCHEMA])
    database.run_blocking(lambda connection: connection.execute("INSERT INTO apps VALUES ('desk', 'old', NULL)"))
    directory = Apps(database, now=lambda: 5.0)
    new = directory.add_secret("desk")
    assert [note.created_at for note in directory.notes("desk")] == [None, 5.0]
    assert directory.secrets("desk") == ("old", new)
    database.close()


@pytest.mark.parametrize("app_id", ["", "a:b", "a,b", "a b", "é", "x" * 65])
def test_an_app_id_that_credentials_could_not_carry_is_refused(database: Database, app_id: str) -> None:
    with pytest.raises(ValueError, match="app id"):
        Apps(database).create(app_id)


def test_a_taken_id_is_refused_and_an_unknown_one_gets_no_secret(database: Database) -> None:
    directory = Apps(database, {"desk": ("x",)})
    with pytest.raises(ValueError, match="exists"):
        directory.create("desk")
    with pytest.raises(ValueError, match="no app"):
        directory.add_secret("nobody")


def test_only_the_owner_can_read_the_file_that_holds_the_secrets(tmp_path: Path) -> None:
    database = Database(tmp_path / "a.db", [apps.SCHEMA])
    Apps(database).create()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    database.close()
    assert modes == dict.fromkeys(modes, 0o600)
    assert "a.db-wal" in modes
