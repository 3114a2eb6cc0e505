"""A result as one HTML page that needs nothing else: tables, and plots as SVG inside it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from html import escape
from typing import Final

import matplotlib as mpl
import msgspec
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loadtest.figures.catalogue import FIGURES
from loadtest.figures.histogram import Histogram
from loadtest.figures.result import Distribution, Result
from loadtest.figures.table import LATE_WARNING, harness_line

# Text stays text, and equal figures give equal pages.
mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "earshot", "font.family": "sans-serif"})

STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #1a1a1a;
  background: #fff }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #ddd; vertical-align: top }
td.number { text-align: right }
figure { margin: 2rem 0 } figure svg { max-width: 100%; height: auto }
.wrong { color: #a40000; font-weight: bold } .right { color: #00630f; font-weight: bold } pre { white-space: pre-wrap }
"""
_NINES: Final = np.concatenate([np.linspace(0, 0.9, 46), 1 - np.logspace(-1, -5, 80)])


def page(result: Result) -> str:
    """The whole page."""
    scenario = result.scenario
    title = f"Earshot load test: {scenario['name']}, {scenario['calls']} calls"
    verdict = '<p class="right">passed</p>' if result.passed else '<p class="wrong">failed</p>'
    late = f'<p class="wrong">{LATE_WARNING}</p>' if result.harness_was_late else ""
    parts = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>',
        f"<h1>{escape(title)}</h1><p>{escape(str(scenario['about']))}</p>{verdict}{late}",
        f"<p>{escape(harness_line(result.figures))}</p>",
        _slo(result),
        _tried(result),
        _plot("Latency by percentile", _percentiles(result.distributions)),
        _plot("Over time", _over_time(result)),
        _figures(result),
        _list("What went wrong", [f"{count} x {text}" for text, count in result.failures.items()] + result.faults),
        f"<details><summary>Scenario, machine and server</summary><pre>{escape(_about(result))}</pre></details>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _about(result: Result) -> str:
    about = {
        "begun_at": result.begun_at,
        "length_s": result.length_s,
        "processes": result.processes,
        "sources": result.sources,
        "machine": result.machine,
        "server": result.server,
        "scenario": result.scenario,
    }
    return msgspec.json.format(msgspec.json.encode(about), indent=2).decode()


def _plot(title: str, figure: Figure) -> str:
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None}, bbox_inches="tight")
    svg = drawn.getvalue()
    return f"<figure><figcaption><h2>{escape(title)}</h2></figcaption>{svg[svg.index('<svg') :]}</figure>"


def _percentiles(distributions: dict[str, Distribution]) -> Figure:
    """Each latency over its percentile, on a scale where every nine takes as much room."""
    figure = Figure(figsize=(10, 5))
    axis = figure.add_subplot()
    for name, one in distributions.items():
        histogram = Histogram.of(one.buckets, one.max_ms / 1000, 0.0)
        shares = [share for share in _NINES if (1 - share) * one.count >= 0.5]
        values_ms = [max(0.01, histogram.percentile_s(share) * 1000) for share in shares]
        style = "--" if name == "harness_lag" else "-"
        axis.plot([1 / (1 - share) for share in shares], values_ms, style, label=name.replace("_", " "))
    ticks = (1, 2, 10, 100, 1000, 10_000, 100_000)
    axis.set(xscale="log", yscale="log", ylabel="ms", xlabel="percentile")
    axis.set_xticks(ticks, ["0", "50", "90", "99", "99.9", "99.99", "99.999"])
    axis.grid(alpha=0.3)
    if distributions:
        axis.legend(fontsize="small")
    return figure


def _over_time(result: Result) -> Figure:
    over = result.over_time
    panels: list[tuple[str, list[tuple[str, Sequence[float]]]]] = [
        ("calls", [("calls", over.calls)]),
        ("frames in a second", [("frames", over.frames_per_s)]),
        ("p99, ms", [("ack lag", over.ack_lag_p99_ms), ("harness lag", over.harness_lag_p99_ms)]),
        ("server: processors busy", [("CPU", over.server_cpu_share)]),
        ("server: memory, MB", [("resident", over.server_rss_mb)]),
        ("server: event loop lag p99, ms", [("lag at most", over.server_loop_lag_p99_ms)]),
    ]
    shown = [(title, lines) for title, lines in panels if any(lines[0][1])]
    figure = Figure(figsize=(10, 1.9 * max(1, len(shown))), layout="constrained")
    for place, (title, lines) in enumerate(shown):
        axis: Axes = figure.add_subplot(len(shown), 1, place + 1)
        for name, values in lines:
            axis.plot(over.at_s[: len(values)], values, label=name)
        axis.set_title(title, loc="left", fontsize="medium")
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        if len(lines) > 1:
            axis.legend(fontsize="small")
        if place == len(shown) - 1:
            axis.set(xlabel="s")
    return figure


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>" if rows else ""


def _slo(result: Result) -> str:
    rows = [
        (
            one.figure,
            f"{one.side} {one.threshold:g}",
            "not measured" if one.measured is None else f"{one.measured:g}",
            "kept" if one.kept else "missed",
        )
        for one in result.slo
    ]
    return _table(("asked of", "threshold", "measured", ""), rows)


def _tried(result: Result) -> str:
    rows = [
        (
            str(one.calls),
            f"{one.figures.get('ack_lag_p99_ms', 0.0):.1f}",
            "passed" if one.passed else "failed",
            "; ".join(one.missed),
        )
        for one in result.tried
    ]
    return _table(("calls tried", "ack lag p99, ms", "", "missed"), rows)


def _figures(result: Result) -> str:
    rows = [
        (name, f"{result.figures[name]:,g}", figure.meaning)
        for name, figure in FIGURES.items()
        if name in result.figures
    ]
    return _table(("figure", "value", "meaning"), rows)


def _list(title: str, lines: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<h2>{escape(title)}</h2><ul>{items}</ul>" if lines else ""
