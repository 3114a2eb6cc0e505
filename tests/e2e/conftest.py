"""A real server for the end-to-end tests, one for all of them."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.client import Account, account
from tests.e2e.script import Recital, recital
from tests.earshot_process import EarshotProcess
from tests.models_here import models_folder

APPS = {name: f"secret-{name}" for name in ("en", "found", "line", "pair", "wide", "zh")}
"""An app for each test, so that none hears another's rules and voices."""


@pytest.fixture(scope="session")
def models_dir() -> Path:
    return models_folder()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Iterator[EarshotProcess]:
    apps = ",".join(f"{app_id}:{secret}" for app_id, secret in APPS.items())
    environment = {"EARSHOT_APPS": apps, "EARSHOT_MODELS_DIR": str(models_dir)}
    with EarshotProcess(tmp_path_factory.mktemp("e2e") / "data", environment) as process:
        yield process


@pytest.fixture
async def app(request: pytest.FixtureRequest, server: EarshotProcess) -> AsyncIterator[Account]:
    """The app of the server that the test is parametrized with."""
    async with account(server.http, server.ws, request.param, APPS[request.param]) as one:
        yield one


@pytest.fixture(scope="session")
def script() -> Recital:
    return recital()
