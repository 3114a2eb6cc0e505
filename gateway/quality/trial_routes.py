"""`POST /v1/rules/try`: a dry run, answered line by line as it goes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import msgspec
import structlog
from aiohttp import web

from gateway.ports import PortError
from gateway.quality.fields import BodyReader
from gateway.quality.rule_routes import MAX_BODY_BYTES, answered, refused, well_formed
from gateway.quality.rulebook import Rulebook
from gateway.quality.trial import TrialRequest, Trials
from protocol.quality import ErrorCode
from protocol.rules.book import Category

_log = structlog.get_logger(__name__)

MOST_AT_ONCE = 2
"""Trials at a time, of all apps: what they take, live calls lack."""
UNNAMED = "trial"
_OF_THE_RULE = ("category", "contents", "description", "shadow")


class TrialRoutes:
    """The answer is one JSON object a line; the last one has the totals."""

    def __init__(self, rulebook: Rulebook, trials: Trials, caller: Callable[[web.Request], str]) -> None:
        """`caller` names the app that asks, or raises the answer that it gets."""
        self._rulebook = rulebook
        self._trials = trials
        self._caller = caller
        self._bodies = BodyReader(max_held_bytes=2 * MAX_BODY_BYTES)
        self._running = 0

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/v1/rules/try", answered(self._try))]

    async def _try(self, request: web.Request) -> web.StreamResponse:
        app_id = self._caller(request)
        async with self._bodies.json_object(request, MAX_BODY_BYTES, ErrorCode.BODY_UNREADABLE) as body:
            category = await self._rule(app_id, body)
            try:
                asked = msgspec.convert({k: v for k, v in body.items() if k not in _OF_THE_RULE}, TrialRequest)
            except msgspec.ValidationError as fault:
                raise refused(web.HTTPBadRequest, "bad_message", str(fault)) from fault
        if self._running >= MOST_AT_ONCE:
            raise refused(web.HTTPTooManyRequests, "busy", f"{self._running} trials are running; try again")
        self._running += 1
        try:
            return await self._stream(request, app_id, category, asked)
        finally:
            self._running -= 1

    async def _rule(self, app_id: str, body: dict[str, Any]) -> Category:
        """The rule to be tried: what the request holds, or the app's own category when it only names one."""
        if "contents" in body or "category" not in body:
            given = {key: body[key] for key in _OF_THE_RULE if key in body}
            return await well_formed({"category": UNNAMED, **given})
        name = body["category"]
        _, categories = await self._rulebook.rules(app_id)
        for one in categories:
            if one.category == name:
                return Category(category=one.category, contents=one.contents)
        raise refused(web.HTTPNotFound, "unknown_category", f"no category {name!r}, and no contents to try")

    async def _stream(
        self, request: web.Request, app_id: str, category: Category, asked: TrialRequest
    ) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await answer.prepare(request)
        try:
            async with aclosing(self._trials.run(app_id, category, asked)) as lines:
                async for line in lines:
                    await answer.write(await asyncio.to_thread(msgspec.json.encode, line) + b"\n")
            await answer.write_eof()
        except ConnectionError:
            _log.info("trial_abandoned", app_id=app_id)  # its caller has gone; so does the work
        except (PortError, OSError) as fault:  # the status has been sent: a line must say it
            _log.warning("trial_ended_early", app_id=app_id, fault=str(fault))
            line = {
                "code": "unavailable",
                "message": "the calls cannot be read now; try again later",
                "complete": False,
            }
            await answer.write(msgspec.json.encode(line) + b"\n")
        return answer
