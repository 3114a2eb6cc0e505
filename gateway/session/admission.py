"""Whether another call may begin: the limits on calls, and what weighs on the server so that it had better not."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from gateway.ports import Journal, too_many_calls
from gateway.session.session import CallSession
from protocol.errors import ProtocolError

KEPT_PER_CALL = 4
"""Calls in memory, for each that may go on: those wait for their verdict, or for a client that missed the end."""


@dataclass(frozen=True, slots=True)
class Limits:
    max_calls: int
    max_call_s: float
    max_calls_per_app: int = 0
    """0: as many as `max_calls` allows."""


class Places(Protocol):
    """Limits that hold over several processes, each of which takes calls."""

    async def take(self, app_id: str, call_id: str) -> None:
        """See that there is a place for this call, which counts from here on: as taken until `settle`, then for as
        long as it takes audio. Raises ProtocolError (`overloaded`, `too_many_calls`)."""

    def settle(self, call_id: str) -> None:
        """The call is in memory now, or never came to be."""


class OwnPlaces:
    """There is no other process: what `Admission` counts is all there is."""

    async def take(self, app_id: str, call_id: str) -> None:
        """There is a place."""

    def settle(self, call_id: str) -> None:
        """Nothing was noted."""


def no_place(going_on: int) -> ProtocolError:
    """The refusal of a server that is full."""
    return ProtocolError("overloaded", f"{going_on} calls are going on, as many as are accepted")


def no_place_for(app_id: str, going_on: int) -> ProtocolError:
    """The refusal of an app that has all the calls it may have."""
    return ProtocolError("too_many_calls", str(too_many_calls(app_id, going_on)))


class Admission:
    """Says no to new calls before the running ones would suffer. Calls that go on are never asked about."""

    def __init__(self, limits: Limits, journal: Journal, pressure: Callable[[], str]) -> None:
        """`pressure` says what weighs on the server beyond its limits, or nothing."""
        self._limits = limits
        self._journal = journal
        self._pressure = pressure
        self.closed = False

    def refusal(self, app_id: str, live: Collection[CallSession], kept: int) -> ProtocolError | None:
        """Why the app may not begin a call now, None if it may.

        `live`: calls that are not over yet; of those that still take audio, each counts. `kept`: calls in memory.
        """
        general = self._general_refusal(live, kept)
        most = self._limits.max_calls_per_app
        if general is not None or not most:
            return general
        going_on = sum(session.live and session.app_id == app_id for session in live)
        if going_on < most:
            return None
        return no_place_for(app_id, going_on)

    def _general_refusal(self, live: Collection[CallSession], kept: int) -> ProtocolError | None:
        if self.closed:
            return ProtocolError("shutting_down", "the server is going away")
        limits = self._limits
        going_on = sum(session.live for session in live)
        if going_on >= limits.max_calls:
            return no_place(going_on)
        if kept >= KEPT_PER_CALL * limits.max_calls:
            return ProtocolError("overloaded", f"{kept} calls wait for their verdict, as many as are kept in memory")
        if self._journal.degraded:
            return ProtocolError("overloaded", "recordings cannot be stored safely right now")
        if self._journal.crowded:
            return ProtocolError("overloaded", "the disk does not keep up with the recordings")
        pressure = self._pressure()
        return ProtocolError("overloaded", pressure) if pressure else None
