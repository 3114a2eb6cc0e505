"""What people see while a load test runs."""

from __future__ import annotations

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table

from loadtest.gathering import Moment


class Progress:
    """A bar and the latest figures, renewed every second; nothing where nobody looks (no terminal)."""

    def __init__(self, console: Console, name: str, length_s: float | None = None) -> None:
        """`length_s`: how long the load will take; None where nobody knows."""
        self._name = name
        self._length_s = length_s
        self._failures = 0
        self._live = Live(console=console, transient=True)

    def __enter__(self) -> Progress:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, doing: str) -> None:
        """Take what is done while there is no load."""
        self._live.update(Spinner("dots", f"{self._name}: {doing}"), refresh=True)

    def show(self, moment: Moment, doing: str) -> None:
        """Take the latest second."""
        self._failures += moment.failures
        bar = ProgressBar(self._length_s, moment.at_s, width=20, pulse=self._length_s is None)
        table = Table(
            self._name, "", "s", "calls up", "frames/s", "ack lag p99", "harness lag p99", "failures", box=None
        )
        table.add_row(
            doing,
            bar,
            f"{moment.at_s:.0f}",
            str(moment.calls),
            f"{moment.frames:,}",
            f"{moment.ack_lag_p99_ms:.0f} ms" if moment.frames_acked else "no acks",
            f"{moment.harness_lag_p99_ms:.1f} ms",
            str(self._failures),
        )
        self._live.update(table, refresh=True)
