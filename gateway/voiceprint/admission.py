"""Whether an app may have one more request carried out: connections, rate, and what it has a licence for."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from gateway.ports import PortError, Unavailable, UsageMeter
from gateway.ports.requests import RequestRefusal, SharedRequests
from gateway.token_bucket import TokenBucket
from protocol.voiceprint import Code, VoiceprintError

_log = structlog.get_logger()

SHARED_WAIT_S = 0.25
"""What a request may wait for the count of all nodes; then this node's own count decides ..."""
SHARED_REST_S = 2.0
"""... and goes on to, for so long, before the count of all is asked for again."""


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What one app may ask of the voiceprint API; 0 stands for no limit."""

    at_once: int = 0
    per_s: float = 0.0
    """On average; a second's worth may come at once, and one request always may."""


class Admission:
    """Counts what each app asks for, here and by `shared` over all nodes. `now` is any clock that does not jump, in
    seconds; without a meter all is free."""

    def __init__(
        self,
        limits: RequestLimits,
        now: Callable[[], float],
        usage: UsageMeter | None = None,
        shared: SharedRequests | None = None,
    ) -> None:
        self._shared = shared if limits.at_once or limits.per_s else None
        self._ask_again_at_s = now()
        self._leaving: set[asyncio.Task[None]] = set()
        self._limits = limits
        self._now = now
        self._usage = usage
        self._under_way: Counter[str] = Counter()
        self._buckets: dict[str, TokenBucket] = {}

    @asynccontextmanager
    async def place(self, app_id: str) -> AsyncIterator[None]:
        """One of the app's requests. Raises VoiceprintError (10800) when it has too many, or sends them too fast."""
        self._refuse(app_id, self._refusal_here(app_id))
        self._under_way[app_id] += 1
        request_id = ""
        try:
            request_id = await self._enter_shared(app_id)
            yield
        finally:
            if request_id:
                self._leave_shared(app_id, request_id)
            self._under_way[app_id] -= 1
            if not self._under_way[app_id]:
                del self._under_way[app_id]

    async def close(self) -> None:
        """Return once the other nodes know of the requests that are over."""
        if self._leaving:
            await asyncio.wait(self._leaving)

    def _refusal_here(self, app_id: str) -> RequestRefusal:
        limits = self._limits
        if limits.at_once and self._under_way[app_id] >= limits.at_once:
            return "at_once"
        if not limits.per_s:
            return ""
        burst = max(1.0, limits.per_s)
        bucket = self._buckets.setdefault(app_id, TokenBucket(limits.per_s, burst, self._now()))
        return "" if bucket.take(1, self._now()) else "per_s"

    def _refuse(self, app_id: str, refusal: RequestRefusal) -> None:
        if not refusal:
            return
        limits = self._limits
        what = (
            f"has {limits.at_once} requests under way"
            if refusal == "at_once"
            else f"sends more than {limits.per_s:g} requests a second"
        )
        raise VoiceprintError(Code.TOO_MANY_CONNECTIONS, f"app {app_id} {what}, as many as it may")

    async def _enter_shared(self, app_id: str) -> str:
        """Count a request for all nodes; its id there, nothing while only this node counts."""
        if self._shared is None or self._now() < self._ask_again_at_s:
            return ""
        request_id = secrets.token_hex(8)
        try:
            async with asyncio.timeout(SHARED_WAIT_S):
                refusal = await self._shared.enter(app_id, request_id)
        except (Unavailable, TimeoutError) as fault:
            _log.warning("voiceprint.limits_are_this_nodes", fault=str(fault) or f"no answer in {SHARED_WAIT_S} s")
            self._ask_again_at_s = self._now() + SHARED_REST_S
            return ""
        self._refuse(app_id, refusal)
        return request_id

    def _leave_shared(self, app_id: str, request_id: str) -> None:
        """Not waited for: the answer need not be later for it."""
        task = asyncio.get_running_loop().create_task(self._left_shared(app_id, request_id))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _left_shared(self, app_id: str, request_id: str) -> None:
        assert self._shared is not None
        try:
            await self._shared.leave(app_id, request_id)
        except Unavailable as fault:
            _log.info("voiceprint.request_counts_on", app_id=app_id, fault=str(fault))

    async def require_licence(self, app_id: str) -> None:
        """Raises VoiceprintError: 10110 with the reason when the quota is used up, 16003 when nobody can tell."""
        if self._usage is None:
            return
        try:
            reason = await self._usage.over_quota(app_id, "voiceprint_requests")
        except PortError as fault:
            raise VoiceprintError(Code.COMPONENT_ERROR, str(fault)) from fault
        if reason:
            raise VoiceprintError(Code.NO_LICENSE, reason)

    async def count(self, app_id: str) -> None:
        """One more request that heard a clip was carried out. What cannot be counted is logged: the work is done."""
        if self._usage is None:
            return
        try:
            await self._usage.add(app_id, "voiceprint_requests", 1)
        except PortError as fault:
            _log.warning("voiceprint.not_counted", app_id=app_id, fault=str(fault))
