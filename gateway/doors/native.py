"""The native socket, `/v1/calls` with subprotocol `earshot.v1`: one connection carries one call at a time."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from math import ceil
from typing import Any, cast

import msgspec
import structlog
from websockets.asyncio.server import Server, ServerConnection, serve, unix_serve
from websockets.datastructures import Headers, MultipleValuesError
from websockets.exceptions import ConnectionClosed, NegotiationError
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol
from yarl import URL

from gateway.credentials import DENIED, AccessDenied, Credentials
from gateway.doors.complaints import error_message
from gateway.doors.connection import NativeConnection, keep_alive
from gateway.doors.conversation import Conversation
from gateway.doors.limits import DoorLimits
from gateway.doors.outgoing import Outgoing
from gateway.doors.relay import PassableConnection, PassedOn, Relaying, Siblings, passed_app
from gateway.doors.strangers import Strangers
from gateway.doors.sweep import Sweep
from gateway.doors.watching import WatchDoor
from gateway.origins import Origins
from gateway.ports import Unavailable
from gateway.session.calls import Calls
from gateway.session.session import CallSession
from gateway.telemetry import Metrics
from gateway.tickets import Tickets
from protocol import messages, watching
from protocol.codec import MAX_MESSAGE_BYTES, SUBPROTOCOL, decode_client, encode
from protocol.errors import ProtocolError

log = structlog.get_logger(__name__)

PATH = "/v1/calls"
FLOOD_GRACE_S = 1.0
"""How long a peer that floods may take to read why it is cut off."""
RECOVERING_RETRY_MS = 500
SHUTTING_DOWN_RETRY_MS = 1000


class NativeDoor:
    """Serves the native socket. A bad message costs its own call or its own socket, never another's."""

    def __init__(
        self,
        calls: Calls,
        credentials: Credentials,
        limits: DoorLimits,
        metrics: Metrics,
        *,
        tickets: Tickets | None = None,
        origins: Origins | None = None,
        siblings: Siblings | None = None,
        watching: WatchDoor | None = None,
    ) -> None:
        """Without `tickets` none is taken; without `origins` only pages from the socket's own address are welcome.
        `siblings` are processes that share the port, and whose calls clients may ask for here."""
        self._siblings = siblings
        self._sweep = Sweep()
        self._tickets = tickets
        self._origins = origins or Origins()
        self._watching = watching
        self._calls = calls
        self._credentials = credentials
        self._limits = limits
        self._metrics = metrics
        self._draining = False
        self._unspoken: set[asyncio.Timeout] = set()
        """Of each socket that has not said yet what it wants, how long it may still take."""

    def drain(self) -> None:
        """Take no more calls: whoever knocks is sent elsewhere, or back here once a successor listens."""
        self._draining = True
        for patience in self._unspoken:
            patience.reschedule(asyncio.get_running_loop().time())

    async def serve(self, host: str, port: int, tls: ssl.SSLContext | None) -> Server:
        """Listen, with siblings on the port that they share; the server returned is to be closed by the caller.

        Raises OSError.
        """
        shared: dict[str, Any] = {"reuse_port": True} if self._siblings is not None else {}
        return await serve(self._handle, host, port, ssl=tls, process_request=self._admit, **shared, **self._options())

    async def serve_siblings(self, siblings: Siblings) -> Server:
        """Take connections that siblings pass on. Raises OSError."""
        admit, path = partial(self._admit_passed_on, siblings.relaying), siblings.relaying.path
        return await unix_serve(self._handle, path, process_request=admit, **self._options())

    def _options(self) -> dict[str, Any]:
        kind = NativeConnection if self._siblings is None else PassableConnection
        return {
            "subprotocols": [Subprotocol(SUBPROTOCOL), Subprotocol(watching.SUBPROTOCOL)],
            "select_subprotocol": _select_subprotocol,
            "compression": None,  # deflate costs more than twice the CPU for 4 % of PCM (BENCHMARKS.md)
            "max_size": MAX_MESSAGE_BYTES,
            "max_queue": 32,
            "open_timeout": self._limits.handshake_timeout_s,
            "ping_interval": None,  # our own keep-alive knows when no answer can be heard
            "server_header": None,
            "create_connection": cast(
                "type[ServerConnection]",
                partial(kind, limits=self._limits, strangers=Strangers(self._limits.max_strangers)),
            ),
        }

    # --- the upgrade ---

    async def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        try:
            return await self._check(connection, request, URL(request.path))
        except MultipleValuesError as fault:
            return self._refuse(HTTPStatus.BAD_REQUEST, "bad_request", f"the header {fault} may come only once")
        except ValueError as fault:
            return self._refuse(HTTPStatus.BAD_REQUEST, "bad_request", f"not a URL: {fault}")

    async def _check(self, connection: ServerConnection, request: Request, url: URL) -> Response | None:
        if url.path != PATH and (url.path != watching.PATH or self._watching is None):
            return self._refuse(HTTPStatus.NOT_FOUND, "not_found", f"the sockets are at {PATH} and {watching.PATH}")
        if self._draining:
            return self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "shutting_down", "the server is going away")
        if not self._origins.admit(request.headers.get("Origin"), request.headers.get("Host", "")):
            return self._refuse(HTTPStatus.FORBIDDEN, "foreign_origin", "pages of this origin may not open sockets")
        offered = request.headers.get_all("Sec-WebSocket-Protocol")
        expected = _subprotocol_of(request)
        if offered and expected not in {one.strip() for value in offered for one in value.split(",")}:
            return self._refuse(HTTPStatus.BAD_REQUEST, "bad_subprotocol", f"expected subprotocol {expected}")
        try:
            return await self._let_in(connection, request, url)
        except AccessDenied as denied:
            log.info("access_denied", reason=str(denied))
            return self._refuse(HTTPStatus.UNAUTHORIZED, "access_denied", DENIED)
        except Unavailable as fault:
            log.warning("ticket_not_taken", fault=str(fault))
            return self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "overloaded", "tickets cannot be taken for now")

    async def _let_in(self, connection: ServerConnection, request: Request, url: URL) -> Response | None:
        """None for whoever may come in. Raises AccessDenied and Unavailable."""
        assert isinstance(connection, NativeConnection)
        text, tickets = url.query.get("ticket"), self._tickets
        watches = url.path == watching.PATH
        if text is not None and tickets is not None:
            purposes = ("watch", "screen") if watches else ("call", "screen")
            connection.ticket = tickets.read(text, lambda ticket: ticket.purpose in purposes)
            connection.username = connection.ticket.app_id
        else:
            connection.username = self._credentials.from_headers(request.headers, url.query)
        if watches:
            if self._watching is not None and self._watching.full:
                return self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "overloaded", "there are too many watchers")
        else:
            busy = self._calls.refusal_at_the_door(connection.username)
            if busy is not None:
                return self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, busy.code, busy.message)
        if connection.ticket is not None and tickets is not None:
            await tickets.spend(connection.ticket)  # last, so that whoever is sent away may come back with it
        return None

    def _admit_passed_on(self, relaying: Relaying, connection: ServerConnection, request: Request) -> Response | None:
        assert isinstance(connection, PassableConnection)
        app_id = passed_app(request.headers, relaying)
        if app_id is None:
            return self._refuse(
                HTTPStatus.UNAUTHORIZED, "access_denied", "this socket is for the server's own processes"
            )
        if self._draining:
            return self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "shutting_down", "the server is going away")
        connection.username, connection.relayed = app_id, True
        return None

    def _refuse(self, status: HTTPStatus, code: str, message: str) -> Response:
        self._metrics.refused.labels(code).inc()
        body = msgspec.json.encode({"code": code, "message": message})
        headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(body))})
        if status is HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = 'Basic realm="earshot"'
        if status is HTTPStatus.SERVICE_UNAVAILABLE:
            # A successor is there in a moment; a load takes longer to pass.
            retry_ms = SHUTTING_DOWN_RETRY_MS if code == "shutting_down" else self._limits.overloaded_retry_ms
            headers["Retry-After"] = str(ceil(retry_ms / 1000))
        return Response(status.value, status.phrase, headers, body)

    # --- one socket ---

    async def _handle(self, connection: ServerConnection) -> None:
        assert isinstance(connection, NativeConnection)
        if isinstance(connection, PassableConnection) and connection.subprotocol != SUBPROTOCOL:
            connection.stays()  # it watches: that it may do anywhere
        if self._watching is not None and connection.subprotocol == watching.SUBPROTOCOL:
            await self._watching.serve(connection)
            return
        outgoing = Outgoing(connection, self._limits, self._last_words)
        connection.on_flood = partial(self._cut_off_flood, outgoing)
        conversation: Conversation | None = None
        alive = asyncio.create_task(
            keep_alive(connection, self._limits, lambda: conversation is not None and conversation.held)
        )
        try:
            session = await self._first_message(connection, connection.username, outgoing, alive)
            if isinstance(connection, PassableConnection):
                connection.stays()
            try:
                conversation = Conversation(connection, session, outgoing, self._limits, self._sweep)
                await conversation.run()
            finally:
                session.detach(outgoing)
        except ProtocolError as fault:
            outgoing.send(self._last_words(fault))
            outgoing.close(fault.entry.close or 1008, fault.code)
        except PassedOn:
            pass  # and gone by now
        except OSError as fault:
            # The journal took no message: its memory is full, and what was to be said cannot be kept.
            log.warning("call_not_kept", fault=str(fault))
            unstored = ProtocolError("overloaded", "the call cannot be stored right now")
            outgoing.send(self._last_words(unstored))
            outgoing.close(unstored.entry.close or 1013, unstored.code)
        except ConnectionClosed:
            pass  # the session, if there is one, has been told by `detach`
        finally:
            await outgoing.finished()
            alive.cancel()
            await asyncio.gather(alive, return_exceptions=True)

    def _cut_off_flood(self, outgoing: Outgoing) -> None:
        most = self._limits.max_messages_per_s
        what = "control messages, pings and frames with less than 10 ms of audio"
        outgoing.cut_off(ProtocolError("too_fast", f"over {most:g} a second of {what}"), FLOOD_GRACE_S)

    def _last_words(self, fault: ProtocolError) -> bytes:
        """The error that goes before the close, and is counted."""
        self._metrics.refused.labels(fault.code).inc()
        retry_ms = self._limits.overloaded_retry_ms if fault.entry.retryable else 0
        if fault.code == "recovering":
            retry_ms = RECOVERING_RETRY_MS  # it has waited for its call already
        return encode(error_message(fault, retry_after_ms=retry_ms))

    async def _first_message(
        self, connection: NativeConnection, app_id: str, outgoing: Outgoing, alive: asyncio.Task[None]
    ) -> CallSession:
        only = "" if connection.ticket is None else connection.ticket.call_id
        patience = asyncio.timeout(self._limits.first_message_timeout_s)
        try:
            async with patience:
                self._unspoken.add(patience)
                payload = await connection.recv()
        except TimeoutError:
            if self._draining:
                raise _leaving() from None
            seconds = self._limits.first_message_timeout_s
            raise ProtocolError("timeout", f"no first message within {seconds:g} s; expected start or resume") from None
        finally:
            self._unspoken.discard(patience)
        message = _decode_first(payload)
        if self._draining:
            raise _leaving()
        if isinstance(message, messages.Start):
            if only:
                raise ProtocolError("unexpected_message", f"this socket's ticket is for call {only}; expected resume")
            session = await self._calls.open(app_id, message)
            session.attach(outgoing, last_seq=0)
            return session
        if only not in ("", message.call_id):
            raise ProtocolError("unknown_call", f"this socket's ticket is for call {only}")
        if isinstance(connection, PassableConnection) and not connection.relayed:
            await self._pass_on_if_elsewhere(connection, message.call_id, alive)
        session = await self._calls.resume(app_id, message)
        earlier = session.take_sink()
        if earlier is not None:
            earlier.send(encode(messages.Replaced(call_id=session.call_id)))
            earlier.close(1000, "replaced")
        resumed = messages.Resumed(
            call_id=session.call_id,
            samples=session.samples,
            next_seq=session.next_seq,
            controls=session.told,
        )
        outgoing.send(encode(resumed))
        session.attach(outgoing, message.last_seq)
        return session

    async def _pass_on_if_elsewhere(
        self, connection: PassableConnection, call_id: str, alive: asyncio.Task[None]
    ) -> None:
        """Raises PassedOn when a sibling had the connection, ProtocolError (`recovering`) when it did not take it."""
        assert self._siblings is not None
        if await self._calls.has(call_id):
            return
        name = await self._siblings.locate(call_id)
        if name is not None:
            alive.cancel()  # the sibling pings
            log.info("connection_passed_on", call_id=call_id)
            await connection.pass_on(name, connection.username, self._siblings.relaying.secret)
            raise PassedOn


def _subprotocol_of(request: Request) -> str:
    """What an upgrade has to offer: what is spoken depends on the path."""
    return watching.SUBPROTOCOL if request.path.partition("?")[0] == watching.PATH else SUBPROTOCOL


def _select_subprotocol(connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol:
    assert connection.request is not None
    expected = Subprotocol(_subprotocol_of(connection.request))
    if expected not in offered:
        raise NegotiationError(f"expected subprotocol {expected}")
    return expected


def _leaving() -> ProtocolError:
    return ProtocolError("shutting_down", "the server is going away")


def _decode_first(payload: str | bytes) -> messages.Start | messages.Resume:
    if isinstance(payload, bytes):
        raise ProtocolError("start_expected", "the first message was binary; expected a text frame with start")
    message = decode_client(payload)
    if not isinstance(message, messages.Start | messages.Resume):
        kind = message.__struct_config__.tag
        raise ProtocolError("start_expected", f"the first message was {kind}; expected start or resume")
    return message
