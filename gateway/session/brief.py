"""One call in brief, as a board shows it: kept up message by message, built whole from the document once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

from gateway.call.document import CallDocument
from gateway.call.settings import CallTerms
from protocol import messages
from protocol.messages import ServerMessage
from protocol.watching import (
    MAX_ALERTS_IN_BRIEF,
    MAX_LATEST_CHARACTERS,
    AlertInBrief,
    CallInBrief,
    LatestText,
)

_MAX_RULE_CHARACTERS = 256


class Shown(Protocol):
    """What is looked at of a call."""

    terms: CallTerms
    document: CallDocument
    began_at_ms: int
    ended_at_ms: int | None

    @property
    def call_id(self) -> str: ...
    @property
    def progress(self) -> tuple[int, int]:
        """Number of the latest message, and instants that are acked."""

    @property
    def samples(self) -> int: ...
    @property
    def live(self) -> bool: ...
    @property
    def paused(self) -> bool: ...
    @property
    def attached(self) -> bool: ...


class CallBrief:
    """What a board shows of a call beyond what the call itself knows at any time."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        """`content` is the call's document as of now."""
        self._open: dict[str, int] = {}
        """Channel by open segment."""
        self._names: dict[int, str] = {}
        """Who is known to speak, by channel."""
        self._conflicts: set[int] = set()
        """Channels with a voice that cannot be there."""
        self._latest: tuple[int, str, bool, int] | None = None
        """Channel, text, whether it is final, and its end."""
        self._alerts: dict[str, AlertInBrief] = {}
        for segment in content["segments"]:
            self._take_segment(segment)
        for alert in content["alerts"]:
            self._alerts[alert["alert_id"]] = _in_brief(
                alert["alert_id"], alert["category"], alert["rule"], alert["status"], alert["at_ms"]
            )
        self._forget_retracted()

    def _take_segment(self, segment: Mapping[str, Any]) -> None:
        channel = segment["channel"]
        if segment.get("state") == "opened":
            self._open[segment["segment_id"]] = channel
        if segment.get("text"):
            self._latest = channel, segment["text"], segment.get("final", False), segment.get("end_ms", 0)
        speaker = segment.get("speaker")
        if speaker is not None:
            self._take_speaker(channel, speaker["name"], speaker["state"])

    def _take_speaker(self, channel: int, name: str, state: str) -> None:
        self._names[channel] = name
        if state == "conflict":
            self._conflicts.add(channel)
        else:
            self._conflicts.discard(channel)

    def apply(self, message: ServerMessage) -> None:
        """Take the next message of the call."""
        match message:
            case messages.Segment(segment_id=segment_id, channel=channel, state="opened"):
                self._open[segment_id] = channel
            case messages.Segment(segment_id=segment_id):
                self._open.pop(segment_id, None)
            case messages.Transcript():
                if message.text:
                    self._latest = message.channel, message.text, message.final, message.end_ms
            case messages.Speaker():
                self._take_speaker(message.channel, message.name, message.state)
            case messages.Alert():
                self._alerts[message.alert_id] = _in_brief(
                    message.alert_id, message.category, message.rule, message.certainty, message.at_ms
                )
            case messages.AlertUpdate():
                known = self._alerts.get(message.alert_id)
                if known is not None:
                    self._alerts[message.alert_id] = _in_brief(
                        known.alert_id, known.category, known.rule, message.status, known.at_ms
                    )
                    self._forget_retracted()
            case _:
                pass

    def _forget_retracted(self) -> None:
        for alert_id in [one.alert_id for one in self._alerts.values() if one.status == "retracted"]:
            del self._alerts[alert_id]

    def of(self, call: Shown) -> CallInBrief:
        """The call as of now."""
        content, audio = call.document.content, call.terms.audio
        roles = content["roles"]
        alerts = list(self._alerts.values())
        return CallInBrief(
            call_id=call.call_id,
            state=_state(call),
            agent=agent_of(content),
            roles=roles,
            language=content["language"],
            rate=audio.rate_hz,
            channels=audio.channels,
            began_at_ms=call.began_at_ms,
            ended_at_ms=call.ended_at_ms,
            duration_ms=audio.samples_to_ms(call.samples),
            seq=call.progress[0],
            speaking=[roles[channel] for channel in sorted(set(self._open.values()))] if call.live else [],
            speakers={roles[channel]: name for channel, name in sorted(self._names.items()) if name},
            conflicts=[roles[channel] for channel in sorted(self._conflicts)],
            latest=self._latest_text(roles),
            alerts=alerts[-MAX_ALERTS_IN_BRIEF:],
            alerts_before=max(0, len(alerts) - MAX_ALERTS_IN_BRIEF),
            connected=call.attached,
        )

    def _latest_text(self, roles: list[str]) -> LatestText | None:
        if self._latest is None:
            return None
        channel, text, final, end_ms = self._latest
        return LatestText(role=roles[channel], text=text[-MAX_LATEST_CHARACTERS:], final=final, end_ms=end_ms)


def agent_of(content: Mapping[str, Any]) -> str:
    """The `agent` of the metadata in a call's document; nothing where it names none."""
    agent = content["metadata"].get("agent", "")
    return agent if isinstance(agent, str) else ""


def _state(call: Shown) -> Literal["live", "paused", "judging", "judged", "failed"]:
    if call.live:
        return "paused" if call.paused else "live"
    content = call.document.content
    if "missed" in (content["qc"] or {}):
        return "failed" if content["reason"] == "qc_failed" else "judged"
    return "judging"


def _in_brief(alert_id: str, category: str, rule: str, status: str, at_ms: int) -> AlertInBrief:
    return AlertInBrief(
        alert_id=alert_id, category=category, rule=rule[:_MAX_RULE_CHARACTERS], status=status, at_ms=at_ms
    )
