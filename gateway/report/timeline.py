"""The timeline of a report: rows of so many seconds, and what is drawn in each, in the units of its drawing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gateway.report.view import FindingKind, Report, Stretch

ROW_WIDTH = 1000
LANE_HEIGHT = 22
MARKS_HEIGHT = 20
AXIS_HEIGHT = 18
MOST_ROWS = 6
ONE_ROW_MS = 120_000
"""A call no longer than this is one row."""
_TICKS_S = {10: 1, 30: 5, 60: 10, 120: 20, 300: 60, 600: 60, 900: 120, 1800: 300, 3600: 600, 7200: 1200}
"""How long a row may be at most for its ticks to lie so far apart."""
NARROWEST = 1.5
"""A word in an hour's row would not be seen otherwise."""


@dataclass(frozen=True, slots=True)
class Bar:
    x: float
    width: float
    title_ms: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Mark:
    x: float
    kind: FindingKind
    category: str
    keywords: tuple[str, ...]
    at_ms: int
    line: int | None


@dataclass(frozen=True, slots=True)
class Lane:
    y: int
    party: int
    speech: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Tick:
    x: float
    at_ms: int


@dataclass(frozen=True, slots=True)
class Row:
    """A drawing of its own: marks on top, then a lane for each party, then the axis."""

    begin_ms: int
    end_ms: int
    height: int
    lanes_height: int
    lanes: tuple[Lane, ...]
    silences: tuple[Bar, ...]
    talkovers: tuple[Bar, ...]
    gaps: tuple[Bar, ...]
    marks: tuple[Mark, ...]
    ticks: tuple[Tick, ...]


def rows_of(report: Report) -> tuple[Row, ...]:
    """The whole call: one row of its own length, or some of a round length, six at most up to half a day."""
    if report.duration_ms <= ONE_ROW_MS:
        row_ms = max(1000, report.duration_ms)
    else:
        row_ms = next((one for one in _TICKS_S if one * 1000 * MOST_ROWS >= report.duration_ms), 7200) * 1000
    tick_s = next(tick_s for row_s, tick_s in _TICKS_S.items() if row_ms <= row_s * 1000)
    begins = range(0, max(1, report.duration_ms), row_ms)
    return tuple(_row(report, begin_ms, row_ms, tick_s * 1000) for begin_ms in begins)


def _row(report: Report, begin_ms: int, row_ms: int, tick_ms: int) -> Row:
    row = Stretch(begin_ms, begin_ms + row_ms)
    lanes = tuple(
        Lane(MARKS_HEIGHT + LANE_HEIGHT * place, place, tuple(_bars(party.speech, row)))
        for place, party in enumerate(report.parties)
    )
    lanes_height = LANE_HEIGHT * max(1, len(lanes))
    marks = tuple(
        Mark(_x(place.at_ms, row), finding.kind, finding.category, finding.keywords, place.at_ms, place.line)
        for finding in report.findings
        for place in finding.places
        if row.begin_ms <= place.at_ms < row.end_ms
    )
    first_ms = -(-begin_ms // tick_ms) * tick_ms
    ticks = tuple(Tick(_x(at_ms, row), at_ms) for at_ms in range(first_ms, row.end_ms, tick_ms))
    return Row(
        begin_ms=begin_ms,
        end_ms=min(row.end_ms, max(report.duration_ms, begin_ms + 1)),
        height=MARKS_HEIGHT + lanes_height + AXIS_HEIGHT,
        lanes_height=lanes_height,
        lanes=lanes,
        silences=tuple(_bars(report.silences, row)),
        talkovers=tuple(_bars(report.talkovers, row)),
        gaps=tuple(_bars(report.gaps, row)),
        marks=marks,
        ticks=ticks,
    )


def _bars(stretches: Iterable[Stretch], row: Stretch) -> Iterator[Bar]:
    for one in stretches:
        begin_ms, end_ms = max(one.begin_ms, row.begin_ms), min(one.end_ms, row.end_ms)
        if end_ms > begin_ms:
            x = _x(begin_ms, row)
            yield Bar(x, max(NARROWEST, round(_x(end_ms, row) - x, 2)), (one.begin_ms, one.end_ms))


def _x(at_ms: int, row: Stretch) -> float:
    return round((at_ms - row.begin_ms) * ROW_WIDTH / row.duration_ms, 2)
