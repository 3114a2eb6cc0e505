"""How loud a call's channels are, step by step: what a timeline is drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class LevelsAsked:
    """A stretch of a call, on the media clock."""

    step_ms: int
    """At least 1."""
    from_ms: int = 0
    to_ms: int | None = None
    """None: to the end of what there is."""


@dataclass(frozen=True, slots=True)
class CallLevels:
    """Peaks of a stretch: those of step k lie in [from_ms + k x step_ms, from_ms + (k + 1) x step_ms)."""

    step_ms: int
    """That asked for, or so many times as much that the answer keeps its bound."""
    from_ms: int
    """That asked for, moved back to a whole number of steps, so that stretches asked for one by one fit together."""
    duration_ms: int
    """How much audio of the call there is."""
    channels: tuple[list[int], ...]
    """By channel the peak of each step in dB of full scale, -90 (nothing) to 0; all of one length."""


class LevelReader(Protocol):
    """Measures the audio of calls, wherever it is kept; never on the event loop."""

    async def recorded(self, call_id: str, asked: LevelsAsked) -> CallLevels | None:
        """Of a sealed recording; None when there is none. Raises OSError."""

    async def running(self, call_id: str, asked: LevelsAsked) -> CallLevels | None:
        """Of what is safely stored of a call that is not sealed yet; None when it is not kept here. Raises OSError."""
