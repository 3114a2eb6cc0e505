"""Deletion by hand: of a call, or of a task of voice QC that was no call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from gateway.doors.answers import refused
from gateway.ports import CallRecord, CallStore, LiveCalls, Unavailable

EraseCall = Callable[[str, str], Awaitable[None]]
EraseTask = Callable[[str, str], Awaitable[bool]]


class DeletionRoutes:
    """204 once nothing is left. Another app's calls and tasks are as if absent."""

    def __init__(
        self,
        calls: LiveCalls,
        store: CallStore,
        erase_call: EraseCall,
        erase_task: EraseTask,
        caller: Callable[[web.Request], str],
    ) -> None:
        """The two take an app id with a call's or session's id; `caller` names the app that asks, or raises the answer
        that it gets."""
        self._calls = calls
        self._store = store
        self._erase_call = erase_call
        self._erase_task = erase_task
        self._caller = caller

    def routes(self) -> list[web.RouteDef]:
        return [
            web.delete("/v1/calls/{call_id}", self._delete_call),
            web.delete("/v1/quality/{session_id:.+}", self._delete_task),
        ]

    async def _delete_call(self, request: web.Request) -> web.Response:
        app_id, call_id = self._caller(request), request.match_info["call_id"]
        held = await self._holds(app_id, call_id)
        record = await self._stored(app_id, call_id)
        if held or (record is not None and record.state == "live"):
            raise refused(web.HTTPConflict, "call_runs", "the call has not ended; delete it afterwards")
        if record is None:
            raise refused(web.HTTPNotFound, "unknown_call", f"no call {call_id!r}")
        try:
            await self._erase_call(app_id, call_id)
        except (OSError, Unavailable) as fault:
            raise _not_all(fault) from fault
        return web.Response(status=204)

    async def _delete_task(self, request: web.Request) -> web.Response:
        app_id, session_id = self._caller(request), request.match_info["session_id"]
        if await self._holds(app_id, session_id) or await self._stored(app_id, session_id) is not None:
            message = f"this is the task of a call; delete it with DELETE /v1/calls/{session_id}"
            raise refused(web.HTTPConflict, "task_of_a_call", message)
        try:
            erased = await self._erase_task(app_id, session_id)
        except (OSError, Unavailable) as fault:
            raise _not_all(fault) from fault
        if not erased:
            raise refused(web.HTTPNotFound, "unknown_task", f"no task {session_id!r}")
        return web.Response(status=204)

    async def _stored(self, app_id: str, call_id: str) -> CallRecord | None:
        try:
            return await self._store.get(app_id, call_id)
        except Unavailable as fault:
            raise _not_all(fault) from fault

    async def _holds(self, app_id: str, call_id: str) -> bool:
        try:
            return await self._calls.holds(app_id, call_id)
        except Unavailable as fault:
            raise _not_all(fault) from fault


def _not_all(fault: Exception) -> web.HTTPException:
    message = f"not everything could be deleted; ask again later: {fault}"
    return refused(web.HTTPServiceUnavailable, "unavailable", message)
