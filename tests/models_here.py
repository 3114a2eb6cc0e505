"""Where the model files are, for every test that needs them."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs
import pytest

from gateway.engines.manifest import DEFAULTS
from gateway.engines.models import installed


def models_folder() -> Path:
    """The folder of the default models; skips the test where they are not."""
    default = platformdirs.user_cache_path("earshot") / "models"
    folder = Path(os.environ.get("EARSHOT_MODELS_DIR", default))
    if not all(installed(folder, name) for name in DEFAULTS):
        pytest.skip(f"the default models are not in {folder}: run `make setup`")
    return folder
