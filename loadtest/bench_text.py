"""What live text costs and how good it is, by a simulated clock: `python -m loadtest.bench_text --help`.

Labelled calls go through the core and the real recogniser in this process, undisturbed by what else the machine does:
latency is media time plus the CPU time of the decodes (see `loadtest/simulated.py`). It compares models and load
levels; `earshot eval` measures the real thing.
"""

from __future__ import annotations

import difflib
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from gateway.call.settings import CallTerms
from gateway.engines.manifest import SILERO, WHISPER_BASE
from gateway.engines.models import model_folder
from gateway.engines.silero import Silero
from gateway.engines.webrtc import WebrtcGate
from gateway.engines.whisper import Whisper
from gateway.evaluation import figures
from gateway.evaluation.figures import AlertTime
from gateway.evaluation.material import RATE_HZ, LabelledCall, demo_material, labelled
from gateway.evaluation.outcomes import JUDGES, RuleCounts, outcomes, rule_counts
from gateway.evaluation.player import Arrived, start_of
from gateway.evaluation.rulemaking import MadeRule, rules_for
from gateway.evaluation.run import SEED
from gateway.evaluation.wording import Edits, edits, normalised
from gateway.session.settings import call_settings
from gateway.settings import load
from gateway.terminal.softphone import read_audio
from loadtest.corpus import CORPUS
from loadtest.simulated import Confirm, SimulatedCall, Transcriber
from protocol.messages import Transcript
from protocol.rules.matcher import RuleSet


@dataclass(slots=True)
class Sum:
    """Figures over calls of one language."""

    speech_s: float = 0.0
    cpu_s: dict[str, float] = field(default_factory=dict)
    edits: Edits = field(default_factory=Edits)
    alerts: list[AlertTime] = field(default_factory=list)
    rules: dict[str, RuleCounts] = field(default_factory=dict)
    shown: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Words (characters) shown before the final text, and how many of them it does not have; `all` and `stable`."""
    rejected: dict[str, int] = field(default_factory=dict)


@click.command()
@click.option("--calls", type=click.Path(path_type=Path, file_okay=False), help="NAME.flac beside NAME.json.")
@click.option("--name", "names", multiple=True, help="Only the call of this name; may be given again.")
@click.option("--model", default=WHISPER_BASE.name, show_default=True)
@click.option("--level", "levels", multiple=True, type=int, default=(0,), show_default=True, help="Load level, 0 to 6.")
@click.option("--seconds", type=click.FloatRange(min=1), help="Only the first so many seconds of each call.")
def main(
    calls: Path | None, names: tuple[str, ...], model: str, levels: tuple[int, ...], seconds: float | None
) -> None:
    """Without --calls, the labelled corpus beside the repository, if it is there; else the demo's synthetic calls."""
    folder = calls or CORPUS / "calls"
    material = labelled(folder, []) if folder.is_dir() else demo_material()
    models_path = load(None).settings.models_path
    whisper = Whisper(model_folder(models_path, model))
    silero = Silero(model_folder(models_path, SILERO.name) / SILERO.files[0].name)
    console = Console(width=200)
    for level in levels:
        sums: dict[str, Sum] = {}
        for call in material.calls:
            if (not names or call.name in names) and (call.language == "en" or not model.endswith(".en")):
                elsewhere = [turn.text for other in material.calls if other.name != call.name for turn in other.turns]
                made = rules_for([turn.text for turn in call.turns], elsewhere, random.Random(f"{SEED}/{call.name}"))
                _simulate(call, made, level, seconds, whisper.transcribe, silero.confirm, sums)  # type: ignore[arg-type]
        console.print(_table(model, level, sums))


def _simulate(
    call: LabelledCall,
    made: Iterable[MadeRule],
    level: int,
    seconds: float | None,
    transcribe: Transcriber,
    confirm: Confirm,
    sums: dict[str, Sum],
) -> None:
    settings = load(None).settings
    pcm, _ = read_audio(call.audio, RATE_HZ, 2)
    if seconds is not None:
        pcm = pcm[: 4 * int(seconds * RATE_HZ)]
    duration_s = len(pcm) / (4 * RATE_HZ)
    heard_turns = [turn for turn in call.turns if turn.end_s <= duration_s]
    plain = [rule for rule in made if rule.kind in ("A", "absent")]
    rules = [
        rule for rule in plain if not rule.due or any(_said(rule, turn.text, call.language) for turn in heard_turns)
    ]
    ruleset = RuleSet.from_categories({call.name: [rule.expression for rule in rules]}, 1, pinyin=settings.pinyin)
    terms = CallTerms.of(call.name, start_of(call, 2))
    of_call = call_settings(settings, WebrtcGate)
    done = SimulatedCall(terms, of_call, ruleset, transcribe, confirm).run(pcm, level=level)
    one = sums.setdefault(call.language, Sum())
    one.speech_s += sum(turn.end_s - turn.start_s for turn in call.turns if turn.start_s < duration_s)
    for what, spent_s in done.cpu_s.items():
        one.cpu_s[what] = one.cpu_s.get(what, 0.0) + spent_s
    for reason, count in done.rejected.items():
        one.rejected[reason] = one.rejected.get(reason, 0) + count
    for channel, role in enumerate(terms.roles):
        reference = " ".join(turn.text for turn in heard_turns if turn.channel == role)
        one.edits += edits(reference, figures.live_text(done.arrived, channel), call.language)
    one.alerts += figures.alert_times(done.arrived, 1000 * duration_s, call.language)
    became = outcomes(call.name, rules, done.arrived, 1000 * duration_s)
    for kind, counts in rule_counts(became, JUDGES["live"]).items():
        if kind != "all":
            one.rules[kind] = one.rules.get(kind, RuleCounts()) + counts
    _count_changes(done.arrived, call, one)


def _said(rule: MadeRule, text: str, language: str) -> bool:
    return normalised(rule.expression, language) in normalised(text, language)  # type: ignore[arg-type]


def _count_changes(arrived: Iterable[Arrived], call: LabelledCall, one: Sum) -> None:
    """How much of what was shown of a segment its final text does not have."""
    shown: dict[str, list[Transcript]] = {}
    for message in (one.message for one in arrived if isinstance(one.message, Transcript)):
        shown.setdefault(message.segment_id, []).append(message)
    for messages in shown.values():
        last = _units(messages[-1].text, call)
        for partial in messages[:-1]:
            for what, text in (("all", partial.text), ("stable", partial.text[: partial.stable_chars])):
                units = _units(text, call)
                matcher = difflib.SequenceMatcher(None, units, last, autojunk=False)
                kept = sum(block.size for block in matcher.get_matching_blocks())
                total, changed = one.shown.get(what, (0, 0))
                one.shown[what] = total + len(units), changed + len(units) - kept


def _units(text: str, call: LabelledCall) -> list[str]:
    plain = normalised(text, call.language)
    return plain.split() if call.language == "en" else list(plain)


def _table(model: str, level: int, sums: dict[str, Sum]) -> Table:
    table = Table("figure", *sums, title=f"{model}, load level {level}", title_justify="left")
    rows: dict[str, list[str]] = {}
    for one in sums.values():
        spread = figures.spread(alert.latency for alert in one.alerts)
        due, decoys = one.rules.get("A", RuleCounts()), one.rules.get("absent", RuleCounts())
        for name, value in {
            "speech, s": f"{one.speech_s:.0f}",
            "CPU s a second of speech": f"{sum(one.cpu_s.values()) / one.speech_s:.3f}",
            **{
                f"  {what}": f"{one.cpu_s.get(what, 0) / one.speech_s:.3f}" for what in ("partial", "foreseen", "final")
            },
            "WER, CER of finals": f"{one.edits.rate:.3f} ({one.edits.length})",
            "alert from end of keyword, ms": f"{spread.p50:.0f} / {spread.p95:.0f} ({spread.count})",
            "keywords heard": f"{due.fired} of {due.due}",
            "decoys heard": f"{decoys.false} of {decoys.silent}",
            **{
                f"shown and changed, {what}": f"{changed / max(1, total):.3f} ({total})"
                for what, (total, changed) in sorted(one.shown.items())
            },
            "finals rejected": ", ".join(f"{count} {reason}" for reason, count in one.rejected.items()) or "none",
        }.items():
            rows.setdefault(name, []).append(value)
    for name, values in rows.items():
        table.add_row(name, *values)
    return table


if __name__ == "__main__":
    main()
