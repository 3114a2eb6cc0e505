"""How often and how thoroughly speech is put to the recogniser, by how loaded the recogniser is.

What is given up, and in which order, was measured: see BENCHMARKS.md, live text. Final texts are never given up; at the
last level they may come late.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.call.channel import AnalysisSettings

HIGHEST_LEVEL = 6


@dataclass(frozen=True, slots=True)
class Cadence:
    """What one channel asks for while a segment is open."""

    hop_ms: int | None
    """Between partials while someone speaks; None: none but at pauses."""
    window_ms: int
    """A partial looks back at most so far ..."""
    tail_ms: int | None
    """... and, where text has been agreed on, no further than the agreed word that ended this long ago."""
    at_pauses: bool
    """Whether a short silence brings a text: the final one, made ahead, wherever that is possible."""
    hurried: bool
    """Final texts with less silence appended: faster, and slightly worse."""


def cadence(settings: AnalysisSettings, level: int, *, judged: bool) -> Cadence:
    """The cadence at a load level; each level keeps what the ones below gave up. `judged`: rules look at the text.

    1: twice the hop. 2: shorter windows. 3: partials only where rules look. 4: only at pauses. 5: hurried finals.
    6: finals alone.
    """
    level = max(0, min(level, HIGHEST_LEVEL))
    short = level >= 2
    hops = level < 4 and (judged or level < 3)
    return Cadence(
        hop_ms=settings.partial_hop_ms * (2 if level >= 1 else 1) if hops else None,
        window_ms=settings.short_window_ms if short else settings.partial_window_ms,
        tail_ms=settings.short_tail_ms if short else None,
        at_pauses=level < HIGHEST_LEVEL,
        hurried=level >= 5,
    )
