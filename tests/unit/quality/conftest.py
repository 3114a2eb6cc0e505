from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.quality_world import QualityWorld


@pytest.fixture
def world(tmp_path: Path) -> Iterator[QualityWorld]:
    made = QualityWorld(tmp_path)
    yield made
    made.close()
