"""Tells other processes of the calls here that their watchers watch, for as long as they say that they do."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from gateway.ports.bus import Bus
from gateway.session.feed import Feed, said_after
from gateway.session.feed_wire import (
    CALLS,
    INTEREST,
    SAID,
    AppHeard,
    AppWanted,
    Brief,
    CallHeard,
    CallSaid,
    CallWanted,
    Interest,
    app_topic,
    call_topic,
    deflated,
    packed,
    unpacked,
)
from gateway.session.watchers import Item, Summary

KEEP_S = 15.0
"""So long after an interest was last heard of it is taken to last."""
MAX_SAID_BYTES = 1024 * 1024
"""Of a call's past that is told in one answer."""


class FeedOutside:
    """The watchers of other processes, in this one."""

    def __init__(self, bus: Bus, feed: Feed) -> None:
        self._bus = bus
        self._feed = feed
        self._loop = asyncio.get_running_loop()
        self._apps: dict[str, _OutsideApp] = {}
        self._calls: dict[str, _OutsideCall] = {}

    async def start(self) -> None:
        """Answer and listen from here on. Raises Unavailable."""
        self._bus.answers(CALLS, self._tell_calls)
        self._bus.answers(SAID, self._tell_said)
        await self._bus.subscribe(INTEREST, self._hear_interest)

    def tidy(self) -> None:
        """Forget whoever has not been heard of for too long; to be called every few seconds."""
        now_s = self._loop.time()
        for app_id, app in list(self._apps.items()):
            if app.until_s < now_s:
                del self._apps[app_id]
                self._feed.unwatch_app(app_id, app)
        for call_id, call in list(self._calls.items()):
            if call.until_s < now_s or call.over:
                del self._calls[call_id]
                self._feed.unwatch_call(call.app_id, call_id, call)

    def _hear_interest(self, data: bytes) -> None:
        interest = unpacked(data, Interest)
        for app_id, levels in interest.apps.items():
            self._keep_app(app_id, levels=levels)
        for wanted in interest.calls:
            call = self._keep_call(wanted)
            if call is not None:
                call.tell_position()

    def _keep_app(self, app_id: str, *, levels: bool) -> _OutsideApp:
        now_s = self._loop.time()
        app = self._apps.get(app_id)
        if app is None:
            app = self._apps[app_id] = _OutsideApp(self._bus, app_topic(app_id), self._loop)
            self._feed.watch_app(app_id, app)
        app.until_s = now_s + KEEP_S
        if levels:
            app.levels_until_s = now_s + KEEP_S
        return app

    def _keep_call(self, wanted: CallWanted) -> _OutsideCall | None:
        """Tell of the call from now on; None when it does not go on here."""
        call_id = wanted.call_id
        outside = self._calls.get(call_id)
        if outside is None or outside.over or (wanted.levels and not outside.levels):
            found = self._feed.find(wanted.app_id, call_id)
            if found is None or not self._feed.holds(call_id):
                return None
            if outside is not None:
                self._feed.unwatch_call(wanted.app_id, call_id, outside)
            outside = _OutsideCall(self._bus, wanted.app_id, call_id, levels=wanted.levels)
            replay = self._feed.watch_call(wanted.app_id, call_id, found.record.last_seq, outside, levels=wanted.levels)
            assert replay is not None
            outside.seq = replay.kept_seq
            self._calls[call_id] = outside
        elif outside.app_id != wanted.app_id:
            return None
        outside.until_s = self._loop.time() + KEEP_S
        return outside

    async def _tell_calls(self, question: bytes) -> bytes | None:
        wanted = unpacked(question, AppWanted)
        self._keep_app(wanted.app_id, levels=wanted.levels)
        briefs = [Brief(one.call_id, one.agent, one.payload) for one in self._feed.summaries(wanted.app_id)]
        return deflated(AppHeard(briefs)) if briefs else None

    async def _tell_said(self, question: bytes) -> bytes | None:
        wanted = unpacked(question, CallWanted)
        found = self._feed.find(wanted.app_id, wanted.call_id)
        if found is None:
            return None
        # In one step with the look at the record: what it says after this is told by the bus.
        live = self._keep_call(wanted) is not None
        record = found.record
        said, through_seq = said_after(record, wanted.from_seq), record.last_kept_seq
        part: list[tuple[int, bytes]] = []
        size_bytes = 0
        for seq, payload in said:
            if size_bytes > MAX_SAID_BYTES:
                through_seq = part[-1][0]
                break
            part.append((seq, payload))
            size_bytes += len(payload)
        whole = len(part) == len(said)
        return deflated(CallSaid(part, through_seq, whole, record.last_seq, live))


class _OutsideApp:
    """Stands for all who watch an app elsewhere."""

    def __init__(self, bus: Bus, topic: str, loop: asyncio.AbstractEventLoop) -> None:
        self._bus = bus
        self._topic = topic
        self._loop = loop
        self.until_s = self.levels_until_s = 0.0

    @property
    def levels(self) -> bool:
        return self._loop.time() < self.levels_until_s

    def tell(self, summary: Summary) -> None:
        self._publish(AppHeard([Brief(summary.call_id, summary.agent, summary.payload)]))

    def gone(self, call_id: str) -> None:
        self._publish(AppHeard(gone=[call_id]))

    def left(self, call_id: str) -> None:
        """Whoever has it now tells of it."""

    def tell_levels(self, levels: Mapping[str, list[int]]) -> None:
        if levels:
            self._publish(AppHeard(levels=dict(levels)))

    def _publish(self, heard: AppHeard) -> None:
        self._bus.publish(self._topic, packed(heard))


class _OutsideCall:
    """Stands for all who watch a call elsewhere."""

    def __init__(self, bus: Bus, app_id: str, call_id: str, *, levels: bool) -> None:
        self.app_id = app_id
        self.levels = levels
        self.until_s = 0.0
        self.seq = 0
        """Number of the latest message that was told."""
        self.over = False
        self._bus = bus
        self._topic = call_topic(call_id)

    def put(self, item: Item) -> None:
        seq = item.seq or self.seq
        self._publish(CallHeard(self.seq, seq, item.payload, item.key, item.ends))
        self.seq = seq

    def moved(self) -> None:
        self.over = True

    def tell_position(self) -> None:
        """Say where the call stands, so that whoever has missed the last of it finds out."""
        self._publish(CallHeard(self.seq, self.seq))

    def _publish(self, heard: CallHeard) -> None:
        self._bus.publish(self._topic, packed(heard))
