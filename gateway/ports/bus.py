"""How the processes that hold calls hear of one another: workers of one server, nodes of a cluster, or nobody.

Nothing here is a promise: what is published may be lost, and a question may stay unanswered. Whoever needs a whole
sequence looks at the calls' own numbers (`seq`) and asks again for what is missing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

Hear = Callable[[bytes], None]
"""Takes one published payload; runs on the event loop and must not block."""
Answer = Callable[[bytes], Awaitable[bytes | None]]
"""Answers a question, or says by None that somebody else must know."""


class Subscription(Protocol):
    """One listener of one topic."""

    async def close(self) -> None:
        """Hear nothing more. Again does nothing."""


class Bus(Protocol):
    """Publishing to whoever listens, and asking whoever knows, among the processes that share this bus."""

    @property
    def alone(self) -> bool:
        """Whether there can be no other process: then nothing need be published, and nobody asked."""

    def publish(self, topic: str, payload: bytes) -> None:
        """Tell every other process that listens to `topic`; not this one. Never waits; when too much waits to be told
        the payload is dropped, and counted."""

    async def subscribe(self, topic: str, hear: Hear) -> Subscription:
        """Hear what others publish from when this returns. Raises Unavailable."""

    def answers(self, question: str, answer: Answer) -> None:
        """From now on answer questions of this name that other processes ask. One answerer a name."""

    async def ask(self, question: str, payload: bytes, *, timeout_s: float) -> bytes | None:
        """The first answer of another process; None when nobody knew within `timeout_s`, or there is nobody.

        Raises Unavailable when it could not be asked.
        """

    async def ask_all(self, question: str, payload: bytes, *, timeout_s: float) -> Sequence[bytes]:
        """Every answer that comes within `timeout_s`, at once when all others have answered. Raises Unavailable."""
