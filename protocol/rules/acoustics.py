"""When nobody spoke and when two spoke at once, from the begin and end of utterances."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from protocol.rules.measures import Measure

_REMEMBERED_MS = 300_000


class Sounded(NamedTuple):
    """Something measured came true, at [begin, end) ms of the media clock."""

    keyword_id: int
    begin_ms: int
    end_ms: int


class Acoustics:
    """Follows the utterances of one call. `measures`: by keyword id, those of silence and talk-over.

    Times come in order: an utterance opens before it is spoken, and nothing begins before what is `passed`.
    """

    def __init__(self, measures: Iterable[tuple[int, Measure]]) -> None:
        all_measures = list(measures)
        self._silences = [(number, one.least_ms) for number, one in all_measures if one.kind == "silence"]
        self._talkovers = [(number, one.least_ms) for number, one in all_measures if one.kind == "talkover"]
        self._speaking: set[int] = set()
        self._quiet_from_ms = 0
        self._told: set[int] = set()
        self._spoken: list[tuple[int, int, int]] = []

    @property
    def wanted(self) -> bool:
        """Whether any rule asks."""
        return bool(self._silences or self._talkovers)

    def opened(self, channel: int, begin_ms: int) -> list[Sounded]:
        """Somebody begins to speak."""
        sounded = [] if self._speaking else list(self._quiet_until(begin_ms))
        self._speaking.add(channel)
        return sounded

    def spoke(self, channel: int, begin_ms: int, end_ms: int) -> list[Sounded]:
        """An utterance is over; whether it opened before or comes whole does not matter."""
        sounded = self.opened(channel, begin_ms) + self._over(channel, begin_ms, end_ms)
        self._speaking.discard(channel)
        self._restart(end_ms)
        return sounded

    def lost(self, begin_ms: int, end_ms: int) -> list[Sounded]:
        """A hole: whatever was in it, it is no silence that anybody heard."""
        sounded = [] if self._speaking else list(self._quiet_until(begin_ms))
        self._restart(end_ms)
        return sounded

    def passed(self, until_ms: int) -> list[Sounded]:
        """Nobody not known to speak by now began before `until_ms`."""
        return [] if self._speaking else list(self._quiet_until(until_ms))

    def _restart(self, from_ms: int) -> None:
        if from_ms > self._quiet_from_ms:
            self._quiet_from_ms = from_ms
            self._told.clear()

    def _quiet_until(self, until_ms: int) -> Iterator[Sounded]:
        for keyword_id, least_ms in self._silences:
            if keyword_id not in self._told and until_ms - self._quiet_from_ms >= least_ms:
                self._told.add(keyword_id)
                yield Sounded(keyword_id, self._quiet_from_ms, self._quiet_from_ms + least_ms)

    def _over(self, channel: int, begin_ms: int, end_ms: int) -> list[Sounded]:
        if not self._talkovers:
            return []
        self._spoken = [one for one in self._spoken if one[2] > begin_ms - _REMEMBERED_MS]
        overlaps = [
            (max(begin_ms, other_begin_ms), min(end_ms, other_end_ms))
            for other, other_begin_ms, other_end_ms in self._spoken
            if other != channel
        ]
        self._spoken.append((channel, begin_ms, end_ms))
        return [
            Sounded(keyword_id, both_from_ms, both_until_ms)
            for both_from_ms, both_until_ms in sorted(overlaps)
            for keyword_id, least_ms in self._talkovers
            if both_until_ms - both_from_ms >= least_ms
        ]


def in_turn(utterances: Iterable[tuple[int, int, int]]) -> Iterator[tuple[bool, int, int, int]]:
    """The begins (True) and ends (False) of whole utterances (channel, begin ms, end ms), as they happened."""
    whole = [one for one in utterances if one[2] > one[1]]
    begins = [(begin_ms, 0, (True, channel, begin_ms, end_ms)) for channel, begin_ms, end_ms in whole]
    ends = [(end_ms, 1, (False, channel, begin_ms, end_ms)) for channel, begin_ms, end_ms in whole]
    return (event for _, _, event in sorted([*begins, *ends]))
