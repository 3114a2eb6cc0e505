"""Where the models are, and speech made on the spot."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs
import pytest

from gateway.engines.manifest import DEFAULTS
from gateway.engines.models import installed


@pytest.fixture(scope="session")
def models_dir() -> Path:
    default = platformdirs.user_cache_path("earshot") / "models"
    folder = Path(os.environ.get("EARSHOT_MODELS_DIR", default))
    if not all(installed(folder, name) for name in DEFAULTS):
        pytest.skip(f"the default models are not in {folder}: run `make setup`")
    return folder


@pytest.fixture(scope="session")
def corpus() -> Path:
    """Labelled speech beside the repository's own folder, found from a worktree too."""
    for parent in Path(__file__).resolve().parents:
        for folder in (parent / "corpus", parent / "shared" / "corpus"):
            if (folder / "en" / "transcripts.tsv").is_file():
                return folder
    pytest.skip("no labelled speech at ../shared/corpus")
