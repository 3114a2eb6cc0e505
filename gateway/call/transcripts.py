"""Which stretches are with the recogniser, and the text each segment has so far."""

from __future__ import annotations

from gateway.call.channel import TextWanted, Utterance
from gateway.call.events import Transcribed
from gateway.call.text import Text, continued, on_media_clock


class Transcripts:
    """Requests by ordinal, texts by segment. A segment that has its final text takes no partial any more."""

    def __init__(self) -> None:
        self._ordinal = 0
        self._asked: dict[int, TextWanted] = {}
        self._texts: dict[str, Text] = {}
        self._newest: dict[str, int] = {}
        self._finished: set[str] = set()

    @property
    def finals_pending(self) -> int:
        return sum(wanted.kind == "final" for wanted in self._asked.values())

    @property
    def unsettled_ms(self) -> int | None:
        """Where the earliest stretch begins whose final text is awaited."""
        return min((one.utterance.begin_ms for one in self._asked.values() if one.kind == "final"), default=None)

    def ask(self, wanted: TextWanted) -> int:
        """Remember a request; its answer will carry the ordinal returned."""
        self._ordinal += 1
        self._asked[self._ordinal] = wanted
        return self._ordinal

    def answer(self, event: Transcribed) -> tuple[TextWanted, Text | None] | None:
        """The request an answer belongs to, and the segment's new text: None when it brings none, or comes too late."""
        wanted = self._asked.pop(event.ordinal, None)
        if wanted is None:
            return None
        segment_id = wanted.utterance.segment_id
        if segment_id in self._finished or (wanted.kind == "partial" and (event.superseded or event.failed)):
            return wanted, None
        if event.ordinal < self._newest.get(segment_id, 0):
            return wanted, None  # a later stretch was quicker
        self._newest[segment_id] = event.ordinal
        text = self._text(wanted, event)
        if wanted.kind == "final":
            self._finished.add(segment_id)
            self._texts.pop(segment_id, None)
            self._newest.pop(segment_id, None)
        else:
            self._texts[segment_id] = text
        return wanted, text

    def give_up(self) -> list[TextWanted]:
        """Stop waiting: the finals that never came."""
        pending = [wanted for wanted in self._asked.values() if wanted.kind == "final"]
        self._asked.clear()
        return pending

    def _text(self, wanted: TextWanted, event: Transcribed) -> Text:
        utterance = wanted.utterance
        words = on_media_clock(event.words, wanted.begin_ms)
        if wanted.kind == "partial" and wanted.begin_ms > utterance.begin_ms:
            previous = self._texts.get(utterance.segment_id, Text())
            return continued(previous, event.language, words, wanted.begin_ms)
        return Text(event.text, event.language, words, utterance.begin_ms, utterance.end_ms)


def nothing_heard(utterance: Utterance) -> Text:
    """The final text of a segment that no recogniser could answer for."""
    return Text(begin_ms=utterance.begin_ms, end_ms=utterance.end_ms)
