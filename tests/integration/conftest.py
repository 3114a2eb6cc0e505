"""Fixtures of the integration tests."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from tests.integration.hummed import HummingEngines
from tests.integration.world import World, running


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A server with usual options, no rules, and a voice QC that hits nothing."""
    async with running(tmp_path) as one:
        yield one


@pytest.fixture
def models_free() -> Iterator[None]:
    """Servers made in this test have engines that need no models."""
    with patch("gateway.app.Engines", HummingEngines):
        yield
