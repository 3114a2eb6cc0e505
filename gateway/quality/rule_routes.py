"""`/v1/rules`: the rules of an app with all that the QC API cannot say of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import wraps
from typing import Any

import msgspec
from aiohttp import web

from gateway.ports import Rejected, RulesMoved, StoredCategory, Unavailable
from gateway.quality.fields import BUSY_RETRY_S, BodyReader
from gateway.quality.rulebook import Rulebook
from gateway.quality.vendor_sync import VendorSync
from protocol.quality import ErrorCode, QualityFault
from protocol.rules.book import AnyContent, BookError, Category, Content, examined

MAX_BODY_BYTES = 16 * 1024 * 1024

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class RuleRoutes:
    """Answers JSON; an error is `{"code", "message"}`, with `faults` where rules are not well formed."""

    def __init__(self, rulebook: Rulebook, sync: VendorSync | None, caller: Callable[[web.Request], str]) -> None:
        """`caller` names the app that asks, or raises the answer that it gets; `sync`: where a vendor has the rules."""
        self._rulebook = rulebook
        self._sync = sync
        self._caller = caller
        self._bodies = BodyReader(max_held_bytes=4 * MAX_BODY_BYTES)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/rules", answered(self._list)),
            web.put("/v1/rules/{category:.+}", answered(self._put)),
            web.delete("/v1/rules/{category:.+}", answered(self._delete)),
        ]

    async def _list(self, request: web.Request) -> web.Response:
        app_id = self._caller(request)
        version, categories = await self._rulebook.rules(app_id)
        answer: dict[str, Any] = {"version": version, "categories": [self._listed(one) for one in categories]}
        if self._sync is not None:
            synced = self._sync.of(app_id)
            answer["synced_at"] = None if synced.at is None else datetime.fromtimestamp(synced.at, UTC)
            answer["sync_error"] = synced.error
        return json_answer(answer, etag=version)

    def _listed(self, one: StoredCategory) -> dict[str, Any]:
        listed: dict[str, Any] = {
            "category": one.category,
            "description": one.description,
            "contents": one.contents,
            "shadow": all(isinstance(content, Content) and content.shadow for content in one.contents),
        }
        return listed if self._sync is None else {**listed, "at_vendor": one.at_vendor}

    async def _put(self, request: web.Request) -> web.Response:
        app_id, name = self._caller(request), request.match_info["category"]
        async with self._bodies.json_object(request, MAX_BODY_BYTES, ErrorCode.BODY_UNREADABLE) as body:
            category = await well_formed({"category": name, **body})
        if category.category != name:
            raise refused(web.HTTPBadRequest, "bad_rule", f'the path names "{name}", the body "{category.category}"')
        version = await self._rulebook.put(app_id, stored(category), at_version=_if_match(request))
        return json_answer({"version": version}, etag=version)

    async def _delete(self, request: web.Request) -> web.Response:
        app_id, name = self._caller(request), request.match_info["category"]
        if not await self._rulebook.drop(app_id, name, at_version=_if_match(request)):
            raise refused(web.HTTPNotFound, "unknown_category", f'no category "{name}"')
        version, _ = await self._rulebook.rules(app_id)
        return json_answer({"version": version}, etag=version)


def stored(category: Category) -> StoredCategory:
    """As it is kept. Its shadow falls on each of its contents."""
    contents = tuple(_in_shadow(one) for one in category.contents) if category.shadow else category.contents
    return StoredCategory(category.category, category.description, contents)


def _in_shadow(content: AnyContent) -> Content:
    if isinstance(content, str):
        return Content(expression=content, shadow=True)
    return msgspec.structs.replace(content, shadow=True)


async def well_formed(body: dict[str, Any]) -> Category:
    """The category of a request. Raises the answer `bad_rule` with everything that is wrong with it."""
    category, faults = await asyncio.to_thread(examined, body)
    if category is None or faults:
        answer = {"code": "bad_rule", "message": str(faults[0]), "faults": [_told(fault) for fault in faults]}
        raise web.HTTPBadRequest(text=msgspec.json.encode(answer).decode(), content_type="application/json")
    return category


def _told(fault: BookError) -> dict[str, Any]:
    return {
        "category": fault.category,
        "index": fault.index,
        "position": fault.position,
        "expected": fault.expected,
        "message": str(fault),
        "caret": "" if fault.fault is None else fault.fault.caret(),
    }


def _if_match(request: web.Request) -> int | None:
    text = request.headers.get("If-Match", "*").strip().strip('"')
    if text == "*":
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise refused(web.HTTPBadRequest, "bad_parameter", "If-Match must be a version of the rules, such as 7")
    return int(text)


def answered(handler: Handler) -> Handler:
    """The handler with what it may raise put into answers."""

    @wraps(handler)
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except RulesMoved as moved:
            raise refused(web.HTTPPreconditionFailed, "rules_moved", str(moved)) from moved
        except Rejected as fault:
            raise refused(web.HTTPBadGateway, "vendor_refused", str(fault)) from fault
        except Unavailable as fault:
            raise _later("unavailable", str(fault), fault.retry_after_s) from fault
        except QualityFault as fault:
            if fault.code == ErrorCode.UNAVAILABLE:
                raise _later("unavailable", fault.message, fault.retry_after_s) from fault
            raise refused(web.HTTPBadRequest, "bad_message", fault.message) from fault

    return handle


def refused(kind: type[web.HTTPException], code: str, message: str) -> web.HTTPException:
    """An error's answer, to be raised."""
    text = msgspec.json.encode({"code": code, "message": message}).decode()
    return kind(text=text, content_type="application/json")


def _later(code: str, message: str, retry_after_s: float | None) -> web.HTTPException:
    answer = refused(web.HTTPServiceUnavailable, code, message)
    answer.headers["Retry-After"] = str(max(1, round(retry_after_s or BUSY_RETRY_S)))
    return answer


def json_answer(content: dict[str, Any], *, etag: int) -> web.Response:
    """An answer about rules of a version."""
    body = msgspec.json.encode(content)
    return web.Response(body=body, content_type="application/json", headers={"ETag": f'"{etag}"'})
