"""Who is signed in at the screen: a cookie that proves its app for some hours, until it is ended."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable

import structlog
from msgspec import Struct

from gateway.credentials import AccessDenied, AppDirectory
from gateway.ports import Unavailable
from gateway.ports.spent import SpentMarks
from gateway.seal import NotSealed, Seal

log = structlog.get_logger(__name__)

LIFETIME_S = 12 * 3600
TRUSTED_FOR_S = 5.0
"""So long a session counts as not ended after it was asked about: a page asks for many things at once."""
MAX_REMEMBERED = 4096


class ScreenSession(Struct, frozen=True, kw_only=True):
    """A signed-in browser."""

    app_id: str
    mark: str
    expires_at_ms: int
    """Wall clock, ms since the Unix epoch."""


class ScreenSessions:
    """Begins sessions, knows them again by their cookies, and ends them, for all processes that share what is spent.

    While what is spent cannot be looked up, a session counts as not ended: nobody is thrown out by an outage.
    """

    def __init__(self, key: bytes, apps: AppDirectory, spent: SpentMarks, now: Callable[[], float]) -> None:
        """`key` is for nothing but these; `now` is wall time in s."""
        self._seal = Seal(key)
        self._apps = apps
        self._spent = spent
        self._now = now
        self._asked_at_s: OrderedDict[str, float] = OrderedDict()
        """By mark, when a session was last known not to have been ended."""

    def begin(self, app_id: str) -> tuple[str, ScreenSession]:
        """A new session, as the cookie's value and as what it says."""
        session = ScreenSession(
            app_id=app_id,
            mark=secrets.token_urlsafe(12),
            expires_at_ms=round((self._now() + LIFETIME_S) * 1000),
        )
        return self._seal.seal(session), session

    async def of_cookie(self, value: str) -> ScreenSession:
        """The session of a cookie. Raises AccessDenied: not ours, expired, ended, or its app is gone."""
        try:
            session = self._seal.open(value, ScreenSession)
        except NotSealed:
            raise AccessDenied("the session's cookie is not ours") from None
        if session.expires_at_ms <= self._now() * 1000:
            raise AccessDenied("the session has expired")
        if not self._apps.secrets(session.app_id):
            raise AccessDenied("the session is of an app that is gone")
        if await self._has_ended(session):
            raise AccessDenied("the session was ended")
        return session

    async def end(self, session: ScreenSession) -> None:
        """From here on its cookie opens nothing; other processes may take `TRUSTED_FOR_S` to know.

        Raises Unavailable.
        """
        await self._spent.spend(session.mark, session.expires_at_ms)
        self._asked_at_s.pop(session.mark, None)  # now: a request of the same page may have asked meanwhile

    async def _has_ended(self, session: ScreenSession) -> bool:
        now_s = self._now()
        if abs(now_s - self._asked_at_s.get(session.mark, float("-inf"))) < TRUSTED_FOR_S:
            return False
        try:
            if await self._spent.is_spent(session.mark):
                return True
        except Unavailable as fault:
            log.warning("session_not_looked_up", fault=str(fault))
            return False
        self._asked_at_s[session.mark] = now_s
        self._asked_at_s.move_to_end(session.mark)
        if len(self._asked_at_s) > MAX_REMEMBERED:
            self._asked_at_s.popitem(last=False)
        return False
