"""What the calls of this process say, passed on to whoever watches them. It never waits, and costs a call two look-ups
a message while nobody does."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import msgspec

from gateway.session.app_feed import AppFeed
from gateway.session.record import MessageRecord
from gateway.session.watchers import AppWatcher, CallWatcher, FedCall, Item, Summary
from protocol import messages
from protocol.codec import decode_server, encode
from protocol.messages import ServerMessage
from protocol.watching import NOT_FOR_WATCHERS

_STARTED = b'{"type":"started"'


@dataclass(frozen=True, slots=True)
class Replay:
    """What a call has said, up to the moment from which its watcher is told by itself."""

    said: list[tuple[int, bytes]]
    """Number and payload, in order, without what is not for watchers."""
    seq: int
    """Number of the latest of all the call's messages."""
    kept_seq: int
    """Number of the latest that is for watchers."""
    live: bool
    """Whether anything follows."""


class Feed:
    """The calls in memory and their watchers."""

    def __init__(self) -> None:
        self._calls: dict[str, FedCall] = {}
        self._lately: dict[str, FedCall] = {}
        self._by_app: dict[str, dict[str, FedCall]] = {}
        self._watchers: dict[str, set[CallWatcher]] = {}
        self._apps: dict[str, AppFeed] = {}

    # --- the calls' side ---

    def began(self, call: FedCall) -> None:
        """A call begins here, or goes on here."""
        self._calls[call.call_id] = call
        self._by_app.setdefault(call.app_id, {})[call.call_id] = call
        for watcher in self._watchers.pop(call.call_id, set()):
            watcher.moved()
        app = self._apps.get(call.app_id)
        if app is not None:
            app.began(call)

    def said(self, call: FedCall, message: ServerMessage, payload: bytes) -> None:
        """A call has said something with a number."""
        watchers = self._watchers.get(call.call_id)
        app = self._apps.get(call.app_id)
        if (watchers is None and app is None) or isinstance(message, NOT_FOR_WATCHERS):
            return
        if watchers:
            item = item_of(message, payload)
            for watcher in tuple(watchers):
                watcher.put(item)
        if app is not None:
            app.said(call, message)

    def changed(self, call: FedCall) -> None:
        """Something about a call is otherwise, of which it says nothing."""
        app = self._apps.get(call.app_id)
        if app is not None:
            app.changed(call)

    def ended(self, call: FedCall) -> None:
        """A call has said its last; it stays to be read until it is `forgotten`."""
        self._lately[call.call_id] = call
        self._take_out(call)
        self._watchers.pop(call.call_id, None)
        app = self._apps.get(call.app_id)
        if app is not None:
            app.ended(call)

    def forgotten(self, call_id: str) -> None:
        self._lately.pop(call_id, None)

    def left(self, call: FedCall) -> None:
        """A call goes on elsewhere."""
        self._take_out(call)
        for watcher in self._watchers.pop(call.call_id, set()):
            watcher.moved()
        app = self._apps.get(call.app_id)
        if app is not None:
            app.left(call)

    def _take_out(self, call: FedCall) -> None:
        self._calls.pop(call.call_id, None)
        of_app = self._by_app.get(call.app_id, {})
        of_app.pop(call.call_id, None)
        if not of_app:
            self._by_app.pop(call.app_id, None)

    # --- the watchers' side ---

    def find(self, app_id: str, call_id: str) -> FedCall | None:
        """The app's call, if it is in memory here, ended a moment ago at the most."""
        call = self._calls.get(call_id) or self._lately.get(call_id)
        return call if call is not None and call.app_id == app_id else None

    def holds(self, call_id: str) -> bool:
        """Whether a call goes on here, or is being judged."""
        return call_id in self._calls

    def watch_call(
        self, app_id: str, call_id: str, from_seq: int, watcher: CallWatcher, *, levels: bool = False
    ) -> Replay | None:
        """What the call said after `from_seq`; the watcher is told what it says from now on, with nothing between.

        None when the call is not here; then the watcher hears `moved` when it comes, until `unwatch_call`.
        """
        call = self.find(app_id, call_id)
        if call is None:
            if call_id not in self._calls:  # another app's must not be told from one that is not there
                self._watchers.setdefault(call_id, set()).add(watcher)
            return None
        live = call_id in self._calls
        record = call.record
        replay = Replay(said_after(record, from_seq), record.last_seq, record.last_kept_seq, live)
        if live:
            self._watchers.setdefault(call_id, set()).add(watcher)
            if levels:
                self._app(app_id).watch_levels(call_id, watcher)
        return replay

    def unwatch_call(self, app_id: str, call_id: str, watcher: CallWatcher) -> None:
        """Tell the watcher nothing more; again does nothing."""
        watchers = self._watchers.get(call_id, set())
        watchers.discard(watcher)
        if not watchers:
            self._watchers.pop(call_id, None)
        app = self._apps.get(app_id)
        if app is not None:
            app.unwatch_levels(call_id, watcher)
            self._tidy(app_id, app)

    def watch_app(self, app_id: str, watcher: AppWatcher) -> None:
        """Tell the watcher of the app's calls here as they are, and of every change from now on."""
        self._app(app_id).watch(watcher)

    def summaries(self, app_id: str) -> list[Summary]:
        """The app's calls here as they are; it must be watched."""
        return self._app(app_id).summaries()

    def unwatch_app(self, app_id: str, watcher: AppWatcher) -> None:
        app = self._apps.get(app_id)
        if app is not None:
            app.unwatch(watcher)
            self._tidy(app_id, app)

    def _app(self, app_id: str) -> AppFeed:
        app = self._apps.get(app_id)
        if app is None:
            app = self._apps[app_id] = AppFeed(self._by_app.get(app_id, {}).values())
        return app

    def _tidy(self, app_id: str, app: AppFeed) -> None:
        if not app.wanted:
            app.stop()
            del self._apps[app_id]

    async def stop(self) -> None:
        """Tell nobody anything more."""
        tasks = [app.stop() for app in self._apps.values()]
        self._apps.clear()
        self._watchers.clear()
        await asyncio.gather(*tasks, return_exceptions=True)


def item_of(message: ServerMessage, payload: bytes) -> Item:
    """A call's message as watchers are told it."""
    match message:
        case messages.Transcript(final=False):
            return Item(payload, key=_text_key(message), seq=message.seq)
        case messages.Transcript():
            return Item(payload, ends=_text_key(message), seq=message.seq)
        case messages.Speaker():
            return Item(payload, key=f"speaker/{message.call_id}/{message.segment_id}", seq=message.seq)
        case _:
            return Item(for_watchers(payload), seq=message.seq)


def _text_key(message: messages.Transcript) -> str:
    return f"text/{message.call_id}/{message.segment_id}"


def said_after(record: MessageRecord, seq: int) -> list[tuple[int, bytes]]:
    """Number and payload of what a watcher has missed who has seen everything up to `seq`."""
    said = record.numbered_after(seq)
    if said and said[0][1].startswith(_STARTED):
        said[0] = said[0][0], for_watchers(said[0][1])
    return said


def for_watchers(payload: bytes) -> bytes:
    """A message without what only the call's own client may know."""
    if not payload.startswith(_STARTED):
        return payload
    started = decode_server(payload)
    assert isinstance(started, messages.Started)
    return encode(msgspec.structs.replace(started, resume_token=""))
