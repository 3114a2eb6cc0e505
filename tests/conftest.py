"""What every test run has: the table of faults, for when it holds fault tests, and a log that no test changes."""

from collections.abc import Iterator

import pytest
import structlog

pytest_plugins = ["tests.faults.ledger"]


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    """What a command sets up for its process would stay for the tests after it, which read the log."""
    yield
    structlog.reset_defaults()
