"""The type checker proves here that the stores fill their roles."""

from pathlib import Path

from gateway.credentials import AppDirectory
from gateway.ports import Journal, QualityApi
from gateway.stores.apps import Apps
from gateway.stores.journal import FileJournal
from gateway.stores.recordings import Recordings
from gateway.stores.sqlite import Database
from tests.unit.stores.fake_quality import FakeQuality


def test_the_stores_fill_the_roles_of_the_ports(database: Database, tmp_path: Path) -> None:
    journal: Journal = FileJournal(tmp_path, Recordings(tmp_path))
    directory: AppDirectory = Apps(database)
    quality: QualityApi = FakeQuality()
    assert journal is not None
    assert quality is not None
    assert directory.secrets("nobody") == ()
