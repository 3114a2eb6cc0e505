"""The routes by which browsers get in: `/v1/tickets` and `/v1/session`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from math import ceil
from typing import Annotated, TypeVar

import msgspec
import structlog
from aiohttp import web
from msgspec import Meta, Struct

from gateway.credentials import AccessDenied, Credentials
from gateway.doors.answers import access_denied, json_answer, refused
from gateway.doors.proving import COOKIE, session_of
from gateway.ports import Unavailable
from gateway.screen_sessions import LIFETIME_S, ScreenSession, ScreenSessions
from gateway.telemetry import Metrics
from gateway.tickets import DEFAULT_TTL_S, MAX_TTL_S, Purpose, Tickets
from gateway.token_bucket import TokenBucket
from protocol.messages import CallId, ShortText

log = structlog.get_logger(__name__)

T = TypeVar("T", bound=Struct)
_NO_STORE = {"Cache-Control": "no-store"}
WRONG_AT_ONCE = 10
WRONG_EVERY_S = 6.0
"""Whoever has the secret wrong so often may try again once in so many seconds ..."""
MAX_GUESSERS = 4096
"""... and so many of them are told apart; of more, those who tried least lately are forgotten."""


class _TicketWanted(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    purpose: Purpose
    call_id: CallId | None = None
    agent: Annotated[ShortText, Meta(min_length=1)] | None = None
    ttl_s: Annotated[float, Meta(ge=1, le=MAX_TTL_S)] = DEFAULT_TTL_S


class _SignIn(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    app_id: ShortText = ""
    secret: ShortText = ""
    ticket: Annotated[str, Meta(max_length=2048)] = ""


class ScreenAccess:
    """Signs browsers in and out, and gives out tickets."""

    def __init__(
        self,
        credentials: Credentials,
        tickets: Tickets,
        sessions: ScreenSessions,
        metrics: Metrics,
        caller: Callable[[web.Request], str],
        sockets: Callable[[web.Request], str],
        *,
        public_url: str,
        now: Callable[[], float],
    ) -> None:
        """`caller` tells a request's app, `sockets` the base of the WebSocket URLs for whoever sent it; `now` is any
        clock, in seconds."""
        self._credentials = credentials
        self._tickets = tickets
        self._sessions = sessions
        self._metrics = metrics
        self._caller = caller
        self._sockets = sockets
        self._public_url = public_url
        self._guessers = Guessers(now)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/tickets", self._issue),
            web.post("/v1/session", self._begin),
            web.get("/v1/session", self._tell),
            web.delete("/v1/session", self._end),
        ]

    async def _issue(self, request: web.Request) -> web.Response:
        app_id = self._caller(request)
        wanted = await _body(request, _TicketWanted)
        if wanted.agent and wanted.purpose != "watch":
            raise refused(web.HTTPBadRequest, "bad_parameter", "agent restricts a ticket to watch, and no other")
        if wanted.call_id and (wanted.agent or wanted.purpose == "screen"):
            raise refused(web.HTTPBadRequest, "bad_parameter", "call_id restricts a ticket to watch or to call, alone")
        text, ticket = self._tickets.issue(
            app_id, wanted.purpose, call_id=wanted.call_id or "", agent=wanted.agent or "", ttl_s=wanted.ttl_s
        )
        answer = json_answer({"ticket": text, "expires_at_ms": ticket.expires_at_ms}, status=201)
        answer.headers.update(_NO_STORE)
        return answer

    # --- sessions ---

    async def _begin(self, request: web.Request) -> web.Response:
        cookie, session = self._sessions.begin(await self._signing_in(request))
        answer = self._told(request, session)
        answer.set_cookie(
            COOKIE,
            cookie,
            max_age=LIFETIME_S,
            path="/",
            httponly=True,
            samesite="Strict",
            secure=request.secure or self._is_public(request),
        )
        log.info("screen_signed_in", app_id=session.app_id)
        return answer

    async def _signing_in(self, request: web.Request) -> str:
        """The app that somebody has proved to be of. Raises the answer that others get."""
        # A form of another site cannot send JSON, and so not sign anybody in as somebody else.
        if request.content_type != "application/json":
            raise refused(web.HTTPUnsupportedMediaType, "bad_parameter", "expected a JSON body (application/json)")
        given = await _body(request, _SignIn)
        who = (request.remote or "", given.app_id)
        retry_s = self._guessers.must_wait_s(who)
        if retry_s:
            refusal = refused(web.HTTPTooManyRequests, "too_many_attempts", "too many wrong attempts; try again later")
            refusal.headers["Retry-After"] = str(ceil(retry_s))
            raise refusal
        try:
            if given.ticket:
                app_id = (await self._tickets.take(given.ticket, lambda ticket: ticket.purpose == "screen")).app_id
            else:
                app_id = self._credentials.check_secret(given.app_id, given.secret)
        except AccessDenied as denied:
            log.info("access_denied", path=request.path, reason=str(denied))
            self._guessers.was_wrong(who)
            self._metrics.refused.labels("access_denied").inc()
            raise access_denied(request) from None
        except Unavailable as fault:
            log.warning("ticket_not_taken", fault=str(fault))
            raise refused(web.HTTPServiceUnavailable, "unavailable", "tickets cannot be taken for now") from fault
        self._guessers.was_right(who)
        return app_id

    async def _tell(self, request: web.Request) -> web.Response:
        return self._told(request, await self._session(request))

    async def _end(self, request: web.Request) -> web.Response:
        session = await self._session(request)
        try:
            await self._sessions.end(session)
        except Unavailable as fault:
            log.warning("session_not_ended", fault=str(fault))
            raise refused(web.HTTPServiceUnavailable, "unavailable", "the session cannot be ended for now") from fault
        answer = web.Response(status=204, headers=_NO_STORE)
        answer.del_cookie(COOKIE, path="/", httponly=True, samesite="Strict")
        return answer

    async def _session(self, request: web.Request) -> ScreenSession:
        try:
            return await session_of(request, self._sessions)
        except AccessDenied as denied:
            log.debug("no_session", reason=str(denied))
            raise access_denied(request) from None

    def _told(self, request: web.Request, session: ScreenSession) -> web.Response:
        sockets = self._sockets(request)
        answer = json_answer(
            {
                "app_id": session.app_id,
                "expires_at_ms": session.expires_at_ms,
                "watch_url": f"{sockets}/v1/watch",
                "call_url": f"{sockets}/v1/calls",
            }
        )
        answer.headers.update(_NO_STORE)
        return answer

    def _is_public(self, request: web.Request) -> bool:
        """Whether the request came by `public_url`, through a proxy that speaks TLS for us."""
        return self._public_url.startswith("https://") and request.host == self._public_url.split("/")[2]


class Guessers:
    """How often who had it wrong. Who is an address and the app that was named: others of either are not kept out."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._wrong: OrderedDict[tuple[str, str], TokenBucket] = OrderedDict()

    def must_wait_s(self, who: tuple[str, str]) -> float:
        """How long they must wait, whatever they bring now; 0: not at all."""
        bucket = self._wrong.get(who)
        return 0.0 if bucket is None or bucket.has(1, self._now()) else WRONG_EVERY_S

    def was_wrong(self, who: tuple[str, str]) -> None:
        bucket = self._wrong.get(who)
        if bucket is None:
            bucket = self._wrong[who] = TokenBucket(1 / WRONG_EVERY_S, WRONG_AT_ONCE, self._now())
            if len(self._wrong) > MAX_GUESSERS:
                self._wrong.popitem(last=False)
        self._wrong.move_to_end(who)
        bucket.take(1, self._now())

    def was_right(self, who: tuple[str, str]) -> None:
        self._wrong.pop(who, None)


async def _body(request: web.Request, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(await request.read() or b"{}", type=kind)
    except msgspec.DecodeError as fault:
        raise refused(web.HTTPBadRequest, "bad_parameter", str(fault)) from fault
