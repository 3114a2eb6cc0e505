"""Voice QC over HTTP, at the vendor's paths: every answer of the API is HTTP 200 with an `error_code`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
import structlog
from aiohttp import web

from gateway.credentials import AccessDenied, proven_app
from gateway.ports import Unavailable
from gateway.quality.fields import BUSY_RETRY_S, BodyReader
from gateway.quality.rulebook import Rulebook
from gateway.quality.service import QualityService
from gateway.quality.tokens import AccessTokens
from protocol.quality import (
    CREATE_PATH,
    ERROR_MESSAGES,
    RESULT_PATH,
    RULE_PATH,
    TOKEN_LIFETIME_S,
    TOKEN_PATH,
    ErrorCode,
    QualityFault,
    parse_rule,
    parse_rule_deletion,
    parse_rule_query,
    parse_task,
    parse_task_query,
)

Fields = Mapping[str, Any]
Operation = Callable[[str, Fields], Awaitable[dict[str, Any]]]
"""Takes the app id and the request's fields; answers what stands beside `error_code`. Raises QualityFault."""

_log = structlog.get_logger(__name__)
_SMALL_BODY_BYTES = 16 * 1024 * 1024


class QualityEndpoints:
    """The routes of the API. A token or field may stand in the query string, the JSON body or (a token) in
    `Authorization: Bearer`; the body wins over the query."""

    def __init__(
        self, service: QualityService, rulebook: Rulebook, tokens: AccessTokens, *, max_audio_bytes: int
    ) -> None:
        self._service = service
        self._rulebook = rulebook
        self._tokens = tokens
        # base64 makes 4 bytes of 3, and MIME encoders break its lines; 1 MB is room for the other fields.
        self._task_body_bytes = max_audio_bytes * 3 // 2 + 1024 * 1024
        self._bodies = BodyReader(max_held_bytes=2 * self._task_body_bytes + 2 * _SMALL_BODY_BYTES)

    def routes(self) -> list[web.RouteDef]:
        """To be added to an application; unknown methods of these paths answer error 3."""
        operations: dict[str, dict[str, Operation]] = {
            CREATE_PATH: {"POST": self._create},
            RESULT_PATH: {"GET": self._result, "POST": self._result},
            RULE_PATH: {
                "GET": self._list_rules,
                "POST": self._add_rule,
                "PUT": self._modify_rule,
                "DELETE": self._delete_rule,
            },
        }
        routes = [web.get(TOKEN_PATH, self._token, allow_head=False), web.post(TOKEN_PATH, self._token)]
        for path, by_method in operations.items():
            routes.append(web.route("*", path, self._handler(by_method)))
        return routes

    # --- operations ----------------------------------------------------------------------------------------------

    async def _create(self, app_id: str, fields: Fields) -> dict[str, Any]:
        task = parse_task(fields)
        await self._service.submit(app_id, task)
        return {"result": {"session_id": task.session_id}}

    async def _result(self, app_id: str, fields: Fields) -> dict[str, Any]:
        return {"result": await self._service.status(app_id, parse_task_query(fields).session_id)}

    async def _list_rules(self, app_id: str, fields: Fields) -> dict[str, Any]:
        total, rules = await self._rulebook.page(app_id, parse_rule_query(fields))
        return {"results": {"total": total, "rule": rules}}

    async def _add_rule(self, app_id: str, fields: Fields) -> dict[str, Any]:
        await self._rulebook.add(app_id, parse_rule(fields))
        return {}

    async def _modify_rule(self, app_id: str, fields: Fields) -> dict[str, Any]:
        await self._rulebook.modify(app_id, parse_rule(fields))
        return {}

    async def _delete_rule(self, app_id: str, fields: Fields) -> dict[str, Any]:
        await self._rulebook.remove(app_id, parse_rule_deletion(fields).category)
        return {}

    # --- around them ---------------------------------------------------------------------------------------------

    def _handler(self, by_method: Mapping[str, Operation]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            try:
                answer = await self._performed(request, by_method)
            except QualityFault as fault:
                return _answered(fault.code, fault.message, {}, fault.retry_after_s)
            except Unavailable as fault:
                _log.warning("quality_request_unavailable", path=request.path, reason=str(fault))
                later = ErrorCode.UNAVAILABLE
                return _answered(later, ERROR_MESSAGES[later], {}, fault.retry_after_s or BUSY_RETRY_S)
            except Exception:
                _log.exception("quality_request_failed", method=request.method, path=request.path)
                return _answered(ErrorCode.INTERNAL, ERROR_MESSAGES[ErrorCode.INTERNAL], {})
            return _answered(ErrorCode.OK, ERROR_MESSAGES[ErrorCode.OK], answer)

        return handle

    async def _performed(self, request: web.Request, by_method: Mapping[str, Operation]) -> dict[str, Any]:
        """A token outside the body is judged before the body is read. Raises QualityFault."""
        operation = by_method.get(request.method)
        if operation is None:
            expected = " or ".join(by_method)
            raise QualityFault(ErrorCode.UNSUPPORTED_METHOD, f"{request.method} here, expected {expected}")
        authorization = request.headers.get("Authorization", "")
        bearer = authorization[7:].strip() if authorization[:7].lower() == "bearer " else ""
        early = bearer or request.query.get("access_token", "")
        app_id = self._tokens.verify(early) if early else proven_app(request)
        if request.path == CREATE_PATH:
            limit_bytes, too_large = self._task_body_bytes, ErrorCode.AUDIO_TOO_LARGE
        else:
            limit_bytes, too_large = _SMALL_BODY_BYTES, ErrorCode.BODY_UNREADABLE
        async with self._bodies.json_object(request, limit_bytes, too_large) as body:
            fields = {**request.query, **body}
            if not app_id:
                token = fields.get("access_token")
                if not (isinstance(token, str) and token):
                    raise QualityFault(ErrorCode.TOKEN_INVALID, "access_token is missing")
                app_id = self._tokens.verify(token)
            return await operation(app_id, fields)

    async def _token(self, request: web.Request) -> web.Response:
        """OAuth 2.0 client credentials (RFC 6749, 4.4), with the errors of its section 5.2."""
        try:
            fields = {**request.query, **await self._bodies.form_or_json(request, _SMALL_BODY_BYTES)}
        except QualityFault as fault:
            return _refused("invalid_request", fault.message, 400)
        grant = fields.get("grant_type")
        if grant != "client_credentials":
            return _refused("unsupported_grant_type", "grant_type must be client_credentials", 400)
        client_id, secret = fields.get("client_id"), fields.get("client_secret")
        if not (isinstance(client_id, str) and client_id and isinstance(secret, str) and secret):
            return _refused("invalid_request", "client_id and client_secret are required", 400)
        try:
            token = self._tokens.mint(client_id, secret)
        except AccessDenied:
            return _refused("invalid_client", "Client authentication failed: unknown client id or wrong secret", 401)
        return _json({"access_token": token, "expires_in": TOKEN_LIFETIME_S}, headers={"Cache-Control": "no-store"})


def _answered(
    code: ErrorCode, message: str, rest: Mapping[str, Any], retry_after_s: float | None = None
) -> web.Response:
    headers = {} if retry_after_s is None else {"Retry-After": str(max(1, round(retry_after_s)))}
    return _json({"error_code": int(code), "error_message": message, **rest}, headers=headers)


def _refused(error: str, description: str, status: int) -> web.Response:
    return _json(
        {"error": error, "error_description": description}, status=status, headers={"Cache-Control": "no-store"}
    )


def _json(answer: Mapping[str, Any], *, status: int = 200, headers: Mapping[str, str]) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(answer),
        status=status,
        content_type="application/json",
        charset="utf-8",
        headers=headers,
    )
