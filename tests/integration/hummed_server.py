"""`earshot`, with the engines of `hummed` in the place of those that need models. Run as a module."""

import gateway.app
from gateway.cli import main
from tests.integration.hummed import HummingEngines

if __name__ == "__main__":
    gateway.app.Engines = HummingEngines  # type: ignore[assignment, attr-defined]
    main()
