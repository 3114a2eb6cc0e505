"""Counts a call that has ended as one that goes on."""

from types import SimpleNamespace

from gateway.session.calls import Calls
from gateway.session.session import CallSession

_ended = Calls._ended


def _and_kept(self: Calls, session: CallSession) -> None:
    _ended(self, session)
    self._live[session.call_id] = SimpleNamespace(live=True, app_id=session.app_id)  # type: ignore[assignment]


def break_it() -> None:
    Calls._ended = _and_kept  # type: ignore[method-assign]
