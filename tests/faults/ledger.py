"""A pytest plugin: `--full`, the markers of fault tests, and the table of what was done and what it cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

_ENTRY, _ROW = "fault", "fault row"
"""Names of the user properties by which a report carries what its test found, from an xdist worker too."""
_COLUMNS = (
    ("row", 3),
    ("fault", 58),
    ("tried", 7),
    ("acked samples", 13),
    ("lost", 7),
    ("tasks", 7),
    ("expected", 8),
    ("result", 7),
)
REPORT = Path("build/faults.json")


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table; None where the column has no meaning for a fault."""

    row: int
    fault: str
    tried: int = 0
    acked_samples: int | None = None
    lost_samples: int | None = None
    tasks_created: int | None = None
    tasks_expected: int | None = None
    note: str = ""
    outcome: str = ""
    """passed, failed, skipped or xfailed: that of the test, known when it is over."""


class Ledger:
    """Where a test writes down what it did."""

    def __init__(self, properties: list[tuple[str, object]]) -> None:
        self._properties = properties

    def add(
        self,
        *,
        row: int,
        fault: str,
        tried: int,
        acked_samples: int | None = None,
        lost_samples: int | None = None,
        tasks_created: int | None = None,
        tasks_expected: int | None = None,
        note: str = "",
    ) -> None:
        """`fault` names what was done `tried` times; the rest are sums over all tries."""
        entry = Entry(
            row=row,
            fault=fault,
            tried=tried,
            acked_samples=acked_samples,
            lost_samples=lost_samples,
            tasks_created=tasks_created,
            tasks_expected=tasks_expected,
            note=note,
        )
        self._properties.append((_ENTRY, msgspec.to_builtins(entry)))


@pytest.fixture
def ledger(request: pytest.FixtureRequest) -> Ledger:
    """The table at the end of the run; what this test adds is a line of it."""
    return Ledger(request.node.user_properties)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run every fault, not only those that are quick")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "full: takes long; runs only with --full")
    config.addinivalue_line("markers", "row(number): which fault of the matrix this test is about")
    config.pluginmanager.register(_Table(), "fault-table")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        for marker in item.iter_markers("row"):
            item.user_properties.append((_ROW, marker.args[0]))
    if not config.getoption("--full"):
        long = [item for item in items if item.get_closest_marker("full")]
        items[:] = [item for item in items if item not in long]
        config.hook.pytest_deselected(items=long)


class _Table:
    """Collects from the reports, which is what reaches the run's own process from every worker."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        over = report.when == "call" or (report.when == "setup" and not report.passed)
        if not over:
            return
        outcome = "xfailed" if hasattr(report, "wasxfail") else report.outcome
        found = [value for name, value in report.user_properties if name == _ENTRY]
        for value in found:
            self._entries.append(msgspec.structs.replace(msgspec.convert(value, Entry), outcome=outcome))
        if not found and outcome != "passed":
            for name, row in report.user_properties:
                if name == _ROW:
                    title = report.nodeid.rpartition("::")[2].removeprefix("test_").replace("_", " ")
                    self._entries.append(
                        msgspec.convert(
                            {"row": row, "fault": title, "outcome": outcome, "note": _why_not(report)}, Entry
                        )
                    )

    def pytest_terminal_summary(self, terminalreporter: Any, config: pytest.Config) -> None:
        entries = sorted(self._entries, key=lambda entry: (entry.row, entry.fault))
        if not entries:
            return
        terminalreporter.section("faults")
        for line in table(entries):
            terminalreporter.line(line)
        if config.getoption("--full"):
            REPORT.parent.mkdir(exist_ok=True)
            REPORT.write_bytes(msgspec.json.format(msgspec.json.encode(entries)))
            terminalreporter.line(f"also in {REPORT}")


def table(entries: Iterable[Entry]) -> Sequence[str]:
    """One line a fault, below a head."""
    lines = [_line([title for title, _ in _COLUMNS])]
    for entry in entries:
        cells = [entry.row, entry.fault, entry.tried or None, entry.acked_samples, entry.lost_samples]
        cells += [entry.tasks_created, entry.tasks_expected, entry.outcome]
        lines.append(_line(["-" if cell is None else str(cell) for cell in cells]) + (entry.note and f"  {entry.note}"))
    return lines


def _line(cells: Sequence[str]) -> str:
    aligned = [
        f"{cell:<{width}}" if title in ("fault", "result") else f"{cell:>{width}}"
        for cell, (title, width) in zip(cells, _COLUMNS, strict=True)
    ]
    return "  ".join(aligned).rstrip()


def _why_not(report: pytest.TestReport) -> str:
    """The reason of a skip or an expected failure, in a line."""
    if hasattr(report, "wasxfail"):
        return str(report.wasxfail)
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    return ""
