"""What there is to tell of the calls that this process has in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.ports import CallRecord
from gateway.session.calls import Calls
from gateway.session.session import CallSession


class CallsHere:
    """Fills the role LiveCalls with one process's calls."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def now(self, app_id: str, call_ids: Sequence[str]) -> Mapping[str, dict[str, Any]]:
        """See the port; the documents' lists are the live ones, which go on growing."""
        found = {call_id: self._calls.find(app_id, call_id) for call_id in call_ids}
        return {call_id: of_session(session) for call_id, session in found.items() if session is not None}

    async def filed(self, call_id: str) -> None:
        await self._calls.filed(call_id)

    async def holds(self, app_id: str, call_id: str) -> bool:
        await self._calls.recovery.taken_up(call_id)
        await self._calls.filed(call_id)
        return self._calls.find(app_id, call_id) is not None


def of_session(session: CallSession) -> dict[str, Any]:
    """A call in memory as `/v1/calls/{id}` answers it."""
    return {
        "state": "live" if session.live else "judging",
        "began_at_ms": session.began_at_ms,
        "ended_at_ms": session.ended_at_ms,
        "seq": session.next_seq - 1,
        "paused": session.paused,
        **session.snapshot(),
    }


def of_record(record: CallRecord) -> dict[str, Any]:
    """A stored call as `/v1/calls/{id}` answers it."""
    return {
        "state": record.state,
        "began_at_ms": record.began_at_ms,
        "ended_at_ms": record.ended_at_ms,
        **record.document,
    }
