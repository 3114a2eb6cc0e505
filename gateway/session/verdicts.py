"""What becomes of a call's verdict when the call is not in memory any more: its stored document takes it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from gateway.call.alerts import reconcile
from gateway.call.document import alerts_of, holes_of
from gateway.call.track_record import outcomes
from gateway.ports import CallState, CallStore, Clock, RuleOutcomes
from protocol.messages import AlertUpdate, Missed


class StoredVerdicts:
    """Needs no call in memory, so any process that reaches the stores may judge."""

    def __init__(self, calls: CallStore, track: RuleOutcomes, clock: Clock) -> None:
        self._calls = calls
        self._track = track
        self._clock = clock

    async def judge(self, app_id: str, call_id: str, result: dict[str, Any], failure: str) -> None:
        """Hold a stored call's alerts against `result`, or note why there will be none; a repeated verdict changes
        nothing."""
        record = await self._calls.get(app_id, call_id)
        # A task that was given up and tried again may still bring its verdict; one that is there stands.
        if record is None or record.state == "judged" or (record.state == "failed" and failure):
            return
        updates, missed = reconcile(
            alerts_of(record.document),
            None if failure else result,
            holes=holes_of(record.document),
            roles=record.document["roles"],
        )
        document = judged(record.document, updates, missed, result, failure)
        state: CallState = "failed" if failure else "judged"
        # Before the document, which says that this is done.
        await self.track(app_id, call_id, document, record.began_at_ms)
        await self._calls.save(replace(record, state=state, document=document))

    async def track(self, app_id: str, call_id: str, document: dict[str, Any], began_at_ms: int) -> None:
        """Keep how the rules did in a call that is judged now; a verdict that comes again takes its own place."""
        now_ms = round(self._clock.wall() * 1000)
        await self._track.keep(app_id, call_id, now_ms, outcomes(document, now_ms - began_at_ms))


def judged(
    document: dict[str, Any],
    updates: list[AlertUpdate],
    missed: list[Missed],
    result: dict[str, Any],
    failure: str,
) -> dict[str, Any]:
    """A stored call's document after a verdict that came when the call was no longer in memory."""
    changes = {update.alert_id: update for update in updates}
    alerts = [
        {**alert, "status": changes[alert["alert_id"]].status, "reason": changes[alert["alert_id"]].reason}
        if alert["alert_id"] in changes
        else alert
        for alert in document["alerts"]
    ]
    qc = {
        **(document["qc"] or {"session_id": document["call_id"]}),
        "result": result,
        "missed": msgspec.to_builtins(missed),
    }
    if failure:
        qc["failure"] = failure
    return {**document, "alerts": alerts, "qc": qc}
