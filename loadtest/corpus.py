"""Where labelled calls lie, if somebody has put them beside the repository (see BENCHMARKS.md)."""

from pathlib import Path

CORPUS = Path(__file__).parent.parent.parent / "shared" / "corpus"
