"""A call as people read it afterwards: the server's messages, folded into one JSON-able document.

The same fold serves a live call and one that is rebuilt from the journal.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.call.alerts import LiveAlert
from gateway.call.settings import CallTerms
from protocol import messages
from protocol.messages import Evidence, ServerMessage, Start
from protocol.rules.circumstances import Circumstances, Hole


class CallDocument:
    """Holds the document of one call; `apply` takes each server message in the order of `seq`."""

    def __init__(self, call_id: str, start: Start, roles: tuple[str, ...]) -> None:
        self._segments: dict[str, dict[str, Any]] = {}
        self._alerts: dict[str, dict[str, Any]] = {}
        self.content: dict[str, Any] = {
            "call_id": call_id,
            "rate": start.rate,
            "channels": start.channels,
            "roles": list(roles),
            "language": start.language,
            "metadata": start.metadata,
            "categories": list(start.categories),
            "samples": 0,
            "duration_ms": 0,
            "reason": "",
            "segments": [],
            "alerts": [],
            "shadow_alerts": [],
            "gaps": [],
            "notes": [],
            "warnings": [],
            "qc": None,
        }

    def apply(self, message: ServerMessage) -> None:
        """Fold one message in; those that say nothing lasting change nothing."""
        match message:
            case messages.Segment():
                self._segment(message)
            case messages.Transcript():
                self._segment_of(message).update(
                    text=message.text,
                    final=message.final,
                    language=message.language,
                    # As JSON already: nobody looks into them here, and as objects they would take six times the memory.
                    words=msgspec.Raw(msgspec.json.encode(message.words)),
                    stable_chars=message.stable_chars,
                )
            case messages.Speaker():
                self._segment_of(message)["speaker"] = {
                    "state": message.state,
                    "name": message.name,
                    "score": message.score,
                    "stable": message.stable,
                }
            case messages.Alert():
                self._add_alert(message, "alerts")
            case messages.AlertUpdate():
                self._update_alert(message)
            case messages.Gap():
                self.content["gaps"].append(_plain(message))
            case messages.Warning():
                self.content["warnings"].append(_plain(message))
            case messages.QcStatus():
                self._qc().update(state=message.state, state_desc=message.state_desc)
            case messages.QcResult():
                self._qc().update(result=message.result, missed=msgspec.to_builtins(message.missed))
            case messages.Ended():
                self.content.update(samples=message.samples, duration_ms=message.duration_ms, reason=message.reason)
            case _:
                pass

    def keep_in_shadow(self, message: messages.Alert | messages.AlertUpdate) -> None:
        """Keep what a rule in shadow would have sent."""
        if isinstance(message, messages.Alert):
            self._add_alert(message, "shadow_alerts")
        else:
            self._update_alert(message)

    def agree(self, terms: CallTerms) -> None:
        """Take over what the client has changed of the call's terms."""
        self.content.update(
            roles=list(terms.roles),
            language=terms.language,
            metadata=terms.metadata,
            categories=list(terms.categories),
        )

    def note(self, kind: str, value: str, at_ms: int) -> None:
        """Keep a key pressed (`dtmf`) or a named point (`mark`)."""
        self.content["notes"].append({"kind": kind, "value": value, "at_ms": at_ms})

    def _segment(self, message: messages.Segment) -> None:
        self._segment_of(message).update(begin_ms=message.begin_ms, end_ms=message.end_ms, state=message.state)

    def _segment_of(self, message: messages.Segment | messages.Transcript | messages.Speaker) -> dict[str, Any]:
        segment = self._segments.get(message.segment_id)
        if segment is None:
            segment = self._segments[message.segment_id] = {
                "segment_id": message.segment_id,
                "channel": message.channel,
                "role": message.role,
            }
            if isinstance(message, messages.Transcript):
                segment.update(begin_ms=message.begin_ms, end_ms=message.end_ms, state="closed")
            self.content["segments"].append(segment)
        return segment

    def _add_alert(self, message: messages.Alert, place: str) -> None:
        alert = _plain(message)
        alert["status"] = alert.pop("certainty")
        self._alerts[message.alert_id] = alert
        self.content[place].append(alert)

    def _update_alert(self, message: messages.AlertUpdate) -> None:
        alert = self._alerts.get(message.alert_id)
        if alert is not None:
            alert["status"], alert["reason"] = message.status, message.reason
            alert["evidence"] += msgspec.to_builtins(message.evidence)
            added = (evidence.keyword for evidence in message.evidence)
            alert["keywords"] = list(dict.fromkeys([*alert["keywords"], *added]))

    def _qc(self) -> dict[str, Any]:
        if self.content["qc"] is None:
            self.content["qc"] = {"session_id": self.content["call_id"], "state": 0, "state_desc": ""}
        qc: dict[str, Any] = self.content["qc"]
        return qc


def alerts_of(document: dict[str, Any]) -> list[LiveAlert]:
    """The alerts of a stored document, for a verdict that comes when the call is no longer in memory."""
    return [
        LiveAlert(
            alert["alert_id"],
            alert["category"],
            alert["rule"],
            alert["status"],
            list(alert["keywords"]),
            msgspec.convert(alert["evidence"], list[Evidence]),
            list(alert["pending"]),
            alert.get("options"),
        )
        for alert in document["alerts"]
    ]


def holes_of(document: dict[str, Any]) -> list[Hole]:
    """The holes of a stored document that are long enough to hide a word."""
    around, rate_hz = Circumstances(), document["rate"]
    for gap in document["gaps"]:
        begin_ms, end_ms = (gap[edge] * 1000 // rate_hz for edge in ("from_sample", "to_sample"))
        around.lose(Hole(gap["channel"], document["roles"][gap["channel"]], begin_ms, end_ms))
    return around.holes


def _plain(message: ServerMessage) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(message)
    for key in ("type", "call_id", "seq"):
        plain.pop(key, None)
    return plain
