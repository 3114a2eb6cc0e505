"""Tickets: what a browser shows in place of an app's secret, once, within a minute or so."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from gateway.credentials import AccessDenied, AppDirectory
from gateway.ports.spent import SpentMarks
from gateway.seal import NotSealed, Seal

Purpose = Literal["watch", "call", "screen"]
DEFAULT_TTL_S = 60
MAX_TTL_S = 600


class Ticket(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a ticket admits to: `watch` to watching, `call` to one socket of a call, `screen` to all of its app."""

    app_id: str
    purpose: Purpose
    mark: str
    """Tells it from every other; spent with it."""
    expires_at_ms: int
    """Wall clock, ms since the Unix epoch."""
    call_id: str = ""
    """The only call it is for; empty: any of the app's."""
    agent: str = ""
    """The only agent whose calls it is for; empty: everybody."""

    @property
    def restricted(self) -> bool:
        return bool(self.call_id or self.agent)


class Tickets:
    """Issues tickets, and takes each of them once."""

    def __init__(self, key: bytes, apps: AppDirectory, spent: SpentMarks, now: Callable[[], float]) -> None:
        """`key` is for nothing but tickets, the same in every process that takes them; `now` is wall time in s."""
        self._seal = Seal(key)
        self._apps = apps
        self._spent = spent
        self._now = now

    def issue(
        self, app_id: str, purpose: Purpose, *, call_id: str = "", agent: str = "", ttl_s: float = DEFAULT_TTL_S
    ) -> tuple[str, Ticket]:
        """A new ticket, as text and as what it says."""
        return issue(self._seal, self._now(), app_id, purpose, call_id=call_id, agent=agent, ttl_s=ttl_s)

    def read(self, text: str, admits: Callable[[Ticket], bool]) -> Ticket:
        """What a ticket says that is still good, as far as it can be seen, and `admits` to what is asked for.

        Raises AccessDenied.
        """
        try:
            ticket = self._seal.open(text, Ticket)
        except NotSealed:
            raise AccessDenied("the ticket is not ours") from None
        if ticket.expires_at_ms <= self._now() * 1000:
            raise AccessDenied("the ticket has expired")
        if not self._apps.secrets(ticket.app_id):
            raise AccessDenied("the ticket is of an app that is gone")
        if not admits(ticket):
            raise AccessDenied(f"the ticket, for {ticket.purpose}, does not admit to this")
        return ticket

    async def spend(self, ticket: Ticket) -> None:
        """Use a ticket up. Raises AccessDenied when it was used before, and Unavailable."""
        if not await self._spent.spend(ticket.mark, ticket.expires_at_ms):
            raise AccessDenied("the ticket was used before")

    async def take(self, text: str, admits: Callable[[Ticket], bool]) -> Ticket:
        """`read` and `spend`: from here on it admits to nothing more."""
        ticket = self.read(text, admits)
        await self.spend(ticket)
        return ticket


def issue(
    seal: Seal,
    now_s: float,
    app_id: str,
    purpose: Purpose,
    *,
    call_id: str = "",
    agent: str = "",
    ttl_s: float = DEFAULT_TTL_S,
) -> tuple[str, Ticket]:
    """A ticket by whoever has the key, without a server."""
    ticket = Ticket(
        app_id=app_id,
        purpose=purpose,
        mark=secrets.token_urlsafe(12),
        expires_at_ms=round((now_s + ttl_s) * 1000),
        call_id=call_id,
        agent=agent,
    )
    return seal.seal(ticket), ticket
