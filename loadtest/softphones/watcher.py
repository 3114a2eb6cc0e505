"""Those who look on: sockets on `/v1/watch` that watch all calls, or one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import ClassVar, Final

import msgspec
from msgspec import Struct

from loadtest.softphones.listener import Listener, Measures
from loadtest.softphones.socket import Socket, Target
from protocol.watching import SUBPROTOCOL, Watch

PATH: Final = "/v1/watch"
_TIMED: Final = frozenset({"segment", "transcript", "speaker", "alert", "alert_update"})


class _Brief(Struct):
    """What is looked at of any message."""

    type: str
    call_id: str = ""
    at_ms: int = 0
    code: str = ""


_brief = msgspec.json.Decoder(_Brief)


class Watcher(Socket):
    """Watches call `call_id`, or all of the app's where that is None."""

    subprotocol: ClassVar[str] = SUBPROTOCOL

    def __init__(
        self,
        target: Target,
        measures: Measures,
        listeners: Mapping[str, Listener],
        *,
        call_id: str | None,
        levels: bool,
    ) -> None:
        """`listeners`: by call id, of the calls that this process carries: what they saw is what is timed here."""
        super().__init__(target)
        self._measures = measures
        self._listeners = listeners
        self._watch = Watch(call_id=call_id, levels=levels)
        self._levels_at_s = 0.0
        self._live_from_s = float("inf")

    def opened(self, now_s: float) -> None:
        self.say(self._watch)

    def heard(self, text: bytes) -> None:
        now_s = time.monotonic()
        message = _brief.decode(text)
        self._measures.counts["watch_messages"] += 1
        if message.type == "levels":
            if self._levels_at_s:
                self._measures.values["watch_levels_gap"].append(now_s - self._levels_at_s)
            self._levels_at_s = now_s
        elif message.type == "caught_up":
            self._live_from_s = now_s
        elif message.type == "error":
            self.lost(f"watching: {message.code}", refused=True)
        elif now_s > self._live_from_s and message.type in _TIMED and message.call_id in self._listeners:
            due_s = self._listeners[message.call_id].due_s(message.at_ms)
            self._measures.values["watch_transit"].append(now_s - due_s)

    def lost(self, reason: str, *, refused: bool = False) -> None:
        self._measures.counts["watchers_failed"] += 1
        self._measures.failures[f"watcher: {reason}"] += 1
        self.close()
