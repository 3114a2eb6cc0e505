"""What may be used once only, and was."""

from __future__ import annotations

from typing import Protocol


class SpentMarks(Protocol):
    """Remembers marks (1 to 64 characters, unguessable) until they would be worthless anyway, for every process that
    could be shown them, and over restarts."""

    async def spend(self, mark: str, until_ms: int) -> bool:
        """Whether the mark was not spent yet; from now on it is, until `until_ms` (wall clock, Unix). Of several who
        spend it together one hears True. Raises Unavailable, and then it may be spent or not."""

    async def is_spent(self, mark: str) -> bool:
        """Whether the mark was spent and is remembered. Raises Unavailable."""
