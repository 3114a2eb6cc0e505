"""A result, and the difference of two, for people at a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from loadtest.figures.catalogue import FIGURES, LATENCIES, QUANTILES
from loadtest.figures.compare import Compared
from loadtest.figures.result import Result
from loadtest.sizing import Sized

LATE_WARNING: Final = (
    "The harness itself was late: these figures are not the server's. Take more --processes, or a machine of its own."
)


def harness_line(figures: Mapping[str, float]) -> str:
    """What the harness cost itself, as every result says it."""
    share, lag = figures.get("harness_cpu_share"), figures.get("harness_lag_p99_ms", 0.0)
    took = "too short to tell its CPU" if share is None else f"{share:.0%} of a core"
    line = f"harness: {took}, own scheduling lag p99 {lag:.1f} ms"
    if (cost := figures.get("harness_cpu_us_per_frame")) is not None:
        line += f"; {cost:.1f} us of CPU a frame, so {figures['harness_frames_per_core_s']:,.0f} frames/s from one core"
    return line


def shown(result: Result) -> RenderableType:
    """The whole result."""
    parts: list[RenderableType] = [_latencies(result.figures), _others(result.figures)]
    if result.tried:
        parts.append(_tried(result))
    if result.failures:
        parts.append(_pairs("what went wrong", {text: str(count) for text, count in result.failures.items()}))
    parts += [Text(fault, style="red") for fault in result.faults]
    parts.append(Text(harness_line(result.figures)))
    if result.harness_was_late:
        parts.append(Text(LATE_WARNING, style="bold yellow"))
    if result.interrupted:
        parts.append(Text("Interrupted: figures are of what was run until then.", style="yellow"))
    for one in result.slo:
        measured = "not measured" if one.measured is None else f"{one.measured:g}"
        if not one.kept:
            parts.append(Text(f"SLO missed: {one.figure} {measured}, {one.side} {one.threshold:g}", style="bold red"))
    parts.append(Text("passed", style="bold green") if result.passed else Text("failed", style="bold red"))
    return Group(*parts)


def _latencies(figures: Mapping[str, float]) -> Table:
    table = Table("latency, ms", *QUANTILES)
    for column in table.columns[1:]:
        column.justify = "right"
    for name in LATENCIES:
        if f"{name}_p50_ms" in figures:
            table.add_row(
                name.replace("_", " "), *(f"{figures[f'{name}_{quantile}_ms']:.1f}" for quantile in QUANTILES)
            )
    return table


def _others(figures: Mapping[str, float]) -> Table:
    latencies = {f"{name}_{quantile}_ms" for name in LATENCIES for quantile in QUANTILES}
    return _pairs(
        "figure", {name: f"{figures[name]:,g}" for name in FIGURES if name in figures and name not in latencies}
    )


def _tried(result: Result) -> Table:
    table = Table("calls", "ack lag p99, ms", "harness lag p99, ms", "", "missed")
    for step in result.tried:
        table.add_row(
            str(step.calls),
            f"{step.figures.get('ack_lag_p99_ms', 0.0):.1f}",
            f"{step.figures.get('harness_lag_p99_ms', 0.0):.1f}",
            "passed" if step.passed else "failed (harness late)" if step.harness_was_late else "failed",
            "; ".join(step.missed),
        )
    return table


def _pairs(title: str, values: Mapping[str, str]) -> Table:
    table = Table(title, "value")
    table.columns[1].justify = "right"
    for name, value in values.items():
        table.add_row(name, value)
    return table


def compared(rows: list[Compared]) -> Table:
    table = Table("figure", "A", "B", "B / A", "verdict")
    for column in table.columns[1:4]:
        column.justify = "right"
    styles = {"better": "green", "worse": "bold red"}
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.3g}"
        sides = ("" if side is None else number(side) for side in (row.before, row.after))
        table.add_row(row.figure, *sides, ratio, row.verdict, style=styles.get(row.verdict))
    return table


def sizes(tiers: Sequence[Sized]) -> Table:
    """What a call costs, by feature."""
    table = Table(
        "with", "CPU ms a second of call", "calls a core", "CPU without calls", "measured: calls, CPU, ack p99"
    )
    for tier in tiers:
        points = "; ".join(
            f"{one.calls}, {one.server_cpu_share:.2f}, {one.ack_lag_p99_ms:.0f} ms" for one in tier.points
        )
        cost = f"{tier.cpu_ms_per_call_s:.2f}"
        table.add_row(tier.name, cost, f"{tier.calls_per_core:.0f}", f"{tier.fixed_cpu_share:.2f}", points)
    return table


def number(value: float) -> str:
    """As people read it."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
