import stat
from pathlib import Path

import pytest

from gateway.stores import apps
from gateway.stores.apps import Apps
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
