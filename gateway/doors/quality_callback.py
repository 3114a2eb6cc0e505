"""Where a vendor's voice QC delivers its verdicts by itself, if it is given an address for them."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec
import structlog
from aiohttp import web

from gateway.ports import QualityAnswer

PATH = "/v1/qc/callback/"
MAX_BODY_BYTES = 64 * 1024 * 1024
"""The verdict on six hours of speech, with details, has a few MB."""

_log = structlog.get_logger(__name__)

Deliver = Callable[[str, str, QualityAnswer], Awaitable[Literal["applied", "ignored", "unknown"]]]
"""(app_id, session_id, answer); what became of it."""


class CallbackAddresses:
    """One secret address for each task. Whoever holds it may deliver that task's verdict, and do nothing else.

    The token in it is base64url of app and session with an HMAC-SHA256 over both, so nothing has to be remembered.
    """

    def __init__(self, key: bytes, public_url: str) -> None:
        """`key` is secret and the same on every node; `public_url` is where the vendor reaches our HTTP side."""
        self._key = key
        self._base = public_url.rstrip("/") + PATH

    def url(self, app_id: str, session_id: str) -> str:
        return self._base + _text(msgspec.json.encode((app_id, session_id))) + "." + self._signature(app_id, session_id)

    def owner(self, token: str) -> tuple[str, str] | None:
        """The app and session that a token of ours belongs to; None for any other text."""
        claims, _, signature = token.partition(".")
        try:
            app_id, session_id = msgspec.json.decode(
                base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)), type=tuple[str, str]
            )
        except (ValueError, msgspec.DecodeError):
            return None
        expected = self._signature(app_id, session_id)
        genuine = hmac.compare_digest(expected.encode(), signature.encode(errors="replace"))
        return (app_id, session_id) if genuine else None

    def _signature(self, app_id: str, session_id: str) -> str:
        message = msgspec.json.encode((app_id, session_id))
        return _text(hmac.new(self._key, message, hashlib.sha256).digest())


class QualityCallbacks:
    """The route. A wrong token is answered like a path that does not exist; a repeated delivery changes nothing."""

    def __init__(self, addresses: CallbackAddresses, deliver: Deliver) -> None:
        self._addresses = addresses
        self._deliver = deliver

    def routes(self) -> list[web.RouteDef]:
        return [web.post(PATH + "{token}", self._take)]

    async def _take(self, request: web.Request) -> web.Response:
        owner = self._addresses.owner(request.match_info["token"])
        if owner is None:
            raise web.HTTPNotFound
        app_id, session_id = owner
        try:
            answer = answer_in(await _body(request), session_id)
        except ValueError as fault:
            _log.warning("quality_callback_unreadable", app_id=app_id, session_id=session_id, fault=str(fault))
            return _json({"error_code": 1, "error_message": f"not a verdict on this task: {fault}"}, status=400)
        became = await self._deliver(app_id, session_id, answer)
        if became == "unknown":
            raise web.HTTPNotFound
        _log.info("quality_callback", app_id=app_id, session_id=session_id, state=answer.state, became=became)
        return _json({"error_code": 0, "error_message": "请求成功"})


def answer_in(body: bytes, session_id: str) -> QualityAnswer:
    """The answer in a callback's body: the `result` object, bare or as the answer to a query wraps it.

    The vendor's document does not give the body's form. Raises ValueError for any other body or session.
    """
    try:
        whole = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as fault:
        raise ValueError("the body is no JSON") from fault
    result = whole.get("result", whole) if isinstance(whole, dict) else None
    answer = QualityAnswer.of(result)
    if answer.result.get("session_id", session_id) != session_id:
        raise ValueError("it names another session")
    return answer


async def _body(request: web.Request) -> bytes:
    data = bytearray()
    async for chunk in request.content.iter_any():
        data += chunk
        if len(data) > MAX_BODY_BYTES:
            raise web.HTTPRequestEntityTooLarge(max_size=MAX_BODY_BYTES, actual_size=len(data))
    return bytes(data)


def _json(content: dict[str, Any], *, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(content), status=status, content_type="application/json")


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
