"""Who speaks on each channel, and what identifications are under way."""

from __future__ import annotations

from dataclasses import replace

from gateway.call.channel import Utterance
from gateway.call.events import Identified
from gateway.call.settings import CallTerms
from gateway.call.speaker import Label, RollingLabel, SpeakerSettings, conflicts
from protocol.messages import Candidate, Speaker


class Labels:
    """The rolling labels of all channels. Messages it returns still lack `call_id`, `seq` and `at_ms`."""

    def __init__(self, settings: SpeakerSettings, terms: CallTerms) -> None:
        self._rolling = [
            RollingLabel(settings, terms.audio.rate_hz, one_party=terms.one_party_per_channel)
            for _ in range(terms.audio.channels)
        ]
        self._one_party = terms.one_party_per_channel
        self._ordinal = 0
        self._asked: dict[int, tuple[Utterance, int, int]] = {}
        self._named: dict[str, tuple[str, bool]] = {}

    @property
    def pending(self) -> bool:
        return bool(self._asked)

    def ask(self, utterance: Utterance, net_speech_ms: int, heard_ms: int) -> int:
        """Remember a request about the speech before `heard_ms`; its answer will carry the ordinal returned."""
        self._ordinal += 1
        self._asked[self._ordinal] = utterance, net_speech_ms, heard_ms
        return self._ordinal

    def who(self, segment_id: str, channel: int) -> tuple[str, bool]:
        """The name (empty: nobody known) and stability of a segment's label, or else of its channel's one party."""
        label = self._rolling[channel].label if self._one_party else Label()
        return self._named.get(segment_id, (label.name, label.stable))

    def give_up(self) -> None:
        self._asked.clear()

    def answer(self, event: Identified, terms: CallTerms) -> Speaker | None:
        """The label after an identification; None for an answer that nobody waits for any more."""
        asked = self._asked.pop(event.ordinal, None)
        if asked is None:
            return None
        utterance, net_speech_ms, heard_ms = asked
        rolling = self._rolling[utterance.channel]
        if not event.refused:
            rolling.update(utterance.segment_id, net_speech_ms, event.candidates)
        # Where anybody may speak, the label of the segment before says nothing of this one.
        told = Label() if event.refused and not self._one_party else self._judged(utterance.channel, terms)
        return self._message(utterance, net_speech_ms, heard_ms, told, terms)

    def at_close(self, utterance: Utterance, terms: CallTerms) -> Speaker:
        """The label of a segment too short to be identified: the channel's own, where it carries one party."""
        label = self._judged(utterance.channel, terms) if self._one_party else Label()
        return self._message(utterance, utterance.net_speech_ms, utterance.end_ms, label, terms)

    def _judged(self, channel: int, terms: CallTerms) -> Label:
        labels = {index: rolling.label for index, rolling in enumerate(self._rolling)}
        agent = terms.metadata.get("agent")
        if channel in conflicts(labels, terms.roles, agent if isinstance(agent, str) else ""):
            return replace(labels[channel], state="conflict")
        return labels[channel]

    def _message(
        self, utterance: Utterance, net_speech_ms: int, heard_ms: int, label: Label, terms: CallTerms
    ) -> Speaker:
        self._named[utterance.segment_id] = label.name, label.stable
        return Speaker(
            segment_id=utterance.segment_id,
            channel=utterance.channel,
            role=terms.roles[utterance.channel],
            state=label.state,
            name=label.name,
            score=round(label.score, 2),
            margin=round(label.margin, 2),
            net_speech_ms=net_speech_ms,
            stable=label.stable,
            candidates=[Candidate(name=hit.name, score=round(hit.score, 2)) for hit in label.candidates],
            heard_ms=heard_ms,
        )
