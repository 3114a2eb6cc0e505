"""The calls of one app in brief, for its boards: each told anew when something is otherwise, twice a second at most."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress

import msgspec
import structlog

from gateway.session.brief import CallBrief, agent_of
from gateway.session.level_meter import LevelMeter
from gateway.session.watchers import AppWatcher, CallWatcher, FedCall, Summary, levels_item
from protocol.messages import Alert, AlertUpdate, ServerMessage

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 0.25
"""How often levels are told, and calls are looked at that are to be told anew."""
TELL_EVERY_S = 0.5
"""A call is told anew no sooner than so long after it was told last ..."""
TELL_AGAIN_S = 5.0
"""... and no later than so long after, though nothing be new but its length."""


class _Told:
    """A call, and when it was told last."""

    __slots__ = ("brief", "call", "is_new", "told_at_s")

    def __init__(self, call: FedCall) -> None:
        self.call = call
        self.brief = CallBrief(call.document.content)
        self.is_new = True
        self.told_at_s = float("-inf")

    def due(self, now_s: float) -> bool:
        waited_s = now_s - self.told_at_s
        return waited_s >= (TELL_EVERY_S if self.is_new else TELL_AGAIN_S)

    def summary(self) -> Summary:
        call = self.call
        return Summary(call.call_id, agent_of(call.document.content), msgspec.json.encode(self.brief.of(call)))


class AppFeed:
    """Lives while somebody watches the app, or the levels of one of its calls."""

    def __init__(self, calls: Iterable[FedCall]) -> None:
        """`calls` are those that go on here now."""
        self._told = {call.call_id: _Told(call) for call in calls}
        self._watchers: set[AppWatcher] = set()
        self._level_watchers: dict[str, set[CallWatcher]] = {}
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run())
        self._task.add_done_callback(_tell_why)

    @property
    def wanted(self) -> bool:
        return bool(self._watchers or self._level_watchers)

    def stop(self) -> asyncio.Task[None]:
        """Tell nothing more; the task returned ends."""
        self._measure(())
        self._task.cancel()
        return self._task

    # --- the watchers' side ---

    def watch(self, watcher: AppWatcher) -> None:
        for summary in self.summaries():
            watcher.tell(summary)
        self._watchers.add(watcher)

    def summaries(self) -> list[Summary]:
        return [told.summary() for told in self._told.values()]

    def unwatch(self, watcher: AppWatcher) -> None:
        self._watchers.discard(watcher)

    def watch_levels(self, call_id: str, watcher: CallWatcher) -> None:
        self._level_watchers.setdefault(call_id, set()).add(watcher)

    def unwatch_levels(self, call_id: str, watcher: CallWatcher) -> None:
        watchers = self._level_watchers.get(call_id, set())
        watchers.discard(watcher)
        if not watchers:
            self._level_watchers.pop(call_id, None)

    # --- the calls' side ---

    def began(self, call: FedCall) -> None:
        self._told[call.call_id] = _Told(call)
        self._wake.set()

    def said(self, call: FedCall, message: ServerMessage) -> None:
        told = self._told.get(call.call_id)
        if told is not None:
            told.brief.apply(message)
            told.is_new = True
            if isinstance(message, Alert | AlertUpdate):
                self._wake.set()  # nobody waits for these longer than need be

    def changed(self, call: FedCall) -> None:
        told = self._told.get(call.call_id)
        if told is not None:
            told.is_new = True

    def ended(self, call: FedCall) -> None:
        told = self._forget(call)
        if told is not None:
            summary = told.summary()
            for watcher in tuple(self._watchers):
                watcher.tell(summary)
                watcher.gone(call.call_id)

    def left(self, call: FedCall) -> None:
        self._forget(call)
        for watcher in tuple(self._watchers):
            watcher.left(call.call_id)

    def _forget(self, call: FedCall) -> _Told | None:
        call.meter = None
        self._level_watchers.pop(call.call_id, None)
        return self._told.pop(call.call_id, None)

    # --- telling ---

    async def _run(self) -> None:
        listened_at_s = self._loop.time()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._wake.wait()
            self._wake.clear()
            now_s = self._loop.time()
            self._tell_what_is_due(now_s)
            if now_s - listened_at_s >= LOOK_EVERY_S * 0.9:
                listened_at_s = now_s
                self._tell_levels()

    def _tell_what_is_due(self, now_s: float) -> None:
        if not self._watchers:
            return
        for told in self._told.values():
            if told.due(now_s):
                told.is_new, told.told_at_s = False, now_s
                summary = told.summary()
                for watcher in tuple(self._watchers):
                    watcher.tell(summary)

    def _tell_levels(self) -> None:
        for_app = [watcher for watcher in self._watchers if watcher.levels]
        self._measure(self._told if for_app else self._level_watchers)
        levels = {
            call_id: told.call.meter.look() for call_id, told in self._told.items() if told.call.meter is not None
        }
        for watcher in for_app:
            watcher.tell_levels(levels)
        for call_id, watchers in self._level_watchers.items():
            if call_id in levels:
                item = levels_item({call_id: levels[call_id]}, call_id)
                for one in tuple(watchers):
                    one.put(item)

    def _measure(self, call_ids: Iterable[str]) -> None:
        """Let these calls be measured from now on, and no others."""
        measured = set(call_ids)
        for call_id, told in self._told.items():
            if call_id not in measured:
                told.call.meter = None
            elif told.call.meter is None:
                audio = told.call.terms.audio
                told.call.meter = LevelMeter(audio.rate_hz, audio.channels)


def _tell_why(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("boards_not_told", exc_info=task.exception())
