"""Whether an app may have one more request carried out: connections, rate, and what it has a licence for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from gateway.ports import PortError, UsageMeter
from gateway.token_bucket import TokenBucket
from protocol.voiceprint import Code, VoiceprintError

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What one app may ask of the voiceprint API; 0 stands for no limit."""

    at_once: int = 0
    per_s: float = 0.0
    """On average; a second's worth may come at once, and one request always may."""


class Admission:
    """Counts what each app asks for. `now` is any clock that does not jump, in seconds; without a meter all is free."""

    def __init__(self, limits: RequestLimits, now: Callable[[], float], usage: UsageMeter | None = None) -> None:
        self._limits = limits
        self._now = now
        self._usage = usage
        self._under_way: Counter[str] = Counter()
        self._buckets: dict[str, TokenBucket] = {}

    @contextmanager
    def place(self, app_id: str) -> Iterator[None]:
        """One of the app's requests. Raises VoiceprintError (10800) when it has too many, or sends them too fast."""
        limits = self._limits
        if limits.at_once and self._under_way[app_id] >= limits.at_once:
            cause = f"app {app_id} has {limits.at_once} requests under way, as many as it may"
            raise VoiceprintError(Code.TOO_MANY_CONNECTIONS, cause)
        if limits.per_s:
            burst = max(1.0, limits.per_s)
            bucket = self._buckets.setdefault(app_id, TokenBucket(limits.per_s, burst, self._now()))
            if not bucket.take(1, self._now()):
                cause = f"app {app_id} sends more than {limits.per_s:g} requests a second, as many as it may"
                raise VoiceprintError(Code.TOO_MANY_CONNECTIONS, cause)
        self._under_way[app_id] += 1
        try:
            yield
        finally:
            self._under_way[app_id] -= 1
            if not self._under_way[app_id]:
                del self._under_way[app_id]

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
