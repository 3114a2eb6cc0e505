"""What a played call amounts to in figures. Pure: messages with their arrival, the reference and the trace go in."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gateway.evaluation.material import Turn
from gateway.evaluation.player import Arrived
from gateway.evaluation.trace import Trace
from gateway.terminal.softphone import PACKET_MS
from protocol.messages import Alert, QcResult, Segment, Speaker, Transcript


@dataclass(frozen=True, slots=True)
class Spread:
    """Percentiles by nearest rank: each is a value that occurred. Without values they are NaN."""

    count: int
    p50: float
    p95: float
    most: float


def spread(values: Iterable[float]) -> Spread:
    ranked = sorted(values)
    if not ranked:
        return Spread(0, math.nan, math.nan, math.nan)
    at = [ranked[max(0, math.ceil(share * len(ranked)) - 1)] for share in (0.5, 0.95)]
    return Spread(len(ranked), at[0], at[1], ranked[-1])


def due_ms(position_ms: float) -> float:
    """When the packet holding the sound just before `position_ms` was due to leave the client.

    It is counted from there even if the packet left late, so that a stall of client or server counts as delay.
    """
    return math.ceil(position_ms / PACKET_MS) * PACKET_MS


# --- speakers ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LabelTimes:
    """Of one segment's first identification, in ms: `whole` is what counts; the other two are its parts.

    `decided`: from the third second spoken to where the core could know it (the VAD's block and its delay).
    `answered`: from there to the message (sending, embedding, search, the way back).
    """

    segment_id: str
    whole: float
    decided: float
    answered: float


FIRST_LABEL_MS = 3000
"""Net speech that the aim counts from; a shorter segment, identified at its close, has no such moment."""


def label_times(arrived: Sequence[Arrived], trace: Trace) -> tuple[list[LabelTimes], int]:
    """Times of each segment's first identification, and how many could not be placed on the trace."""
    times, unplaced, seen = [], 0, set()
    for one in arrived:
        message = one.message
        if not isinstance(message, Speaker) or message.segment_id in seen or not identified(message, trace):
            continue
        seen.add(message.segment_id)
        if message.net_speech_ms < FIRST_LABEL_MS:
            continue
        gathered = trace.gathered.get((message.segment_id, message.net_speech_ms))
        if gathered is None:
            unplaced += 1
            continue
        spoken, asked = due_ms(gathered.spoken_ms), due_ms(gathered.asked_ms)
        times.append(LabelTimes(message.segment_id, one.at_ms - spoken, asked - spoken, one.at_ms - asked))
    return times, unplaced


def identified(message: Speaker, trace: Trace) -> bool:
    """Whether a label rests on an identification of its segment: at its close a short one inherits the channel's."""
    return any(segment_id == message.segment_id for segment_id, _ in trace.gathered)


NAMELESS = "(nobody enrolled)"
"""Who speaks where the reference names a voice that is not enrolled; the label `unknown` says the same."""
LabelVerdict = Literal["right", "wrong", "unnamed"]


def last_labels(arrived: Sequence[Arrived]) -> dict[str, str]:
    """The name each segment has in the end; NAMELESS for `unknown`, empty where the label names nobody yet."""
    names: dict[str, str] = {}
    for one in arrived:
        match one.message:
            case Speaker(segment_id=segment_id, state=state, name=name):
                names[segment_id] = NAMELESS if state == "unknown" else name
    return names


@dataclass(frozen=True, slots=True)
class LabelledSegment:
    """An identified segment: who spoke, the first label, and the last one it got. `share`: of the truth in it."""

    segment_id: str
    channel: int
    begin_ms: int
    end_ms: int
    truth: str
    share: float
    first: Speaker
    last: Speaker
    verdict_first: LabelVerdict
    verdict: LabelVerdict


def labelled_segments(
    arrived: Sequence[Arrived], trace: Trace, turns: Sequence[Turn], roles: Sequence[str], enrolled: Iterable[str]
) -> list[LabelledSegment]:
    """Judge the label of every identified segment by the turns it overlaps; on a channel of its own, that channel's."""
    known = set(enrolled)
    labels: dict[str, list[Speaker]] = {}
    bounds: dict[str, Segment] = {}
    for one in arrived:
        match one.message:
            case Speaker() as speaker if identified(speaker, trace):
                labels.setdefault(speaker.segment_id, []).append(speaker)
            case Segment(state="closed") as segment:
                bounds[segment.segment_id] = segment
    judged = []
    for segment_id, messages in labels.items():
        segment = bounds[segment_id]
        role = roles[segment.channel]
        truth, share = speaker_of(segment.begin_ms, segment.end_ms, turns, None if role == "mixed" else role)
        first, last = messages[0], messages[-1]
        verdicts = [label_verdict(label, truth, known) for label in (first, last)]
        judged.append(
            LabelledSegment(
                *(segment_id, segment.channel, segment.begin_ms, segment.end_ms, truth, share, first, last), *verdicts
            )
        )
    return judged


def speaker_of(begin_ms: float, end_ms: float, turns: Sequence[Turn], role: str | None) -> tuple[str, float]:
    """Whose turns overlap [begin, end) most, and that speaker's share of all the overlap; ("", 0) where nobody's do."""
    heard: dict[str, float] = {}
    for turn in turns:
        if role is None or turn.channel == role:
            overlap_ms = min(end_ms, turn.end_s * 1000) - max(begin_ms, turn.start_s * 1000)
            if overlap_ms > 0:
                heard[turn.speaker] = heard.get(turn.speaker, 0.0) + overlap_ms
    if not heard:
        return "", 0.0
    most = max(heard, key=lambda speaker: heard[speaker])
    return most, heard[most] / sum(heard.values())


def label_verdict(label: Speaker, truth: str, enrolled: set[str]) -> LabelVerdict:
    """Right: `known` by the right name; for a voice that nobody enrolled, `unknown`. Wrong: any other name."""
    if truth not in enrolled:
        return "right" if label.state == "unknown" else "wrong" if label.state == "known" else "unnamed"
    if label.state != "known":
        return "unnamed"
    return "right" if label.name == truth else "wrong"


# --- text --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FinalTimes:
    """Of one final text, in ms: from the arrival of its segment's close, and from the segment's end in the audio."""

    segment_id: str
    from_close: float
    from_end: float


def final_times(arrived: Sequence[Arrived]) -> list[FinalTimes]:
    closed: dict[str, Arrived] = {}
    times = []
    for one in arrived:
        match one.message:
            case Segment(state="closed", segment_id=segment_id):
                closed[segment_id] = one
            case Transcript(final=True, segment_id=segment_id) if segment_id in closed:
                close = closed[segment_id]
                assert isinstance(close.message, Segment)
                times.append(FinalTimes(segment_id, one.at_ms - close.at_ms, one.at_ms - due_ms(close.message.end_ms)))
    return times


def live_text(arrived: Sequence[Arrived], channel: int) -> str:
    """The final texts of one channel in order of time."""
    finals = [
        one.message
        for one in arrived
        if isinstance(one.message, Transcript) and one.message.final and one.message.channel == channel
    ]
    return " ".join(message.text for message in sorted(finals, key=lambda message: message.begin_ms))


def verdict_of(arrived: Sequence[Arrived]) -> dict[str, Any]:
    """Voice QC's result object; empty where none came."""
    return next((one.message.result for one in arrived if isinstance(one.message, QcResult)), {})


def qc_text(result: dict[str, Any], channel: int) -> str:
    sentences = [one for one in result.get("asr_result", ()) if one["speaker_id"] == channel]
    return " ".join(one["sentence"] for one in sorted(sentences, key=lambda one: one["begin_ms"]))


# --- alerts ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AlertTime:
    """`latency`: ms from the end of the last word that made the rule true, as the alert's evidence has it."""

    rule: str
    latency: float
    on_partial: bool
    language: str


def alert_times(arrived: Sequence[Arrived], hangup_ms: float, language: str) -> list[AlertTime]:
    """Of every alert that came with evidence before the hangup; a rule that comes true again counts again."""
    return [
        AlertTime(
            one.message.rule,
            one.at_ms - due_ms(max(evidence.end_ms for evidence in one.message.evidence)),
            "partial_text" in one.message.pending,
            language,
        )
        for one in arrived
        if isinstance(one.message, Alert) and one.message.evidence and one.at_ms <= hangup_ms
    ]


def qc_rules(result: dict[str, Any]) -> set[str]:
    """Rules that voice QC found true."""
    return {
        content["content"]
        for hit in result.get("detection_result", ())
        for content in hit.get("detail", ())
        if content["hit"]
    }
