"""What reaches us from elsewhere: other servers' files, and time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class FetchedFile:
    data: bytes
    name: str
    """The last part of the address's path: a hint at the format."""
    content_type: str


NO_HEADERS: Mapping[str, str] = {}


class Fetcher(Protocol):
    async def fetch(self, url: str, *, max_bytes: int) -> FetchedFile:
        """What an http(s) address holds, if it is one that this server may call.

        Raises Rejected (the address is not allowed, answers an error, or holds too much) or Unavailable.
        """

    async def post_json(self, url: str, body: bytes, headers: Mapping[str, str] = NO_HEADERS) -> None:
        """Hand a JSON document to such an address, with more `headers`; returns once it has answered with success.

        Raises Rejected (the address is not allowed, or refuses for good) or Unavailable.
        """


class Clock(Protocol):
    """Time as the shell sees it; the core of a call sees samples only."""

    def monotonic(self) -> float: ...

    def wall(self) -> float: ...
