"""Keywords in order and close together: which of the places where they were heard fit."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from protocol.rules.hearing import Heard
from protocol.rules.options import Options
from protocol.rules.text import count_words


@dataclass(frozen=True, slots=True)
class _Place:
    """Where one link of the chain was heard."""

    heard: Heard
    link: int
    begin_ms: int
    end_ms: int

    @property
    def key(self) -> tuple[int, int, int, int]:
        evidence = self.heard.evidence
        return self.begin_ms, self.heard.order, evidence.begin, evidence.end

    def before(self, other: "_Place") -> bool:
        mine, its = self.heard.evidence, other.heard.evidence
        if mine.sentence_id == its.sentence_id:
            return mine.end <= its.begin
        return self.key < other.key


def fitting(links: Sequence[Sequence[Heard]], options: Options) -> list[Heard]:
    """The hits that make up the chain, of every time it was said from left to right; empty: it never was.

    `links`: for each keyword of the chain, where it was heard. A hit serves one chain only.
    """
    if not all(links):
        return []
    places = [_Place(heard, link, *heard.times_ms) for link, hits in enumerate(links) for heard in hits]
    if options.within_words is None:
        return _fitting(places, len(links), options)
    by_sentence = sorted(places, key=lambda one: (one.heard.order, str(one.heard.evidence.sentence_id)))
    groups = groupby(by_sentence, key=lambda one: one.heard.evidence.sentence_id)
    return [heard for _, group in groups for heard in _fitting(list(group), len(links), options)]


def _fitting(places: list[_Place], length: int, options: Options) -> list[Heard]:
    places.sort(key=lambda one: one.key)
    chains = _ordered(places, length, options) if options.order else _unordered(places, length, options)
    return [place.heard for chain in chains for place in chain]


def _ordered(places: list[_Place], length: int, options: Options) -> Iterator[list[_Place]]:
    """For each first keyword, the others as early as may be: if any of its chains is close enough, this is."""
    by_link = [[place for place in places if place.link == link] for link in range(length)]
    at = [0] * length
    last: _Place | None = None
    for first in by_link[0]:
        if last is not None and not last.before(first):
            continue
        chain = [first]
        for link in range(1, length):
            hits = by_link[link]
            while at[link] < len(hits) and not chain[-1].before(hits[at[link]]):
                at[link] += 1
            if at[link] == len(hits):
                return
            chain.append(hits[at[link]])
        if _close(chain, options):
            last = chain[-1]
            yield chain


def _unordered(places: list[_Place], length: int, options: Options) -> Iterator[list[_Place]]:
    """For each place, the latest of every other keyword: if any of its chains is close enough, this is."""
    latest: dict[int, _Place] = {}
    for place in places:
        latest[place.link] = place
        if len(latest) == length:
            chain = sorted(latest.values(), key=lambda one: one.key)
            if _close(chain, options):
                yield chain
                latest = {}


def _close(chain: Sequence[_Place], options: Options) -> bool:
    first, last = chain[0], chain[-1]
    if options.within_ms is not None and last.begin_ms - first.end_ms > options.within_ms:
        return False
    if options.within_words is None:
        return True
    between = first.heard.evidence.text[first.heard.evidence.end : last.heard.evidence.begin]
    return count_words(between) <= options.within_words


def apart(heard: Sequence[Heard]) -> int:
    """How many hits there are, those of one sentence that overlap counted once."""
    count = 0
    spans = sorted((str(one.evidence.sentence_id), one.evidence.end, one.evidence.begin) for one in heard)
    for _, group in groupby(spans, key=lambda one: one[0]):
        reached = -1
        for _, end, begin in group:
            if begin >= reached:
                count, reached = count + 1, end
    return count
