"""How many requests of an app are under way, and how fast they come, over all nodes."""

from __future__ import annotations

from typing import Literal, Protocol

RequestRefusal = Literal["", "at_once", "per_s"]
"""Which limit has been reached; nothing where the request may be carried out."""


class SharedRequests(Protocol):
    """Counts what apps ask of all nodes together. Both methods may raise Unavailable: then a node knows its own."""

    async def enter(self, app_id: str, request_id: str) -> RequestRefusal:
        """Count a request, if it may be carried out."""

    async def leave(self, app_id: str, request_id: str) -> None:
        """The request has been answered. One whose node dies counts for a while."""
