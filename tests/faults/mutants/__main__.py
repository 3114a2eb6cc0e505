"""The server of `tests.integration.hummed_server`, with one thing broken."""

import importlib
import sys

if __name__ == "__main__":
    # First of all: a mutant may break what others copy when they are imported.
    importlib.import_module(f"tests.faults.mutants.{sys.argv.pop(1)}").break_it()

    from gateway.cli import main
    from tests.integration.hummed_server import put_in_place

    put_in_place()
    main()
