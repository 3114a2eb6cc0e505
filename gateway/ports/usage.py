"""What each app has used of the two services, by day, and what it may use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Product = Literal["quality_ms", "voiceprint_requests"]
"""What is counted: milliseconds of speech that voice QC has judged (silence is free; of split channels both count), and
voiceprint requests that heard a clip and were carried out."""


@dataclass(frozen=True, slots=True)
class UsageDay:
    """What an app used of one product on one day."""

    day: str
    """UTC, `YYYY-MM-DD`."""
    product: Product
    amount: int


class UsageMeter(Protocol):
    """Counts that survive a restart. Every method may raise Unavailable."""

    async def add(self, app_id: str, product: Product, amount: int) -> None:
        """Count `amount` more for today."""

    async def over_quota(self, app_id: str, product: Product) -> str:
        """Why the app may have no more of this today, as a sentence for whoever asked; empty while it may."""

    async def days(self, app_id: str, first_day: str, last_day: str) -> Sequence[UsageDay]:
        """What the app used from the first to the last day (both included), oldest first."""
