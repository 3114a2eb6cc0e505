"""What calls of a process are given: where they are kept, how long they wait, and the socket that carries one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gateway.ports import CallStore, Clock, Journal, RuleOutcomes, TaskQueue
from gateway.session.feed import Feed
from gateway.session.ownership import Ownership
from gateway.telemetry import Metrics

JOURNAL_RETRY_S = 0.5
"""How soon who waits for the journal's memory looks again: it is freed by other calls too."""


class Sink(Protocol):
    """The socket that carries a call at the moment."""

    def send(self, payload: bytes) -> None:
        """Queue a text frame; never waits. A sink whose peer is too slow closes itself."""

    def send_again(self, payloads: Sequence[bytes]) -> None:
        """Queue what the client has missed, however much that is."""

    def close(self, code: int, reason: str) -> None:
        """Send what is queued, then close."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """Where a call is kept, and how its time is told."""

    journal: Journal
    calls: CallStore
    outcomes: RuleOutcomes
    tasks: TaskQueue
    clock: Clock
    metrics: Metrics
    owners: Ownership
    """Which calls are this node's."""
    feed: Feed = field(default_factory=Feed)
    """Who watches."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a call waits for others, in seconds."""

    resume_window_s: float
    settle_timeout_s: float
