"""What one unit of judgement, the whole recording or one sentence, has heard so far."""

from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeAlias

import msgspec

from protocol.rules.circumstances import Said, SentenceId
from protocol.rules.matcher import Hit, Match

MAX_EVIDENCE = 50
"""So many hits of one keyword are told for a rule of the vendor's language; more say nothing new."""

# The ways in which a keyword has been heard, as bits of one int (an IntFlag would double a sentence's cost).
Kinds: TypeAlias = int
NOT_HEARD = 0
EXACT = 1  # in final text
PARTIAL = 2  # in partial text
SOUND = 4  # by pinyin, in final text
PARTIAL_SOUND = 8
_KINDS: dict[tuple[Match, bool], Kinds] = {
    ("exact", False): EXACT,
    ("exact", True): PARTIAL,
    ("pinyin", False): SOUND,
    ("pinyin", True): PARTIAL_SOUND,
}


class Evidence(msgspec.Struct, frozen=True):
    """A keyword heard at `text[begin:end]` of a sentence; `keyword` as the rule spells it.

    `measured_ms`: of what is measured instead of read, from when to when on the media clock; it may have no text.
    """

    sentence_id: SentenceId
    text: str
    begin: int
    end: int
    keyword: str
    match: Match
    measured_ms: tuple[int, int] | None = None


Identity: TypeAlias = tuple[SentenceId, int, int]
"""Sentence, keyword and which occurrence: the same when the sentence's text grows or becomes final."""


class Heard(msgspec.Struct, frozen=True):
    """A hit with what orders it among others and what tells whether it was seen before."""

    order: int
    nth: int  # of this keyword in this sentence
    keyword_id: int
    kind: Kinds
    evidence: Evidence
    said: Said
    born: int  # how many sentences began before this one

    @property
    def times_ms(self) -> tuple[int, int]:
        """From when to when on the media clock."""
        evidence = self.evidence
        return evidence.measured_ms or self.said.times_ms(evidence.text, evidence.begin, evidence.end)

    @property
    def identity(self) -> Identity:
        """What this hit is, whatever its text and place in it."""
        return self.evidence.sentence_id, self.keyword_id, self.nth


HeardByKeyword: TypeAlias = dict[int, list[Heard]]


def in_order(heard: Iterable[Heard]) -> tuple[Heard, ...]:
    """Hits by sentence and place in it, those of partial text last."""
    return tuple(sorted(heard, key=lambda one: (one.order, one.evidence.begin, one.evidence.end, one.keyword_id)))


class Sentence(msgspec.Struct, frozen=True):
    """One text of a sentence: partial, or final."""

    sentence_id: SentenceId
    text: str
    said: Said
    born: int
    order: int
    partial: bool

    def located(self, hits: Sequence[Hit]) -> HeardByKeyword:
        """The hits of this text, by keyword id."""
        heard: HeardByKeyword = {}
        sentence_id, text, said, born, order = self.sentence_id, self.text, self.said, self.born, self.order
        for hit in hits:
            before = heard.setdefault(hit.keyword_id, [])
            kind = _KINDS[hit.match, self.partial]
            evidence = Evidence(sentence_id, text, hit.begin, hit.end, hit.keyword, hit.match)
            before.append(Heard(order, len(before), hit.keyword_id, kind, evidence, said, born))
        return heard


class _OpenSentence:
    """A sentence that has only partial text: what its newest text holds, and what any of its texts held."""

    def __init__(self) -> None:
        self.newest: HeardByKeyword = {}
        self.ever: HeardByKeyword = {}

    def replace(self, heard: HeardByKeyword) -> None:
        self.newest = heard
        self.ever.update(heard)

    def heard(self, keyword_id: int, told: Container[Identity]) -> Sequence[Heard]:
        if keyword_id in self.newest:
            return self.newest[keyword_id]
        return [one for one in self.ever.get(keyword_id, ()) if one.identity in told]


class Hearing:
    """The keywords heard in the sentences of one unit; `closed` once nothing more can be heard."""

    def __init__(self) -> None:
        self.closed = False
        self.span_ms: tuple[int, int] | None = None
        """Of one sentence, where it lies; None for the whole recording."""
        self._settled: HeardByKeyword = {}
        self._settled_kinds: dict[int, Kinds] = {}
        self._open: dict[SentenceId, _OpenSentence] = {}

    def add_partial(self, sentence_id: SentenceId, heard: HeardByKeyword) -> set[int]:
        """Take a sentence's newest partial text; answers the keywords this may matter to."""
        sentence = self._open.setdefault(sentence_id, _OpenSentence())
        before = sentence.newest.keys()
        sentence.replace(heard)
        return before | heard.keys()

    def add_final(self, sentence_id: SentenceId, heard: HeardByKeyword) -> set[int]:
        """Take a sentence's final text in place of its partial ones; answers the keywords this may matter to."""
        sentence = self._open.pop(sentence_id, None)
        for keyword_id, found in heard.items():
            self._settled.setdefault(keyword_id, []).extend(found)
            kinds = self._settled_kinds.get(keyword_id, NOT_HEARD)
            for one in found:
                kinds |= one.kind
            self._settled_kinds[keyword_id] = kinds
        return heard.keys() | (sentence.ever.keys() if sentence else set())

    def kinds(self, keyword_id: int, told: Container[Identity]) -> Kinds:
        """How a keyword has been heard: in final text, in newest partial text, and in older if it was `told`."""
        kinds = self._settled_kinds.get(keyword_id, NOT_HEARD)
        if not self._open:
            return kinds
        for sentence in self._open.values():
            for one in sentence.heard(keyword_id, told):
                kinds |= one.kind
        return kinds

    def heard(self, keyword_ids: Iterable[int], kinds: Kinds, told: Container[Identity]) -> Iterator[Heard]:
        """The hits of some kinds, of the same texts as in `kinds`; of each keyword the first MAX_EVIDENCE."""
        for keyword_id in keyword_ids:
            yield from islice(self.all_heard(keyword_id, kinds, told), MAX_EVIDENCE)

    def all_heard(self, keyword_id: int, kinds: Kinds, told: Container[Identity]) -> Iterator[Heard]:
        """Every hit of one keyword, of some kinds."""
        yield from (one for one in self._settled.get(keyword_id, ()) if one.kind & kinds)
        if self._open:
            for sentence in self._open.values():
                yield from (one for one in sentence.heard(keyword_id, told) if one.kind & kinds)
