"""What a report shows, as plain values: made from a call's document, or from a result of voice QC alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from protocol.rules.text import Folded, fold, fold_keyword, on_boundaries

Verdict = Literal["passed", "failed", "live", "judging", "no_verdict"]
FindingKind = Literal["confirmed", "not_confirmed", "indeterminate", "retracted", "open", "missed", "hit"]
LONG_SILENCE_MS = 3000
"""A silence from this length on is shown."""
MOST_PLACES = 50
"""Of one finding: a keyword of every sentence says nothing new."""


@dataclass(frozen=True, slots=True)
class Stretch:
    begin_ms: int
    end_ms: int

    @property
    def duration_ms(self) -> int:
        return self.end_ms - self.begin_ms


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of a sentence; `marked`: it is a keyword of a rule that was hit."""

    text: str
    marked: bool


@dataclass(frozen=True, slots=True)
class Line:
    """A sentence."""

    number: int
    party: int
    who: str
    """A name, where one is known."""
    begin_ms: int
    end_ms: int
    text: str
    speed: int | None
    power_dbfs: int | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the call something was heard; `line` is the sentence's number, None for none."""

    at_ms: int
    party: int | None
    line: int | None


@dataclass(frozen=True, slots=True)
class Finding:
    """An alert with what became of it, or a hit of voice QC."""

    kind: FindingKind
    category: str
    rule: str
    keywords: tuple[str, ...]
    places: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Party:
    """Whose speech a lane of the timeline shows. `role` is `agent`, `customer`, another name, or empty."""

    role: str
    name: str
    speech: tuple[Stretch, ...]


@dataclass(frozen=True, slots=True)
class Note:
    kind: str
    value: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Report:
    """Everything on the page but its words."""

    id: str
    of_call: bool
    began_at_ms: int | None
    duration_ms: int
    facts: tuple[tuple[str, str], ...]
    """Name among WORDS, value."""
    metadata: tuple[tuple[str, str], ...]
    verdict: Verdict
    verdict_note: str
    parties: tuple[Party, ...]
    lines: tuple[Line, ...]
    from_qc: bool
    findings: tuple[Finding, ...]
    gaps: tuple[Stretch, ...]
    notes: tuple[Note, ...]

    @property
    def silences(self) -> tuple[Stretch, ...]:
        """Where nobody speaks for long."""
        return tuple(one for one in self._silence() if one.duration_ms >= LONG_SILENCE_MS)

    @property
    def longest_silence_ms(self) -> int:
        return max((one.duration_ms for one in self._silence()), default=0)

    @property
    def silence_ms(self) -> int:
        """How long nobody speaks, in all."""
        return sum(one.duration_ms for one in self._silence())

    @property
    def talkovers(self) -> tuple[Stretch, ...]:
        """Where two speak at once."""
        return tuple(_overlaps([party.speech for party in self.parties]))

    def _silence(self) -> Iterator[Stretch]:
        at_ms = 0
        for one in joined(stretch for party in self.parties for stretch in party.speech):
            if one.begin_ms > at_ms:
                yield Stretch(at_ms, one.begin_ms)
            at_ms = max(at_ms, one.end_ms)
        if at_ms < self.duration_ms:
            yield Stretch(at_ms, self.duration_ms)

    def pieces(self, line: Line) -> tuple[Piece, ...]:
        """A line's text, keywords of what voice QC has hit (without it: of alerts that stand) apart from the rest."""
        shown = [one for one in self.findings if one.kind not in ("retracted", "not_confirmed")]
        return marked(line.text, {keyword for one in shown for keyword in one.keywords})


def joined(stretches: Iterable[Stretch]) -> tuple[Stretch, ...]:
    """In order of time, those that touch or overlap made one."""
    merged: list[Stretch] = []
    for one in sorted(stretches, key=lambda each: each.begin_ms):
        if merged and one.begin_ms <= merged[-1].end_ms:
            merged[-1] = Stretch(merged[-1].begin_ms, max(merged[-1].end_ms, one.end_ms))
        else:
            merged.append(one)
    return tuple(merged)


def _overlaps(lanes: Sequence[tuple[Stretch, ...]]) -> Iterator[Stretch]:
    edges = sorted(edge for lane in lanes for one in joined(lane) for edge in ((one.begin_ms, 1), (one.end_ms, -1)))
    speaking, since_ms = 0, 0
    for at_ms, change in edges:
        if speaking < 2 <= speaking + change:
            since_ms = at_ms
        elif speaking + change < 2 <= speaking and at_ms > since_ms:
            yield Stretch(since_ms, at_ms)
        speaking += change


def marked(text: str, keywords: Iterable[str]) -> tuple[Piece, ...]:
    """A text in pieces; keywords are found as the rules find them (width, case, script, word boundaries)."""
    folded = fold(text)
    edges: list[tuple[int, int]] = sorted(span for keyword in keywords for span in found_in(folded, keyword))
    pieces: list[Piece] = []
    at = 0
    for begin, end in edges:
        if end <= at:
            continue
        begin = max(begin, at)
        if begin > at:
            pieces.append(Piece(text[at:begin], marked=False))
        pieces.append(Piece(text[begin:end], marked=True))
        at = end
    if at < len(text):
        pieces.append(Piece(text[at:], marked=False))
    return tuple(pieces)


def found_in(folded: Folded, keyword: str) -> Iterator[tuple[int, int]]:
    """Where a keyword stands in a folded text, as spans of the text that it was."""
    wanted = fold_keyword(keyword)
    if not wanted:
        return
    at = folded.text.find(wanted)
    while at >= 0:
        if on_boundaries(folded.text, at, at + len(wanted)):
            yield folded.span(at, at + len(wanted))
        at = folded.text.find(wanted, at + 1)


def mapping(value: object) -> Mapping[str, Any]:
    """`value`, if it is an object; a vendor's answers may hold anything anywhere."""
    return value if isinstance(value, dict) else {}


def mappings(value: object) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list | tuple) else []


def texts(value: object) -> tuple[str, ...]:
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list | tuple) else ()


def text(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def number(value: object) -> int | None:
    return round(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
