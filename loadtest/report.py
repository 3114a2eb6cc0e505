"""The bench's figures as tables for people and as plain data for machines."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from loadtest.figures import LabelledSegment, RuleCounts, Spread, everything, spread
from loadtest.scoring import Scored
from loadtest.wording import Edits

LEGEND = "ms: p50 / p95 / most (count); error rates: (length); rules: fired of due, false of silent"
LEAST_CPU_S = 0.005
"""A minute: what rounds to nothing is not shown."""
PACKAGES = ("ctranslate2", "faster-whisper", "onnxruntime", "webrtcvad-wheels", "numpy", "websockets", "uvloop")

DEFINITIONS = """\
Client clock: a sound counts as spoken when the packet (20 ms) that holds it was due to leave, even if it left late.
Label: from the sample that completed the third second of net speech of a segment (found by running the call's own
  core offline over the same audio; speech of earlier short segments of a one-party channel counts along) to the
  arrival of the segment's first `speaker` message. `decided` is the part before
  the core could know (VAD block and its delay), `answered` the rest.
Final text: from the arrival of `segment closed` to that of the final `transcript`; and from the segment's end in the
  audio (up to 0.2 s after its last speech), which includes the 0.6 s of silence that close it.
Alert: from the end of the last word that made the rule true to the arrival of `alert`, for alerts with evidence before
  the hangup. References give turns, not words, so the word's time is the one in the alert's own evidence.
Right name: identified segments whose last label is `known` with the name of who speaks most of it; a voice that nobody
  enrolled must be `unknown`. Labels that name nobody count as not right.
WER/CER: all finals of a side in order of time against its turns; English lower case without punctuation, numbers and
  a few abbreviations spoken out; Chinese simplified, without punctuation and spaces, by character. Mono: both sides.
Rules: due = true by the reference text; false = fired though not due. Live: standing when voice QC took over.
CPU: user and system time of the server's processes a minute of call; voice QC (after the hangup) apart."""


def environment() -> dict[str, Any]:
    """What the figures were measured on."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    return {
        "cpu": cpu,
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def figures_of(scored: Scored) -> dict[str, Any]:
    """All figures of a variant as plain data."""
    return {
        "call_minutes": round(scored.minutes, 2),
        "label_ms": _spread(one.whole for one in scored.labels),
        "label_decided_ms": _spread(one.decided for one in scored.labels),
        "label_answered_ms": _spread(one.answered for one in scored.labels),
        "labels_unplaced": scored.unplaced,
        "segments_differing": scored.differing,
        "final_from_close_ms": _spread(one.from_close for one in scored.finals),
        "final_from_end_ms": _spread(one.from_end for one in scored.finals),
        "alert_ms": _spread(one.latency for one in scored.alerts),
        "alert_on_partial_ms": _spread(one.latency for one in scored.alerts if one.on_partial),
        "alert_on_final_ms": _spread(one.latency for one in scored.alerts if not one.on_partial),
        "segments": scored.all_segments,
        "identified": len(scored.segments),
        "right_name": _share(scored.segments, "verdict", "right"),
        "right_name_first_label": _share(scored.segments, "verdict_first", "right"),
        "wrong_name": _share(scored.segments, "verdict", "wrong"),
        "error_rate_live": {side: _edits(one) for side, one in sorted(scored.live_sides.items())},
        "error_rate_qc": {side: _edits(one) for side, one in sorted(scored.qc_sides.items())},
        "rules_live": _rules(scored.live_rules),
        "rules_qc": _rules(scored.qc_rules),
        "cpu_s_per_call_minute_live": _per_minute(scored.live_cpu, scored.minutes),
        "cpu_s_per_call_minute_qc": _per_minute(scored.qc_cpu, scored.minutes),
        "others_cpu_share": round(scored.others_s / (scored.minutes * 60 * (os.cpu_count() or 1)), 3),
        "bench_cpu_share": round(scored.bench_s / (scored.minutes * 60 * (os.cpu_count() or 1)), 3),
    }


def show(variants: Mapping[str, dict[str, Any]], console: Console) -> None:
    """Print the figures of each variant, side by side, and what they mean."""
    table = Table(title=f"Live calls, played in real time ({LEGEND})", title_justify="left")
    for column in ("figure", "aim", *variants):
        table.add_column(column)
    for row in _table(variants):
        table.add_row(*row)
    console.print(table)
    console.print(DEFINITIONS, highlight=False, markup=False, soft_wrap=True)


def markdown(variants: Mapping[str, dict[str, Any]]) -> str:
    """The same table for BENCHMARKS.md."""
    rows = [("figure", "aim", *variants), ("---",) * (2 + len(variants)), *_table(variants)]
    return "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |\n" for row in rows)


def _table(variants: Mapping[str, dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    for title, aim, cell in _ROWS:
        yield title, aim, *(cell(figures) for figures in variants.values())
    for key, title in (("error_rate_live", "live"), ("error_rate_qc", "voice QC")):
        for side in sorted({side for figures in variants.values() for side in figures[key]}):
            cells = [_error_cell(figures[key].get(side)) for figures in variants.values()]
            yield f"{'CER' if side.startswith('zh') else 'WER'} {title}, {side}", "", *cells
    for key, title in (("rules_live", "live"), ("rules_qc", "voice QC")):
        for kind in sorted({kind for figures in variants.values() for kind in figures[key]}, key=_last("all")):
            cells = [_rule_cell(figures[key].get(kind)) for figures in variants.values()]
            yield f"rules {title}, {kind}", "", *cells
    for key, title in (("cpu_s_per_call_minute_live", "live"), ("cpu_s_per_call_minute_qc", "voice QC")):
        spent = {part for figures in variants.values() for part, cpu_s in figures[key].items() if cpu_s >= LEAST_CPU_S}
        for part in sorted(spent, key=_last("all")):
            cells = [f"{figures[key].get(part, 0):.2f}" for figures in variants.values()]
            yield f"CPU s a call minute {title}, {part}", "", *cells


def _last(name: str) -> Any:
    return lambda key: (key == name, key)


def _times_cell(figures: Mapping[str, Any], key: str) -> str:
    one = figures[key]
    if not one["count"]:
        return "none"
    return f"{one['p50']:.0f} / {one['p95']:.0f} / {one['max']:.0f} ({one['count']})"


def _times_row(title: str, aim: str, key: str) -> tuple[str, str, Any]:
    return f"{title}, ms", aim, lambda figures: _times_cell(figures, key)


_ROWS: tuple[tuple[str, str, Any], ...] = (
    ("call minutes", "", lambda f: f"{f['call_minutes']:.1f}"),
    _times_row("label", "p95 <= 300", "label_ms"),
    _times_row("  decided", "", "label_decided_ms"),
    _times_row("  answered", "", "label_answered_ms"),
    _times_row("final text from close", "p95 <= 1000", "final_from_close_ms"),
    _times_row("final text from end of speech", "", "final_from_end_ms"),
    _times_row("alert from end of keyword", "p50 <= 1000, p95 <= 2000", "alert_ms"),
    _times_row("  on partial text", "", "alert_on_partial_ms"),
    _times_row("  on final text", "", "alert_on_final_ms"),
    ("identified / all segments", "", lambda f: f"{f['identified']} / {f['segments']}"),
    ("right name", ">= .95 stereo, .90 mono", lambda f: f"{f['right_name']:.3f}"),
    ("  at the first label", "", lambda f: f"{f['right_name_first_label']:.3f}"),
    ("  wrong name", "", lambda f: f"{f['wrong_name']:.3f}"),
    ("offline run: unplaced / differing", "0 / 0", lambda f: f"{f['labels_unplaced']} / {f['segments_differing']}"),
    ("machine used by others / by the bench", "idle: 0", lambda f: f"{f['others_cpu_share']} / {f['bench_cpu_share']}"),
)


def _error_cell(one: Mapping[str, Any] | None) -> str:
    return "" if one is None else f"{one['rate']:.3f} ({one['length']})"


def _rule_cell(one: Mapping[str, Any] | None) -> str:
    return "" if one is None else f"{one['fired']} of {one['due']}, {one['false']} of {one['silent']}"


def _spread(values: Iterable[float]) -> dict[str, Any]:
    one: Spread = spread(values)
    if not one.count:
        return {"count": 0}
    return {"count": one.count, "p50": round(one.p50), "p95": round(one.p95), "max": round(one.most)}


def _share(segments: list[LabelledSegment], name: str, verdict: str) -> float:
    hits = sum(1 for one in segments if getattr(one, name) == verdict)
    return round(hits / max(1, len(segments)), 4)


def _edits(one: Edits) -> dict[str, Any]:
    return {"rate": round(one.rate, 4), **msgspec.to_builtins(one)}


def _rules(counts: Mapping[str, RuleCounts]) -> dict[str, Any]:
    return {
        **{kind: msgspec.to_builtins(one) for kind, one in counts.items()},
        "all": msgspec.to_builtins(everything(counts.values())),
    }


def _per_minute(cpu: Mapping[str, float], minutes: float) -> dict[str, float]:
    each = {part: round(spent_s / minutes, 3) for part, spent_s in cpu.items()}
    return {**each, "all": round(sum(cpu.values()) / minutes, 3)}
