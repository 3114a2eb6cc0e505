"""Counts a call that has ended as one that goes on."""

from types import SimpleNamespace

from gateway.session.in_memory import CallsInMemory
from gateway.session.session import CallSession

_end = CallsInMemory.end


def _and_kept(self: CallsInMemory, session: CallSession) -> None:
    _end(self, session)
    self._going_on[session.call_id] = SimpleNamespace(live=True, app_id=session.app_id)  # type: ignore[assignment]


def break_it() -> None:
    CallsInMemory.end = _and_kept  # type: ignore[method-assign]
