"""Proves requests to the HTTP side by a ticket or the screen's cookie, before any route sees them."""

from __future__ import annotations

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway.credentials import PROVEN_APP, AccessDenied
from gateway.doors.answers import SCREEN_HEADER, refused
from gateway.ports import Unavailable
from gateway.screen_sessions import ScreenSession, ScreenSessions
from gateway.tickets import Ticket, Tickets

log = structlog.get_logger(__name__)

COOKIE = "earshot_session"
_OURS = "/v1/"
_SAFE = ("GET", "HEAD")
_FROM_OUR_PAGE = ("same-origin", "none")
_OTHER_CREDENTIALS = ("Authorization", "X-App-Key", "X-App-Signature")


def proving(tickets: Tickets, sessions: ScreenSessions) -> Middleware:
    """A middleware that notes which app a request's ticket or cookie proves.

    One that proves nothing is answered by the route, as any request without credentials. Signed headers and Basic are
    left to the routes, and win.
    """

    @web.middleware
    async def prove(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            app_id = await _proven(request, tickets, sessions)
        except AccessDenied as denied:
            log.info("access_denied", path=request.path, reason=str(denied))
        except Unavailable as fault:
            log.warning("ticket_not_taken", path=request.path, fault=str(fault))
            raise refused(web.HTTPServiceUnavailable, "unavailable", "tickets cannot be taken for now") from fault
        else:
            if app_id:
                request[PROVEN_APP] = app_id
        return await handler(request)

    return prove


async def _proven(request: web.Request, tickets: Tickets, sessions: ScreenSessions) -> str:
    if any(name in request.headers for name in _OTHER_CREDENTIALS) or "signa" in request.query:
        return ""
    ticket = request.query.get("ticket")
    if ticket is not None and request.path.startswith(_OURS):
        return (await tickets.take(ticket, lambda one: _admits(one, request))).app_id
    if COOKIE in request.cookies:
        return (await session_of(request, sessions)).app_id
    return ""


async def session_of(request: web.Request, sessions: ScreenSessions) -> ScreenSession:
    """The session whose cookie a request bears, if the request is one of the screen's own. Raises AccessDenied."""
    cookie = request.cookies.get(COOKIE, "")
    if not cookie:
        raise AccessDenied("there is no session's cookie")
    # Some of the vendors' GETs delete, so there the header is always asked for.
    harmless = request.method in _SAFE and request.path.startswith(_OURS)
    if not harmless and SCREEN_HEADER not in request.headers:
        raise AccessDenied(f"{request.method} with the session's cookie lacks {SCREEN_HEADER}")
    # Browsers that say where a request comes from also tell sites apart that cookies take for one: other ports of ours.
    if request.headers.get("Sec-Fetch-Site", "none") not in _FROM_OUR_PAGE:
        raise AccessDenied("another site's page sent the session's cookie")
    return await sessions.of_cookie(cookie)


def _admits(ticket: Ticket, request: web.Request) -> bool:
    """A screen's ticket admits to all of the app, one for watching to reading what it lets watch."""
    if ticket.purpose == "screen":
        return True
    if ticket.purpose != "watch" or request.method not in _SAFE or ticket.agent:
        return False
    calls = "/v1/calls"
    if not ticket.call_id:
        return request.path == calls or request.path.startswith(calls + "/")
    return request.path in (f"{calls}/{ticket.call_id}", *(f"{calls}/{ticket.call_id}/{one}" for one in _OF_A_CALL))


_OF_A_CALL = ("levels", "recording", "report")
