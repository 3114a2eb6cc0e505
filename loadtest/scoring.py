"""Everything measured on one played call, and the sum over calls."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.call.settings import CallTerms
from loadtest import figures
from loadtest.figures import AlertTime, FinalTimes, LabelledSegment, LabelTimes, RuleCounts
from loadtest.material import LabelledCall
from loadtest.player import Played, start_of
from loadtest.rulemaking import MadeRule
from loadtest.trace import Trace
from loadtest.wording import Edits, edits
from protocol.messages import Segment

LIVE_ONLY_PARTS = ("recognizer",)
"""Parts that work for live calls alone: what they do after the hangup is still the call's."""


@dataclass(slots=True)
class Scored:
    """One call, or the sum of many. `sides`: edits by language and side; CPU in seconds by part of the server."""

    minutes: float = 0.0
    labels: list[LabelTimes] = field(default_factory=list)
    unplaced: int = 0
    """Identifications that the offline run did not make: their latency is not known."""
    differing: int = 0
    """Segments whose bounds differ between the live call and the offline run."""
    segments: list[LabelledSegment] = field(default_factory=list)
    all_segments: int = 0
    finals: list[FinalTimes] = field(default_factory=list)
    alerts: list[AlertTime] = field(default_factory=list)
    live_sides: dict[str, Edits] = field(default_factory=dict)
    qc_sides: dict[str, Edits] = field(default_factory=dict)
    live_rules: dict[str, RuleCounts] = field(default_factory=dict)
    qc_rules: dict[str, RuleCounts] = field(default_factory=dict)
    live_cpu: dict[str, float] = field(default_factory=dict)
    qc_cpu: dict[str, float] = field(default_factory=dict)
    others_s: float = 0.0
    """CPU that neither the server nor the bench used while calls were on."""
    bench_s: float = 0.0

    def add(self, other: Scored) -> None:
        """Add one call to the sum."""
        for name in ("minutes", "unplaced", "differing", "all_segments", "others_s", "bench_s"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("labels", "segments", "finals", "alerts"):
            getattr(self, name).extend(getattr(other, name))
        for name in ("live_sides", "qc_sides", "live_rules", "qc_rules", "live_cpu", "qc_cpu"):
            sums = getattr(self, name)
            for key, value in getattr(other, name).items():
                sums[key] = sums[key] + value if key in sums else value


def score(
    played: Played, trace: Trace, rules: tuple[MadeRule, ...], enrolled: frozenset[str], apart: frozenset[str]
) -> Scored:
    """Figures of one call. `apart`: speakers whose text is counted on its own."""
    call, arrived = played.call, played.arrived
    roles = CallTerms.of("", start_of(call, played.channels)).roles
    labels, unplaced = figures.label_times(arrived, trace)
    verdict = figures.verdict_of(arrived)
    closed = [one.message for one in arrived if isinstance(one.message, Segment) and one.message.state == "closed"]
    bounds = {one.segment_id: (one.begin_ms, one.end_ms) for one in closed}
    scored = Scored(
        minutes=played.duration_ms / 60_000,
        labels=labels,
        unplaced=unplaced,
        differing=sum(bounds.get(name) != ends[:2] for name, ends in trace.closed.items()),
        segments=figures.labelled_segments(arrived, trace, call.turns, roles, enrolled),
        all_segments=len(closed),
        finals=figures.final_times(arrived),
        alerts=figures.alert_times(arrived, played.hangup_ms),
        live_rules=figures.rule_counts(rules, figures.standing_rules(arrived)),
        qc_rules=figures.rule_counts(rules, figures.qc_rules(verdict)),
        others_s=played.live.others_s,
        bench_s=played.live.own_s,
    )
    for channel, role in enumerate(roles):
        side, reference = _side(call, role, apart)
        scored.live_sides[side] = edits(reference, figures.live_text(arrived, channel), call.language)
        scored.qc_sides[side] = edits(reference, figures.qc_text(verdict, channel), call.language)
    _account(scored, played)
    return scored


def _side(call: LabelledCall, role: str, apart: frozenset[str]) -> tuple[str, str]:
    """What a channel's text is counted under, and its reference."""
    turns = [turn for turn in call.turns if role in ("mixed", turn.channel)]
    special = sorted({turn.speaker for turn in turns} & apart) if role != "mixed" else []
    return " ".join([call.language, *special]), " ".join(turn.text for turn in turns)


def _account(scored: Scored, played: Played) -> None:
    for part, spent_s in played.live.parts.items():
        late_s = played.after.parts.get(part, 0.0)
        belongs = part in LIVE_ONLY_PARTS
        scored.live_cpu[part] = spent_s + (late_s if belongs else 0.0)
        scored.qc_cpu[part] = 0.0 if belongs else late_s
