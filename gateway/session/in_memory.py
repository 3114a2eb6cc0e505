"""Which calls a process has in memory: those that go on, those that ended lately, and those that it had to give up."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from gateway.call.events import Accepted, LoadChanged
from gateway.session.feed import Feed
from gateway.session.rebuilding import Rebuilt
from gateway.session.session import CallSession
from gateway.telemetry import Metrics


class CallsInMemory:
    """Belongs to one event loop."""

    def __init__(self, feed: Feed, metrics: Metrics, resume_window_s: float) -> None:
        self._feed = feed
        self._metrics = metrics
        self._resume_window_s = resume_window_s
        self._going_on: dict[str, CallSession] = {}
        self._lately: dict[str, CallSession] = {}
        """Ended, and kept for the resume window: a client whose socket broke comes back for the last messages."""
        self._cut_off: dict[str, str] = {}
        """Calls that cannot go on after a crash, and whose they are: their clients are told, for the resume window."""
        self._load = 0

    # --- what becomes of calls ---

    def enter(self, session: CallSession) -> None:
        """The call goes on here."""
        self._going_on[session.call_id] = session
        self._metrics.calls_live.set(len(self._going_on))

    def begin(self, session: CallSession, accepted: Accepted) -> None:
        """The call goes on here, from its beginning: its client is told of it."""
        self.enter(session)
        self._feed.began(session)
        self._metrics.calls_total.inc()
        session.receive(accepted)
        if self._load:
            session.receive(LoadChanged(self._load))

    def take_up(self, session: CallSession, rebuilt: Rebuilt) -> None:
        """The call goes on here from where it was rebuilt to; how loaded the recogniser was then is past."""
        self.enter(session)
        session.go_on(rebuilt)
        if session.call_id in self._going_on and rebuilt.past.call.load != self._load:
            session.receive(LoadChanged(self._load))

    def end(self, session: CallSession) -> None:
        """The call has said its last."""
        del self._going_on[session.call_id]
        self._metrics.calls_live.set(len(self._going_on))
        self._lately[session.call_id] = session
        asyncio.get_running_loop().call_later(self._resume_window_s, self._forget, session.call_id)
        self._feed.ended(session)

    def _forget(self, call_id: str) -> None:
        self._lately.pop(call_id, None)
        self._feed.forgotten(call_id)

    def lose(self, call_id: str) -> None:
        """The call goes on elsewhere: say nothing more of it, and hand nothing in."""
        session = self._going_on.pop(call_id, None)
        if session is not None:
            session.let_go()
            self._feed.left(session)
            self._metrics.calls_live.set(len(self._going_on))

    def cut_off(self, app_id: str, call_id: str) -> None:
        """The call could not be rebuilt."""
        self._cut_off[call_id] = app_id
        asyncio.get_running_loop().call_later(self._resume_window_s, self._cut_off.pop, call_id, None)

    def pace(self, level: int) -> None:
        """The recogniser is so loaded (0 to 6): every call, and those to come, ask for texts accordingly."""
        if level != self._load:
            self._load = level
            for session in list(self.going_on):
                session.receive(LoadChanged(level))

    # --- what there is ---

    @property
    def going_on(self) -> Collection[CallSession]:
        """The calls that have not said their last, as they are at any moment; some are over, and being judged."""
        return self._going_on.values()

    @property
    def kept(self) -> int:
        """How many calls take memory."""
        return len(self._going_on) + len(self._lately)

    def knows(self, call_id: str) -> bool:
        """Whether a client that comes back to the call gets an answer here."""
        return any(call_id in known for known in (self._going_on, self._lately, self._cut_off))

    def has_any_of(self, app_id: str) -> bool:
        """Whether the app has a call that a client could come back to."""
        return any(one.app_id == app_id for kept in (self._going_on, self._lately) for one in kept.values())

    def find(self, app_id: str, call_id: str) -> CallSession | None:
        """The app's call, if it goes on."""
        return _of_app(app_id, self._going_on.get(call_id))

    def find_again(self, app_id: str, call_id: str) -> CallSession | None:
        """The app's call, if it goes on or has ended lately."""
        return _of_app(app_id, self._going_on.get(call_id) or self._lately.get(call_id))

    def was_cut_off(self, app_id: str, call_id: str) -> bool:
        return self._cut_off.get(call_id) == app_id


def _of_app(app_id: str, session: CallSession | None) -> CallSession | None:
    return session if session is not None and session.app_id == app_id else None
