"""Calls that other processes hold, for the watchers of this one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from gateway.ports import Unavailable
from gateway.ports.bus import Bus, Subscription
from gateway.session.feed import Feed, Replay
from gateway.session.feed_outside import FeedOutside
from gateway.session.feed_wire import (
    CALLS,
    INTEREST,
    SAID,
    AppHeard,
    AppWanted,
    CallHeard,
    CallSaid,
    CallWanted,
    Interest,
    app_topic,
    call_topic,
    inflated,
    packed,
    unpacked,
)
from gateway.session.watchers import AppWatcher, CallWatcher, Item, Summary

log = structlog.get_logger(__name__)

RENEW_EVERY_S = 5.0
ASK_TIMEOUT_S = 2.0
LOST_AFTER_S = 15.0
"""A call that is not heard of for this long cannot be reached; those who hold calls tell of each every 5 s."""
MAX_HEARD = 4096
"""What is kept of a call's messages while those before them are asked for; beyond, they are asked for too."""

_ENDED = b'{"type":"ended"'


class FeedElsewhere:
    """Watches calls through the bus: asks for what there is, then listens, and asks again for what it missed."""

    def __init__(self, bus: Bus, feed: Feed) -> None:
        self._bus = bus
        self._feed = feed
        self._outside = FeedOutside(bus, feed)
        self._apps: dict[str, _AppElsewhere] = {}
        self._calls: set[CallElsewhere] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Take part from here on, in the background; alone there is nothing to take part in."""
        if not self._bus.alone:
            self._run(self._take_part())

    async def stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _take_part(self) -> None:
        while True:
            try:
                await self._outside.start()
                break
            except Unavailable as fault:
                log.warning("feed_not_heard", fault=str(fault))
                await asyncio.sleep(RENEW_EVERY_S)
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            self.renew()

    def renew(self) -> None:
        """Say again what is watched here, and look who has not been heard of."""
        self._outside.tidy()
        interest = Interest(
            {app_id: app.levels for app_id, app in self._apps.items()}, [call.wanted for call in self._calls]
        )
        if interest.apps or interest.calls:
            self._bus.publish(INTEREST, packed(interest))
        now_s = asyncio.get_running_loop().time()
        for app in self._apps.values():
            app.drop_lost(now_s)
            if not app.asked:
                self._run(self._ask_again(app))
        for call in list(self._calls):
            call.look(now_s)

    async def _ask_again(self, app: _AppElsewhere) -> None:
        try:
            await app.ask()
        except Unavailable as fault:
            log.info("feed_still_not_heard", fault=str(fault))

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ran)

    def _ran(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("feed_failed", exc_info=task.exception())

    # --- an app ---

    async def watch_app(self, app_id: str, watcher: AppWatcher) -> None:
        """Tell the watcher of the app's calls at other processes, as they are and from now on. Raises Unavailable:
        it is told what can be heard all the same, until `unwatch_app`."""
        if self._bus.alone:
            return
        app = self._apps.get(app_id)
        if app is None:
            app = self._apps[app_id] = _AppElsewhere(self._bus, self._feed, app_id)
        app.watch(watcher)
        await app.ask()

    async def unwatch_app(self, app_id: str, watcher: AppWatcher) -> None:
        app = self._apps.get(app_id)
        if app is not None and app.unwatch(watcher):
            del self._apps[app_id]
            await app.close()

    def left(self, app_id: str, call_id: str) -> None:
        """A call that went on here goes on elsewhere."""
        app = self._apps.get(app_id)
        if app is not None:
            app.expect(call_id)

    # --- a call ---

    async def watch_call(
        self, app_id: str, call_id: str, from_seq: int, watcher: CallWatcher, *, levels: bool
    ) -> tuple[Replay, CallElsewhere] | None:
        """What a call elsewhere said after `from_seq`; the watcher is told the rest once `go_on` was called on what is
        returned, until it is closed. None when no process has it. Raises Unavailable."""
        if self._bus.alone:
            return None
        call = CallElsewhere(self._bus, CallWanted(app_id, call_id, levels, from_seq), watcher, self._run)
        try:
            replay = await call.begin()
        except BaseException:
            await call.close()
            raise
        if replay is None or not replay.live:
            await call.close()
            return None if replay is None else (replay, call)
        self._calls.add(call)
        call.on_close = self._calls.discard
        return replay, call


class _AppElsewhere:
    """An app's calls at other processes, for all its watchers here."""

    def __init__(self, bus: Bus, feed: Feed, app_id: str) -> None:
        self._bus = bus
        self._feed = feed
        self._app_id = app_id
        self._watchers: set[AppWatcher] = set()
        self._calls: dict[str, tuple[Summary | None, float]] = {}
        """Each call as it was told last, and when it was heard of."""
        self._loop = asyncio.get_running_loop()
        self._subscribing: asyncio.Task[Subscription] | None = None
        self.asked = False
        """Whether the others have been asked since anything was last amiss."""

    @property
    def levels(self) -> bool:
        return any(watcher.levels for watcher in self._watchers)

    def watch(self, watcher: AppWatcher) -> None:
        self._watchers.add(watcher)
        for summary, _ in self._calls.values():
            if summary is not None:
                watcher.tell(summary)

    def unwatch(self, watcher: AppWatcher) -> bool:
        """Whether that was the last one."""
        self._watchers.discard(watcher)
        return not self._watchers

    async def ask(self) -> None:
        """Hear of the calls, as they are and from now on. Raises Unavailable: then it is to be tried again."""
        self.asked = False
        if self._subscribing is None or (self._subscribing.done() and self._subscribing.exception() is not None):
            self._subscribing = self._loop.create_task(self._bus.subscribe(app_topic(self._app_id), self._hear))
        await asyncio.shield(self._subscribing)
        question = packed(AppWanted(self._app_id, self.levels))
        for answer in await self._bus.ask_all(CALLS, question, timeout_s=ASK_TIMEOUT_S):
            self._take(inflated(answer, AppHeard))
        self.asked = True

    async def close(self) -> None:
        if self._subscribing is not None:
            try:
                await (await asyncio.shield(self._subscribing)).close()
            except Unavailable as fault:
                log.info("feed_was_not_heard", fault=str(fault))

    def expect(self, call_id: str) -> None:
        self._calls.setdefault(call_id, (None, self._loop.time()))

    def _hear(self, data: bytes) -> None:
        self._take(unpacked(data, AppHeard))

    def _take(self, heard: AppHeard) -> None:
        now_s = self._loop.time()
        for brief in heard.briefs:
            if not self._feed.holds(brief.call_id):  # what is here is told from here
                summary = Summary(brief.call_id, brief.agent, brief.payload)
                self._calls[brief.call_id] = summary, now_s
                for watcher in tuple(self._watchers):
                    watcher.tell(summary)
        for call_id in heard.gone:
            self._drop(call_id)
        if heard.levels:
            for watcher in tuple(self._watchers):
                if watcher.levels:
                    watcher.tell_levels(heard.levels)

    def drop_lost(self, now_s: float) -> None:
        for call_id, (_, heard_s) in list(self._calls.items()):
            if self._feed.holds(call_id):
                del self._calls[call_id]
            elif now_s - heard_s > LOST_AFTER_S:
                self._drop(call_id)

    def _drop(self, call_id: str) -> None:
        if self._calls.pop(call_id, None) is not None and not self._feed.holds(call_id):
            for watcher in tuple(self._watchers):
                watcher.gone(call_id)


class CallElsewhere:
    """A call at another process, for one watcher here. What is heard out of its turn is asked for."""

    def __init__(
        self,
        bus: Bus,
        wanted: CallWanted,
        watcher: CallWatcher,
        run: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._bus = bus
        self._wanted = wanted
        self._watcher = watcher
        self._run = run
        self._seq = wanted.from_seq
        """Everything up to here was told."""
        self._asking = True
        self._waiting: list[CallHeard] = []
        self._subscription: Subscription | None = None
        self._heard_s = asyncio.get_running_loop().time()
        self._closed = False
        self.on_close: Callable[[CallElsewhere], None] = lambda call: None

    @property
    def wanted(self) -> CallWanted:
        return CallWanted(self._wanted.app_id, self._wanted.call_id, self._wanted.levels, self._seq)

    async def begin(self) -> Replay | None:
        """What was said so far. Raises Unavailable."""
        self._subscription = await self._bus.subscribe(call_topic(self._wanted.call_id), self._hear)
        said: list[tuple[int, bytes]] = []
        answer = await self._ask()
        while answer is not None:
            said += answer.said
            self._seq = max(self._seq, answer.through_seq)
            if answer.whole:
                return Replay(said, answer.seq, answer.through_seq, answer.live)
            answer = await self._ask()
        return None

    def go_on(self) -> None:
        """What was said so far was told: tell what was heard meanwhile, and all the rest."""
        self._asking = False
        waiting, self._waiting = self._waiting, []
        for heard in waiting:
            self._take(heard)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.on_close(self)
            if self._subscription is not None:
                await self._subscription.close()

    def look(self, now_s: float) -> None:
        """Ask, if nothing was heard for too long."""
        if now_s - self._heard_s > LOST_AFTER_S and not self._asking:
            self._heard_s = now_s
            self._ask_for_the_rest()

    async def _ask(self) -> CallSaid | None:
        answer = await self._bus.ask(SAID, packed(self.wanted), timeout_s=ASK_TIMEOUT_S)
        return None if answer is None else inflated(answer, CallSaid)

    def _hear(self, data: bytes) -> None:
        self._heard_s = asyncio.get_running_loop().time()
        heard = unpacked(data, CallHeard)
        if not self._asking:
            self._take(heard)
        elif len(self._waiting) < MAX_HEARD:
            self._waiting.append(heard)

    def _take(self, heard: CallHeard) -> None:
        if self._closed:
            return
        if self._asking:
            self._waiting.append(heard)
        elif heard.before_seq > self._seq:
            self._waiting.append(heard)
            self._ask_for_the_rest()
        elif heard.seq > self._seq or (heard.payload and heard.before_seq == heard.seq):
            self._seq = max(self._seq, heard.seq)
            numbered = heard.seq if heard.seq > heard.before_seq else 0
            self._watcher.put(Item(heard.payload, heard.key, heard.ends, numbered))
            if heard.payload.startswith(_ENDED):  # nothing follows: nobody need go on telling
                self._run(self.close())

    def _ask_for_the_rest(self) -> None:
        self._asking = True
        self._run(self._catch_up())

    async def _catch_up(self) -> None:
        try:
            answer = await self._ask()
        except Unavailable as fault:
            log.info("feed_cannot_catch_up", call_id=self._wanted.call_id, fault=str(fault))
            answer = None
        if self._closed:
            return
        if answer is None:
            # Nobody has it: the watcher looks where it is now, or what became of it.
            await self.close()
            self._watcher.moved()
            return
        for seq, payload in answer.said:
            if seq > self._seq:
                self._watcher.put(Item(payload, seq=seq))
        self._seq = max(self._seq, answer.through_seq)
        if not answer.whole:
            self._run(self._catch_up())
        elif not answer.live:
            await self.close()
        else:
            self.go_on()
