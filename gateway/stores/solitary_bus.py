"""The bus of a process that is alone: nobody listens, nobody answers."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.ports.bus import Answer, Hear


class SolitaryBus:
    """A Bus without other processes."""

    alone = True

    def publish(self, topic: str, payload: bytes) -> None:
        """There is nobody to tell."""

    async def subscribe(self, topic: str, hear: Hear) -> _Nothing:
        return _Nothing()

    def answers(self, question: str, answer: Answer) -> None:
        """There is nobody who would ask."""

    async def ask(self, question: str, payload: bytes, *, timeout_s: float) -> bytes | None:
        return None

    async def ask_all(self, question: str, payload: bytes, *, timeout_s: float) -> Sequence[bytes]:
        return []


class _Nothing:
    async def close(self) -> None:
        """Nothing was heard before either."""
