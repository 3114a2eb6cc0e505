"""The figures as one HTML page that needs nothing else: tables, and plots as SVG inside it."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gateway.evaluation.report import DEFINITIONS, environment, figures_of, rows_of
from gateway.evaluation.scoring import Scored

# Text stays text, and equal figures give equal pages.
mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "earshot", "font.family": "sans-serif"})

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #1a1a1a;
  background: #fff }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #ddd; vertical-align: top }
td:first-child { white-space: pre }
figure { margin: 2rem 0 } figure svg { max-width: 100%; height: auto }
.wrong { color: #a40000 } pre { white-space: pre-wrap }
"""


def page(scored: Mapping[str, Scored], *, sweep: str = "") -> str:
    """The whole page. `sweep` names the setting by whose values the variants differ; empty: by none."""
    figures = {name: figures_of(one) for name, one in scored.items()}
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Earshot evaluation</title><style>{STYLE}</style>",
        "<h1>Earshot evaluation</h1>",
        f"<p>{escape(str(environment()))}</p>",
        _plot("Share of labels, final texts and alerts that came within so many ms", _latencies(scored)),
        _plot("Word and character error rates", _bars(figures, "error_rate_live", "error_rate_qc")),
        _plot("Rules due by the reference that fired", _recall(figures)),
    ]
    if sweep:
        parts.append(_plot(f"By {sweep}", _sweep(figures, sweep)))
    parts += [
        _table(("figure", "aim", *figures), rows_of(figures)),
        f"<pre>{escape(DEFINITIONS)}</pre>",
        *(_rules(name, one["per_rule"]) for name, one in figures.items()),
    ]
    return "\n".join(parts) + "\n"


def _plot(title: str, figure: Figure) -> str:
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None}, bbox_inches="tight")
    svg = drawn.getvalue()
    return f"<figure><figcaption><h2>{escape(title)}</h2></figcaption>{svg[svg.index('<svg') :]}</figure>"


def _axes(count: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(4.2 * count, 3.2))
    return figure, [figure.add_subplot(1, count, place + 1) for place in range(count)]


def _latencies(scored: Mapping[str, Scored]) -> Figure:
    kinds: tuple[tuple[str, Callable[[Scored], list[float]]], ...] = (
        ("label", lambda one: [times.whole for times in one.labels]),
        ("final text from close", lambda one: [times.from_close for times in one.finals]),
        ("alert from end of keyword", lambda one: [times.latency for times in one.alerts]),
    )
    figure, axes = _axes(len(kinds))
    for axis, (title, values_of) in zip(axes, kinds, strict=True):
        for name, one in scored.items():
            values = sorted(values_of(one))
            shares = [(place + 1) / len(values) for place in range(len(values))]
            axis.step(values, shares, where="post", label=name)
        axis.set(title=title, xlabel="ms", ylim=(0, 1.02))
        axis.grid(alpha=0.3)
    axes[-1].legend(fontsize="small")
    return figure


def _bars(figures: Mapping[str, dict[str, Any]], *keys: str) -> Figure:
    figure, axes = _axes(len(keys))
    for axis, key in zip(axes, keys, strict=True):
        bars = [(f"{name}, {side}", one["rate"]) for name, each in figures.items() for side, one in each[key].items()]
        _barh(axis, bars)
        axis.set(title=key.replace("_", " "))
    return figure


def _recall(figures: Mapping[str, dict[str, Any]]) -> Figure:
    figure, (axis,) = _axes(1)
    bars = [
        (f"{name}, {judge}", counts["all"]["fired"] / max(1, counts["all"]["due"]))
        for name, each in figures.items()
        for judge, counts in each["rules"].items()
        if "all" in counts
    ]
    _barh(axis, bars)
    axis.set(xlim=(0, 1))
    return figure


def _barh(axis: Axes, bars: Sequence[tuple[str, float]]) -> None:
    drawn = axis.barh([name for name, _ in bars], [value for _, value in bars])
    axis.bar_label(drawn, fmt="%.3f", fontsize="small", padding=2)
    axis.invert_yaxis()
    axis.tick_params(labelsize="small")


def _sweep(figures: Mapping[str, dict[str, Any]], setting: str) -> Figure:
    """What an operator trades, over the values of the setting; numbers on a scale, words in the order given."""
    shown: tuple[tuple[str, Callable[[dict[str, Any]], float]], ...] = (
        ("right name", lambda one: float(one["right_name"])),
        ("diarization error", lambda one: float(one["diarization"]["rate"])),
        ("alert recall", lambda one: _share(one["rules"]["live"])),
        ("confirmed by QC", lambda one: float(one["agreement_all"]["precision"])),
    )
    figure, axes = _axes(2)
    playings = dict.fromkeys(name.split()[0] for name in figures)
    for playing in playings:
        points = [
            (next(part.partition("=")[2] for part in name.split() if part.startswith(f"{setting}=")), one)
            for name, one in figures.items()
            if name.split()[0] == playing
        ]
        values = [value for value, _ in points]
        places = [float(value) for value in values] if all(map(_is_number, values)) else list(range(len(values)))
        for title, value_of in shown:
            axes[0].plot(places, [value_of(one) for _, one in points], marker="o", label=f"{playing}: {title}")
        cpu = [one["cpu_s_per_call_minute_live"]["all"] for _, one in points]
        axes[1].plot(places, cpu, marker="o", label=f"{playing}: CPU s a call minute")
        for axis in axes:
            axis.set_xticks(places, values)
            axis.set_xlabel(setting)
    for axis in axes:
        axis.legend(fontsize="x-small")
        axis.grid(alpha=0.3)
    return figure


def _share(counts: Mapping[str, Any]) -> float:
    return float(counts["all"]["fired"] / max(1, counts["all"]["due"])) if "all" in counts else 0.0


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = "".join(f"<th scope=col>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"


def _rules(name: str, records: Sequence[Mapping[str, Any]]) -> str:
    rows = "".join(
        f"<tr{'' if _as_due(one) else ' class=wrong'}>"
        + "".join(f"<td>{escape(str('' if value is None else value))}</td>" for value in one.values())
        + "</tr>"
        for one in records
    )
    head = "".join(f"<th scope=col>{escape(key.replace('_', ' '))}</th>" for key in (records[0] if records else ()))
    return (
        f"<details><summary>Every rule: {escape(name)}</summary>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></details>"
    )


def _as_due(one: Mapping[str, Any]) -> bool:
    return (one["stood"] != "none") is bool(one["due"])
