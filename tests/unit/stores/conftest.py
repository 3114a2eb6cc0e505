from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.stores import apps, calls, outbox
from gateway.stores.sqlite import Database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "earshot.db", [apps.SCHEMA, calls.SCHEMA, outbox.SCHEMA])
    yield database
    database.close()
