"""The figures as tables for people and as plain data for machines."""

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

from gateway.evaluation.figures import LabelledSegment, Spread, spread
from gateway.evaluation.outcomes import JUDGES, Agreement, FalseAlarms, Outcome, agreement, false_alarms, rule_counts
from gateway.evaluation.scoring import Scored
from gateway.evaluation.wording import Edits

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
Diarization error: speaking time missed, heard where nobody speaks, or given to another voice, as a share of all
  speaking time of the reference; 0.25 s around each turn's bounds does not count.
Rules: due = true by the reference text; false = fired though not due. Live: standing when voice QC took over. Live
  text: the final texts judged as a whole, as written and by toneless pinyin.
Confirmed: of the early alerts that voice QC judged. Recall: of what voice QC hit, what an early alert had named.
False alarms: alerts for rules not due by the reference, retracted ones too unless a forbidden word undid them; a rule
  that the reference makes true by sound alone is a homophone and counts apart.
Lead: how long before voice QC's verdict, or the hangup, the first alert of a rule came that stood in the end.
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
        "alert_en_ms": _spread(one.latency for one in scored.alerts if one.language == "en"),
        "alert_zh_ms": _spread(one.latency for one in scored.alerts if one.language == "zh"),
        "alert_on_partial_ms": _spread(one.latency for one in scored.alerts if one.on_partial),
        "alert_on_final_ms": _spread(one.latency for one in scored.alerts if not one.on_partial),
        "segments": scored.all_segments,
        "identified": len(scored.segments),
        "right_name": _share(scored.segments, "verdict", "right"),
        "right_name_first_label": _share(scored.segments, "verdict_first", "right"),
        "wrong_name": _share(scored.segments, "verdict", "wrong"),
        "error_rate_live": {side: _edits(one) for side, one in sorted(scored.live_sides.items())},
        "error_rate_qc": {side: _edits(one) for side, one in sorted(scored.qc_sides.items())},
        "diarization": {"rate": round(scored.speech.rate, 4), **msgspec.to_builtins(scored.speech)},
        "rules": {judge: msgspec.to_builtins(rule_counts(scored.outcomes, fired)) for judge, fired in JUDGES.items()},
        "false_alarms": _false_alarms(false_alarms(scored.outcomes, scored.minutes)),
        "agreement_final": _agreement(agreement(scored.outcomes, only_final=True)),
        "agreement_all": _agreement(agreement(scored.outcomes, only_final=False)),
        "lead_on_qc_s": _spread(one.lead_ms / 1000 for one in scored.outcomes if one.lead_ms is not None),
        "lead_on_hangup_s": _spread(
            one.before_hangup_ms / 1000 for one in scored.outcomes if one.before_hangup_ms is not None
        ),
        "per_rule": [_per_rule(one) for one in scored.outcomes],
        "cpu_s_per_call_minute_live": _per_minute(scored.live_cpu, scored.minutes),
        "cpu_s_per_call_minute_qc": _per_minute(scored.qc_cpu, scored.minutes),
        "others_cpu_share": round(scored.others_s / (scored.minutes * 60 * (os.cpu_count() or 1)), 3),
        "bench_cpu_share": round(scored.own_s / (scored.minutes * 60 * (os.cpu_count() or 1)), 3),
    }


def show(variants: Mapping[str, dict[str, Any]], console: Console) -> None:
    """Print the figures of each variant, side by side, and what they mean."""
    table = Table(title=f"Live calls, played in real time ({LEGEND})", title_justify="left")
    for column in ("figure", "aim", *variants):
        table.add_column(column)
    for row in _rows(variants, every_kind=False):
        table.add_row(*row)
    console.print(table)
    console.print(DEFINITIONS, highlight=False, markup=False, soft_wrap=True)


def markdown(variants: Mapping[str, dict[str, Any]]) -> str:
    """The same table for BENCHMARKS.md."""
    rows = [("figure", "aim", *variants), ("---",) * (2 + len(variants)), *rows_of(variants)]
    return "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |\n" for row in rows)


def rows_of(variants: Mapping[str, dict[str, Any]]) -> list[tuple[str, ...]]:
    """The table, row by row: the figure, what is aimed at, and a cell for each variant."""
    return list(_rows(variants, every_kind=True))


def _rows(variants: Mapping[str, dict[str, Any]], *, every_kind: bool) -> Iterator[tuple[str, ...]]:
    for title, aim, cell in _ROWS:
        yield title, aim, *(cell(figures) for figures in variants.values())
    for key, title in (("error_rate_live", "live"), ("error_rate_qc", "voice QC")):
        for side in sorted({side for figures in variants.values() for side in figures[key]}):
            cells = [_error_cell(figures[key].get(side)) for figures in variants.values()]
            yield f"{'CER' if side.startswith('zh') else 'WER'} {title}, {side}", "", *cells
    for judge in JUDGES:
        found = {kind for figures in variants.values() for kind in figures["rules"][judge]}
        kinds = found if every_kind else found & {"all"}
        for kind in sorted(kinds, key=_last("all")):
            cells = [_rule_cell(figures["rules"][judge].get(kind)) for figures in variants.values()]
            yield f"rules {judge}, {kind}", "", *cells
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


def _agreement_cell(one: Mapping[str, Any]) -> str:
    return f"{one['precision']:.3f} ({one['settled']}); recall {one['recall']:.3f} ({one['qc_hits']})"


def _alarms_cell(one: Mapping[str, Any]) -> str:
    return (
        f"{one['per_hour_of_140_rules']:.0f} ({one['alarms']} with {one['rules']:.0f} rules, "
        f"{one['homophones']} homophones apart)"
    )


def _lead_row(title: str, key: str) -> tuple[str, str, Any]:
    return title, "", lambda figures: _lead_cell(figures[key])


def _lead_cell(one: Mapping[str, Any]) -> str:
    return f"{one['p50']} / {one['p95']} / {one['max']} ({one['count']})" if one["count"] else "none"


_ROWS: tuple[tuple[str, str, Any], ...] = (
    ("call minutes", "", lambda f: f"{f['call_minutes']:.1f}"),
    _times_row("label", "p95 <= 300", "label_ms"),
    _times_row("  decided", "", "label_decided_ms"),
    _times_row("  answered", "", "label_answered_ms"),
    _times_row("final text from close", "p95 <= 1000", "final_from_close_ms"),
    _times_row("final text from end of speech", "", "final_from_end_ms"),
    _times_row("alert from end of keyword", "", "alert_ms"),
    _times_row("  English", "p50 <= 600, p95 <= 1200", "alert_en_ms"),
    _times_row("  Mandarin", "p50 <= 750, p95 <= 1400", "alert_zh_ms"),
    _times_row("  on partial text", "", "alert_on_partial_ms"),
    _times_row("  on final text", "", "alert_on_final_ms"),
    ("identified / all segments", "", lambda f: f"{f['identified']} / {f['segments']}"),
    ("right name", ">= .95 stereo, .90 mono", lambda f: f"{f['right_name']:.3f}"),
    ("  at the first label", "", lambda f: f"{f['right_name_first_label']:.3f}"),
    ("  wrong name", "", lambda f: f"{f['wrong_name']:.3f}"),
    (
        "diarization error (missed, false, confused)",
        "",
        lambda f: (
            f"{f['diarization']['rate']:.3f} "
            f"({', '.join(str(f['diarization'][part] // 1000) for part in ('missed_ms', 'false_ms', 'confused_ms'))} "
            f"of {f['diarization']['spoken_ms'] // 1000} s)"
        ),
    ),
    ("early final alerts that voice QC confirms", ">= .95", lambda f: _agreement_cell(f["agreement_final"])),
    ("  the provisional ones too", "", lambda f: _agreement_cell(f["agreement_all"])),
    ("false alarms an hour, of 140 rules", "<= 20", lambda f: _alarms_cell(f["false_alarms"])),
    _lead_row("lead on the verdict, s", "lead_on_qc_s"),
    _lead_row("lead on the hangup, s", "lead_on_hangup_s"),
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


def _false_alarms(one: FalseAlarms) -> dict[str, Any]:
    return {
        "alarms": one.alarms,
        "homophones": one.homophones,
        "per_hour": round(one.per_hour, 1),
        "per_hour_of_140_rules": round(one.per_hour_of(140), 1),
        "rules": round(one.rules, 1),
    }


def _agreement(one: Agreement) -> dict[str, Any]:
    return {"precision": round(one.precision, 4), "recall": round(one.recall, 4), **msgspec.to_builtins(one)}


def _per_rule(one: Outcome) -> dict[str, Any]:
    """One rule's record in one call; `lead_s` on voice QC's verdict."""
    return {
        "call": one.call,
        "rule": one.rule.expression,
        "kind": one.rule.kind,
        "due": one.rule.due,
        "alerts": one.alerts,
        "stood": one.stood,
        "status": one.status,
        "qc": one.qc,
        "lead_s": None if one.lead_ms is None else round(one.lead_ms / 1000, 2),
    }


def _per_minute(cpu: Mapping[str, float], minutes: float) -> dict[str, float]:
    each = {part: round(spent_s / minutes, 3) for part, spent_s in cpu.items()}
    return {**each, "all": round(sum(cpu.values()) / minutes, 3)}
