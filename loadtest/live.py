"""What people see while a load test runs."""

from __future__ import annotations

from rich.console import Console
from rich.live import Live
from rich.table import Table

from loadtest.gathering import Moment


class Progress:
    """One line, renewed every second; nothing where nobody looks (no terminal)."""

    def __init__(self, console: Console, name: str) -> None:
        self._name = name
        self._failures = 0
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Progress:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, moment: Moment, doing: str) -> None:
        """Take the latest second."""
        self._failures += moment.failures
        table = Table(self._name, "s", "calls up", "frames/s", "ack lag p99", "harness lag p99", "failures", box=None)
        table.add_row(
            doing,
            f"{moment.at_s:.0f}",
            str(moment.calls),
            f"{moment.frames:,}",
            f"{moment.ack_lag_p99_ms:.0f} ms",
            f"{moment.harness_lag_p99_ms:.1f} ms",
            str(self._failures),
        )
        self._live.update(table, refresh=True)
