"""What is known of a call beside its words: who speaks, what is missing, how much of it is past."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

SentenceId: TypeAlias = int | str

LEAST_HOLE_MS = 200
"""A shorter hole hides no word."""


@dataclass(frozen=True, slots=True)
class Said:
    """Who said a sentence, and when; times are ms on the media clock. Channel -1: nobody's, such as silence.

    `locate` tells when the characters [begin, end) were said; without it, they are placed by proportion.
    """

    channel: int = 0
    role: str = ""
    begin_ms: int = 0
    end_ms: int = 0
    locate: Callable[[int, int], tuple[int, int]] | None = None

    @property
    def span_ms(self) -> tuple[int, int]:
        """From when to when."""
        return self.begin_ms, self.end_ms

    def times_ms(self, text: str, begin: int, end: int) -> tuple[int, int]:
        """When `text[begin:end]` was said."""
        if self.locate is not None:
            return self.locate(begin, end)
        length, span_ms = max(1, len(text)), self.end_ms - self.begin_ms
        return self.begin_ms + span_ms * begin // length, self.begin_ms + span_ms * end // length


@dataclass(frozen=True, slots=True)
class Hole:
    """Audio of one channel that nobody heard."""

    channel: int
    role: str
    begin_ms: int
    end_ms: int


@dataclass(slots=True)
class Circumstances:
    """One call's, growing as it goes on."""

    labels: dict[SentenceId, tuple[str, bool]] = field(default_factory=dict)
    """Name (empty: nobody known) and whether the label is stable, of each sentence that has one."""
    holes: list[Hole] = field(default_factory=list)
    """Those long enough to hide a word; of one channel, in order and apart."""
    settled_ms: int = 0
    """All that was said before has its final text."""
    end_ms: int | None = None
    """Where the call ended; None while it goes on."""
    _short: dict[int, Hole] = field(default_factory=dict)

    def lose(self, hole: Hole) -> None:
        """Take note of a hole; those that touch are one."""
        before = self._short.get(hole.channel)
        if before is not None and before.begin_ms <= hole.begin_ms <= before.end_ms:
            begin_ms, end_ms = before.begin_ms, max(before.end_ms, hole.end_ms)
            hole = Hole(hole.channel, hole.role, begin_ms, end_ms)
            if self.holes and before in self.holes:
                self.holes.remove(before)
        self._short[hole.channel] = hole
        if hole.end_ms - hole.begin_ms >= LEAST_HOLE_MS:
            self.holes.append(hole)
