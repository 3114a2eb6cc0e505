"""The rolling speaker label of one channel: evidence over segments, with hysteresis so that it does not flap."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

from gateway.call.events import Hit

LabelState = Literal["known", "unknown", "undecided", "conflict"]


@dataclass(frozen=True, slots=True)
class SpeakerSettings:
    """Scores are 100 x cosine. `BENCHMARKS.md`, speaker scores, has what the thresholds rest on."""

    known_score: float = 50.0
    known_score_8k: float = 55.0
    margin: float = 5.0
    """A known voice must beat the second by this."""
    hysteresis: float = 6.0
    """The present label is kept down to `known_score` minus this."""
    pooled_segments: int = 4
    """On a channel that carries one party, the last so many segments count together."""
    unknown_ms: int = 3000
    """Net speech after which a voice like nobody's is called unknown: with less, it is undecided."""
    stable_ms: int = 6000
    """Net speech after which a known or unknown label is called stable."""

    def threshold(self, rate_hz: int) -> float:
        return self.known_score_8k if rate_hz <= 8000 else self.known_score


@dataclass(frozen=True, slots=True)
class Label:
    """Who speaks on a channel, as far as one can tell."""

    state: LabelState = "undecided"
    name: str = ""
    score: float = 0.0
    margin: float = 0.0
    stable: bool = False
    candidates: tuple[Hit, ...] = ()


@dataclass(slots=True)
class _Evidence:
    segment_id: str
    net_speech_ms: int
    scores: dict[str, float]


class RollingLabel:
    """One channel's label. `one_party` pools segments; else each segment may be another person."""

    def __init__(self, settings: SpeakerSettings, rate_hz: int, *, one_party: bool) -> None:
        self._settings = settings
        self._threshold = settings.threshold(rate_hz)
        self._evidence: deque[_Evidence] = deque(maxlen=settings.pooled_segments if one_party else 1)
        self.label = Label()

    def update(self, segment_id: str, net_speech_ms: int, candidates: tuple[Hit, ...]) -> Label:
        """Take one identification; of one segment, that of the most speech counts. Return the new label."""
        if self._evidence and self._evidence[-1].segment_id == segment_id:
            if self._evidence[-1].net_speech_ms > net_speech_ms:
                return self.label  # answers may overtake one another
            self._evidence.pop()
        self._evidence.append(_Evidence(segment_id, net_speech_ms, {hit.name: hit.score for hit in candidates}))
        pooled = self._pooled()
        best = pooled[0] if pooled else Hit("", 0.0)
        margin = best.score - pooled[1].score if len(pooled) > 1 else best.score
        heard_ms = sum(one.net_speech_ms for one in self._evidence)
        state = self._decide(best, margin)
        if state == "unknown" and heard_ms < self._settings.unknown_ms:
            state = "undecided"
        self.label = Label(
            state=state,
            name=best.name if state == "known" else "",
            score=best.score,
            margin=margin,
            stable=state != "undecided" and heard_ms >= self._settings.stable_ms,
            candidates=pooled[:10],
        )
        return self.label

    def _pooled(self) -> tuple[Hit, ...]:
        total_ms = sum(one.net_speech_ms for one in self._evidence) or 1
        names = {name for one in self._evidence for name in one.scores}
        # A name that some answer left out of its ten best scored no higher than that answer's last.
        hits = [
            Hit(name, sum(one.scores.get(name, min(one.scores.values(), default=0.0)) * one.net_speech_ms
                          for one in self._evidence) / total_ms)
            for name in names
        ]  # fmt: skip
        return tuple(sorted(hits, key=lambda hit: (-hit.score, hit.name)))

    def _decide(self, best: Hit, margin: float) -> LabelState:
        settings = self._settings
        kept = self.label.state == "known" and best.name == self.label.name
        threshold = self._threshold - (settings.hysteresis if kept else 0.0)
        if best.score >= threshold:
            return "known" if margin >= settings.margin or kept else "undecided"
        if best.score < self._threshold - settings.hysteresis:
            return "unknown"
        return "undecided"


def conflicts(labels: dict[int, Label], roles: tuple[str, ...], agent: str) -> set[int]:
    """Channels whose known voice cannot be right: one voice on two channels, or the agent's on a customer's channel."""
    named = {channel: label.name for channel, label in labels.items() if label.state == "known"}
    twice = {channel for channel, name in named.items() if list(named.values()).count(name) > 1}
    astray = {
        channel
        for channel, name in named.items()
        if agent and name == agent and len(roles) > 1 and roles[channel] != "agent"
    }
    return twice | astray
