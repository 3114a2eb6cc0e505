"""`earshot`, with the engines of `hummed` in the place of those that need models. Run as a module."""

import os

import gateway.app
from gateway.call.analysis import Analysis
from gateway.cli import main
from tests.integration.hummed import HummingEngines

if __name__ == "__main__":
    if prefix := os.environ.get("HUMMED_SEGMENTS"):  # a version of the program that names utterances otherwise
        named = Analysis.next_segment_id
        Analysis.next_segment_id = lambda self: f"{prefix}{named(self)}"  # type: ignore[method-assign]
    gateway.app.Engines = HummingEngines  # type: ignore[assignment, attr-defined]
    main()
