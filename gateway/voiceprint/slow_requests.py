"""Requests that take longer than a client should wait: answered 10000, and with the result when they come again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from protocol.voiceprint import Code, VoiceprintError

_log = structlog.get_logger()
KEEP_S = 600.0
"""How long the result of such work waits to be asked for."""
MOST_PER_APP = 16
"""So much work of one app may go on, or wait to be asked for; the oldest result gives way."""


class SlowRequests:
    """Work that outlives the request it came with. Belongs to one event loop; call `close` after use."""

    def __init__(self, *, wait_s: float, keep_s: float = KEEP_S, most_per_app: int = MOST_PER_APP) -> None:
        """`wait_s`: how long a request waits for its result; 0: as long as it takes."""
        self._wait_s = wait_s
        self._keep_s = keep_s
        self._most_per_app = most_per_app
        self._kept: dict[str, dict[bytes, asyncio.Task[object]]] = {}
        """Work that was answered 10000, by app and by what tells requests apart; the oldest first."""
        self._running: set[asyncio.Task[object]] = set()
        self._timers: dict[asyncio.Task[object], asyncio.TimerHandle] = {}

    async def result(self, app_id: str, key: bytes, work: Callable[[], Awaitable[object]]) -> object:
        """What `work` comes to or, where the same `key` was answered 10000 before, what that work came to.

        A result is handed out once. Raises what the work raises, and VoiceprintError: 10000 when it is not done in
        time, 10800 when too much of the app's work goes on already.
        """
        kept = self._kept.get(app_id, {})
        task = kept.get(key)
        if task is None:
            if sum(not one.done() for one in kept.values()) >= self._most_per_app:
                cause = f"app {app_id} has {self._most_per_app} requests that are still being worked on"
                raise VoiceprintError(Code.TOO_MANY_CONNECTIONS, cause)
            task = asyncio.ensure_future(_carried_out(work))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        done, _ = await asyncio.wait({task}, timeout=self._wait_s or None)
        if not done:
            self._keep(app_id, key, task)
            cause = "the audio is still being worked on; send the same request again for its result"
            raise VoiceprintError(Code.IN_PROGRESS, cause)
        self._forget(app_id, key, task)
        return task.result()

    async def close(self) -> None:
        """Give up what is under way."""
        for timer in self._timers.values():
            timer.cancel()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _keep(self, app_id: str, key: bytes, task: asyncio.Task[object]) -> None:
        kept = self._kept.setdefault(app_id, {})
        if key in kept:  # this very work, or that of the same request sent twice at once: one is enough
            return
        kept[key] = task
        finished = [(one, work) for one, work in kept.items() if work.done()]
        for one, work in finished[: max(0, len(kept) - self._most_per_app)]:
            self._forget(app_id, one, work)

        def finish(done: asyncio.Task[object]) -> None:
            if done.cancelled():
                return
            fault = done.exception()
            if fault is not None and not isinstance(fault, VoiceprintError):
                _log.error("voiceprint.failed_in_background", exc_info=fault)
            if self._kept.get(app_id, {}).get(key) is done:
                loop = asyncio.get_running_loop()
                self._timers[done] = loop.call_later(self._keep_s, self._forget, app_id, key, done)

        task.add_done_callback(finish)

    def _forget(self, app_id: str, key: bytes, task: asyncio.Task[object]) -> None:
        if timer := self._timers.pop(task, None):
            timer.cancel()
        kept = self._kept.get(app_id, {})
        if kept.get(key) is task:
            del kept[key]
            if not kept:
                del self._kept[app_id]


async def _carried_out(work: Callable[[], Awaitable[object]]) -> object:
    return await work()
