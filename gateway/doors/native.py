"""The native socket, `/v1/calls` with subprotocol `earshot.v1`: one connection carries one call at a time."""

from __future__ import annotations

import asyncio
import ssl
from http import HTTPStatus

import msgspec
import structlog
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers, MultipleValuesError
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol
from yarl import URL

from gateway.credentials import AccessDenied, Credentials
from gateway.doors.conversation import Conversation, DoorLimits, error_message
from gateway.doors.outgoing import Outgoing
from gateway.session.calls import Calls
from gateway.session.session import CallSession
from gateway.telemetry import Metrics
from protocol import messages
from protocol.codec import MAX_MESSAGE_BYTES, SUBPROTOCOL, decode_client, encode
from protocol.errors import ProtocolError

log = structlog.get_logger(__name__)

PATH = "/v1/calls"


class NativeDoor:
    """Serves the native socket. A bad message costs its own call or its own socket, never another's."""

    def __init__(self, calls: Calls, credentials: Credentials, limits: DoorLimits, metrics: Metrics) -> None:
        self._calls = calls
        self._credentials = credentials
        self._limits = limits
        self._metrics = metrics

    async def serve(self, host: str, port: int, tls: ssl.SSLContext | None) -> Server:
        """Listen; the server returned is to be closed by the caller. Raises OSError."""
        return await serve(
            self._handle,
            host,
            port,
            ssl=tls,
            process_request=self._admit,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,  # deflate costs more than twice the CPU for 4 % of PCM (BENCHMARKS.md)
            max_size=MAX_MESSAGE_BYTES,
            max_queue=32,
            open_timeout=10,
            ping_interval=20,
            ping_timeout=20,
            server_header=None,
        )

    # --- the upgrade ---

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        try:
            return self._check(connection, request, URL(request.path))
        except MultipleValuesError as fault:
            return self._refuse(HTTPStatus.BAD_REQUEST, "bad_request", f"the header {fault} may come only once")
        except ValueError as fault:
            return self._refuse(HTTPStatus.BAD_REQUEST, "bad_request", f"not a URL: {fault}")

    def _check(self, connection: ServerConnection, request: Request, url: URL) -> Response | None:
        if url.path != PATH:
            return self._refuse(HTTPStatus.NOT_FOUND, "not_found", f"the native socket is at {PATH}")
        origin = request.headers.get("Origin")
        if origin is not None and _authority(origin) != request.headers.get("Host", ""):
            return self._refuse(HTTPStatus.FORBIDDEN, "foreign_origin", "this origin may not open calls")
        offered = request.headers.get_all("Sec-WebSocket-Protocol")
        if offered and SUBPROTOCOL not in {one.strip() for value in offered for one in value.split(",")}:
            return self._refuse(HTTPStatus.BAD_REQUEST, "bad_subprotocol", f"expected subprotocol {SUBPROTOCOL}")
        try:
            connection.username = self._credentials.from_headers(request.headers, url.query)
        except AccessDenied as denied:
            log.info("access_denied", reason=str(denied))
            text = "signed headers (X-App-Key, X-Timestamp, X-App-Signature) or HTTP Basic are missing or wrong"
            return self._refuse(HTTPStatus.UNAUTHORIZED, "access_denied", text)
        return None

    def _refuse(self, status: HTTPStatus, code: str, message: str) -> Response:
        self._metrics.refused.labels(code).inc()
        body = msgspec.json.encode({"code": code, "message": message})
        headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(body))})
        if status is HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = 'Basic realm="earshot"'
        return Response(status.value, status.phrase, headers, body)

    # --- one socket ---

    async def _handle(self, connection: ServerConnection) -> None:
        app_id = connection.username
        outgoing = Outgoing(connection)
        try:
            session = await self._first_message(connection, app_id, outgoing)
            try:
                await Conversation(connection, session, outgoing, self._limits).run()
            finally:
                session.detach(outgoing)
        except ProtocolError as fault:
            self._metrics.refused.labels(fault.code).inc()
            retry_ms = self._limits.overloaded_retry_ms if fault.entry.retryable else 0
            outgoing.send(encode(error_message(fault, retry_after_ms=retry_ms)))
            outgoing.close(fault.entry.close or 1008, fault.code)
        except ConnectionClosed:
            pass  # the session, if there is one, has been told by `detach`
        finally:
            await outgoing.finished()

    async def _first_message(self, connection: ServerConnection, app_id: str, outgoing: Outgoing) -> CallSession:
        try:
            async with asyncio.timeout(self._limits.first_message_timeout_s):
                payload = await connection.recv()
        except TimeoutError:
            seconds = self._limits.first_message_timeout_s
            raise ProtocolError("timeout", f"no first message within {seconds:g} s; expected start or resume") from None
        message = _decode_first(payload)
        if isinstance(message, messages.Start):
            session = await self._calls.open(app_id, message)
            session.attach(outgoing, last_seq=0)
            return session
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


def _authority(origin: str) -> str:
    """Host and port of an Origin header; nothing for one that names none, such as `null`."""
    try:
        return URL(origin).authority
    except ValueError:
        return ""


def _decode_first(payload: str | bytes) -> messages.Start | messages.Resume:
    if isinstance(payload, bytes):
        raise ProtocolError("start_expected", "the first message was binary; expected a text frame with start")
    message = decode_client(payload)
    if not isinstance(message, messages.Start | messages.Resume):
        kind = message.__struct_config__.tag
        raise ProtocolError("start_expected", f"the first message was {kind}; expected start or resume")
    return message
