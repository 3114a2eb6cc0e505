"""Which stretches are with the recogniser, and the text each segment has so far.

The softphone may have a recogniser of its own. From its first `transcript` of a channel on, that is where the channel's
words come from: ours is not asked about it any more, and what it still owed for that time is forgotten.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from gateway.call.agreement import Agreement
from gateway.call.channel import TextWanted, Utterance
from gateway.call.events import Transcribed
from gateway.call.text import Text, continued, on_media_clock
from protocol.messages import Language


@dataclass(frozen=True, slots=True)
class Said:
    """A segment's new text. Rules look at `heard`; people read `shown`, of which `stable_chars` stay as they are."""

    wanted: TextWanted
    heard: Text
    shown: Text
    stable_chars: int


@dataclass(slots=True)
class _Growing:
    """A segment that has no final text yet."""

    utterance: Utterance
    language: Language
    text: Text = field(default_factory=Text)
    newest: int = 0
    """Ordinal of the request that the text is from; 0: nothing was shown yet."""
    agreement: Agreement = field(default_factory=Agreement)


class Transcripts:
    """Requests by ordinal, texts by segment. Final texts of a channel come in the order of its segments."""

    def __init__(self) -> None:
        self._ordinal = 0
        self._asked: dict[int, TextWanted] = {}
        self._growing: dict[str, _Growing] = {}
        self._finals: dict[int, deque[int]] = {}
        """By channel, the finals asked for and not said, oldest first ..."""
        self._early: dict[int, Said] = {}
        """... and those that an older one holds up."""
        self._ceded: set[int] = set()

    @property
    def finals_pending(self) -> int:
        return sum(map(len, self._finals.values())) if self._finals else 0

    @property
    def unsettled_ms(self) -> int | None:
        """Where the earliest stretch begins whose final text is awaited."""
        oldest = (self._wanted(ordinals[0]) for ordinals in self._finals.values() if ordinals)
        return min((wanted.utterance.begin_ms for wanted in oldest), default=None)

    def ceded(self, channel: int) -> bool:
        """Whether the channel's words are the softphone's."""
        return channel in self._ceded

    def begin(self, utterance: Utterance, language: Language) -> None:
        """A segment has opened: its texts are in this language, whatever is agreed on meanwhile for later ones."""
        if utterance.channel not in self._ceded:
            self._growing[utterance.segment_id] = _Growing(utterance, language)

    def ask(self, wanted: TextWanted) -> tuple[int, Language] | None:
        """Remember a request: the ordinal that its answer will carry, and the language. None: it is not to be asked."""
        growing = self._growing.get(wanted.utterance.segment_id)
        if growing is None:
            return None
        self._ordinal += 1
        self._asked[self._ordinal] = wanted
        if wanted.kind == "final":
            self._finals.setdefault(wanted.utterance.channel, deque()).append(self._ordinal)
        return self._ordinal, growing.language

    def answer(self, event: Transcribed) -> tuple[TextWanted | None, list[Said]]:
        """The request an answer belongs to (None: nobody waits for it), and what can be said with it, in order."""
        wanted = self._asked.pop(event.ordinal, None)
        if wanted is None:
            return None, []
        growing = self._growing.get(wanted.utterance.segment_id)
        if growing is None:
            return wanted, []
        if wanted.kind == "final":
            text = self._heard(growing, wanted, event)
            self._early[event.ordinal] = Said(wanted, text, text, len(text.text))
            return wanted, self._in_turn(wanted.utterance.channel)
        if event.superseded or event.failed or event.ordinal < growing.newest:
            return wanted, []  # nothing new, or a later stretch was quicker
        growing.newest = event.ordinal
        growing.text = self._heard(growing, wanted, event)
        shown = growing.agreement.take(growing.text)
        # Evidence quotes what people read, unless the hypothesis says something else.
        heard = shown.text if shown.faithful else growing.text
        return wanted, [Said(wanted, heard, shown.text, shown.stable_chars)]

    def agreed_ends_ms(self, segment_id: str) -> tuple[int, ...]:
        """Where, on the media clock, the words ended that an open segment's hypotheses agree on."""
        growing = self._growing.get(segment_id)
        return growing.agreement.ends_ms if growing is not None else ()

    def cede(self, channel: int, from_ms: int) -> list[Utterance]:
        """The softphone's own words of a channel come from here: ask no more, forget what is owed from `from_ms` on.

        Returns the segments whose partial text has been shown and that now get no other, oldest first.
        """
        self._ceded.add(channel)
        ordinals = self._finals.pop(channel, deque())
        closed = {self._wanted(ordinal).utterance.segment_id: ordinal for ordinal in ordinals}
        forgotten = [
            growing.utterance
            for segment_id, growing in self._growing.items()
            if growing.utterance.channel == channel and (segment_id not in closed or growing.utterance.end_ms > from_ms)
        ]
        shown = [utterance for utterance in forgotten if self._growing.pop(utterance.segment_id).newest]
        for utterance in forgotten:
            self._early.pop(closed.pop(utterance.segment_id, 0), None)
        self._finals[channel] = deque(closed.values())
        return shown

    def give_up(self) -> list[Said]:
        """Stop waiting: every final that was owed, those that never came without a word in them."""
        owed = [ordinal for ordinals in self._finals.values() for ordinal in ordinals]
        said = [self._early.get(ordinal) or _nothing_said(self._wanted(ordinal)) for ordinal in sorted(owed)]
        for waiting in (self._asked, self._early, self._finals, self._growing):
            waiting.clear()
        return said

    def _wanted(self, ordinal: int) -> TextWanted:
        return self._early[ordinal].wanted if ordinal in self._early else self._asked[ordinal]

    def _in_turn(self, channel: int) -> list[Said]:
        """The finals of a channel that no older one holds up."""
        said, ordinals = [], self._finals[channel]
        while ordinals and ordinals[0] in self._early:
            said.append(self._early.pop(ordinals.popleft()))
            del self._growing[said[-1].wanted.utterance.segment_id]
        return said

    def _heard(self, growing: _Growing, wanted: TextWanted, event: Transcribed) -> Text:
        words = on_media_clock(event.words, wanted.begin_ms)
        if wanted.kind == "partial" and wanted.begin_ms > growing.utterance.begin_ms:
            return continued(growing.text, event.language, words, wanted.begin_ms)
        return Text(event.text, event.language, words, growing.utterance.begin_ms, growing.utterance.end_ms)


def nothing_heard(utterance: Utterance) -> Text:
    """The final text of a segment that no recogniser could answer for."""
    return Text(begin_ms=utterance.begin_ms, end_ms=utterance.end_ms)


def _nothing_said(wanted: TextWanted) -> Said:
    text = nothing_heard(wanted.utterance)
    return Said(wanted, text, text, 0)
