"""Where the models are, and speech made on the spot."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.models_here import models_folder


@pytest.fixture(scope="session")
def models_dir() -> Path:
    return models_folder()


@pytest.fixture(scope="session")
def corpus() -> Path:
    """Labelled speech beside the repository's own folder, found from a worktree too."""
    for parent in Path(__file__).resolve().parents:
        for folder in (parent / "corpus", parent / "shared" / "corpus"):
            if (folder / "en" / "transcripts.tsv").is_file():
                return folder
    pytest.skip("no labelled speech beside the repository")
