"""What each app has used of the two services, by day, and what it may use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
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


def day_of(wall_s: float) -> str:
    """The day that usage at this moment counts for: UTC, `YYYY-MM-DD`."""
    return datetime.fromtimestamp(wall_s, UTC).date().isoformat()


def next_day_at(wall_s: float) -> datetime:
    """When the day of this moment is over and quotas begin anew: the next midnight, UTC."""
    now = datetime.fromtimestamp(wall_s, UTC)
    return now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Quotas:
    """What apps may use on one day, in the products' own units; 0 and what is not named is without a limit."""

    by_app: Mapping[tuple[str, Product], int] = field(default_factory=dict)
    """By app id and product; the app id "" stands for every app that is not named."""

    def of(self, app_id: str, product: Product) -> int | None:
        """The app's limit, None for none."""
        limit = self.by_app.get((app_id, product), self.by_app.get(("", product), 0))
        return limit or None

    def refusal(self, app_id: str, product: Product, used: int, wall_s: float) -> str:
        """Why an app that has used so much today may have no more; empty while it may."""
        limit = self.of(app_id, product)
        if limit is None or used < limit:
            return ""
        if product == "quality_ms":
            amounts = f"{used / 1000:.1f} s of speech judged, {limit / 1000:g} s allowed"
        else:
            amounts = f"{used} voiceprint requests carried out, {limit} allowed"
        return f"the day's quota of app {app_id} is used up ({amounts}); it begins anew at {stamp(next_day_at(wall_s))}"


def stamp(moment: datetime) -> str:
    """A moment in UTC as answers write it: `2026-01-31T00:00:00Z`."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
