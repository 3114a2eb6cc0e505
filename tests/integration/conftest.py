"""Fixtures of the integration tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.world import World, running


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A server with usual options, no rules, and a voice QC that hits nothing."""
    async with running(tmp_path) as one:
        yield one
