"""The report as one HTML page that needs nothing else: no script, its style and drawings inside it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Final

from jinja2 import BaseLoader, Environment, StrictUndefined, Template
from markupsafe import Markup

from gateway.report.timeline import LANE_HEIGHT, MARKS_HEIGHT, ROW_WIDTH, rows_of
from gateway.report.view import LONG_SILENCE_MS, Line, Report
from gateway.report.words import HTML_LANG, WORDS, Lang

_HERE = files("gateway.report")
STYLE: Final = _HERE.joinpath("report.css").read_text("utf-8")
_DIGEST = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY: Final = f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'none'"
"""What the page may do, in its own head too: show its one style. Who serves it adds where its audio comes from."""
KINDS: Final = ("confirmed", "missed", "hit", "open", "indeterminate", "not_confirmed", "retracted")
"""The outcomes in the order in which the legend has them."""


@dataclass(frozen=True, slots=True)
class Audio:
    """A recording that the page plays. `url` may be relative; `origin` is what a browser must be let load it from."""

    url: str
    origin: str = "'self'"


def policy(audio: Audio | None) -> str:
    """The Content-Security-Policy of a page."""
    return f"{POLICY}; media-src {audio.origin}" if audio is not None else POLICY


def render(report: Report, lang: Lang, audio: Audio | None = None, *, made_at: datetime | None = None) -> str:
    """The page. Everything that came from outside is text in it, whatever markup it holds. Blocking."""
    words = WORDS[lang]
    places = _places(report)

    def word(name: str, **values: object) -> str:
        return words[name].format(**values)

    def party(place: int) -> str:
        """Who a lane is: a role, a name, or both."""
        known = report.parties[place] if place < len(report.parties) else None
        role = "" if known is None else words.get(known.role, known.role)
        name = "" if known is None else known.name
        return " · ".join(filter(None, (role, name))) or word("party", number=place + 1)

    def who(line: Line) -> str:
        place = places[line.party]
        named = place < len(report.parties) and report.parties[place].name == line.who
        return line.who if line.who and not named else party(place)

    return _template().render(
        report=report,
        lang=HTML_LANG[lang],
        style=Markup(STYLE),  # noqa: S704 - our own file
        policy=policy(audio),
        audio=audio,
        word=word,
        party=party,
        who=who,
        place=places.__getitem__,
        clock=clock,
        seconds=lambda ms: word("seconds", seconds=f"{ms / 1000:.1f}"),
        stamp=lambda at_ms: f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC",
        rows=rows_of(report),
        row_width=ROW_WIDTH,
        lane_height=LANE_HEIGHT,
        marks_height=MARKS_HEIGHT,
        kinds=[kind for kind in KINDS if any(one.kind == kind for one in report.findings)],
        long_silence_s=LONG_SILENCE_MS // 1000,
        averages=_averages(report, places),
        made_at=f"{(made_at or datetime.now(UTC)):%Y-%m-%d %H:%M}",
    )


def clock(at_ms: int) -> str:
    """A time on the media clock: 1:02, or 1:02:03."""
    minutes, seconds = divmod(max(0, at_ms) // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _places(report: Report) -> dict[int, int]:
    """The lane of each party that says something: of a call's channels by number, of voices in their order."""
    speaking = sorted({line.party for line in report.lines})
    if report.of_call and all(0 <= party < len(report.parties) for party in speaking):
        return {party: party for party in speaking}
    return {party: place for place, party in enumerate(speaking)}


def _averages(report: Report, places: Mapping[int, int]) -> list[tuple[int, int | None, int | None]]:
    """Of each party: sentences, and the means of their speeds and loudnesses where voice QC tells them."""
    found = []
    for place in range(len(report.parties)):
        own = [line for line in report.lines if places[line.party] == place]
        speeds = [line.speed for line in own if line.speed]
        powers = [line.power_dbfs for line in own if line.power_dbfs is not None]
        found.append(
            (
                len(own),
                round(sum(speeds) / len(speeds)) if speeds else None,
                round(sum(powers) / len(powers)) if powers else None,
            )
        )
    return found


@cache
def _template() -> Template:
    environment = Environment(
        loader=BaseLoader(), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_HERE.joinpath("report.html").read_text("utf-8"))
