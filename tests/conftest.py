"""What every test run has: the table of faults, for when it holds fault tests."""

pytest_plugins = ["tests.faults.ledger"]
