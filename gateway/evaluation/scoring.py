"""Everything measured on one played call, and the sum over calls."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.call.settings import CallTerms
from gateway.evaluation import figures
from gateway.evaluation.diarization import SpeechErrors, speech_errors
from gateway.evaluation.figures import AlertTime, FinalTimes, LabelledSegment, LabelTimes
from gateway.evaluation.material import LabelledCall
from gateway.evaluation.outcomes import Outcome, outcomes
from gateway.evaluation.player import Played, start_of
from gateway.evaluation.rulemaking import MadeRule
from gateway.evaluation.trace import Trace
from gateway.evaluation.wording import Edits, edits
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
    speech: SpeechErrors = field(default_factory=SpeechErrors)
    outcomes: list[Outcome] = field(default_factory=list)
    live_cpu: dict[str, float] = field(default_factory=dict)
    qc_cpu: dict[str, float] = field(default_factory=dict)
    others_s: float = 0.0
    """CPU that neither the server nor the bench used while calls were on."""
    own_s: float = 0.0

    def add(self, other: Scored) -> None:
        """Add one call to the sum."""
        for name in ("minutes", "unplaced", "differing", "all_segments", "speech", "others_s", "own_s"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("labels", "segments", "finals", "alerts", "outcomes"):
            getattr(self, name).extend(getattr(other, name))
        for name in ("live_sides", "qc_sides", "live_cpu", "qc_cpu"):
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
    timed = played.speed == 1  # at another pace the server is no live one: it holds a hurrying client back
    scored = Scored(
        minutes=played.duration_ms / 60_000,
        labels=labels if timed else [],
        unplaced=unplaced,
        differing=sum(bounds.get(name) != ends[:2] for name, ends in trace.closed.items()),
        segments=figures.labelled_segments(arrived, trace, call.turns, roles, enrolled),
        all_segments=len(closed),
        finals=figures.final_times(arrived) if timed else [],
        alerts=figures.alert_times(arrived, played.hangup_ms, call.language) if timed else [],
        speech=speech_errors(arrived, call.turns, roles, enrolled, played.duration_ms),
        outcomes=outcomes(call.name, rules, arrived, played.hangup_ms),
        others_s=played.live.others_s,
        own_s=played.live.own_s,
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
