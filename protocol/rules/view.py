"""What of a call one rule takes into account: all of it, or what its options and its age let through."""

from collections.abc import Mapping, Sequence

from protocol.rules.circumstances import Circumstances
from protocol.rules.hearing import Heard
from protocol.rules.matcher import CompiledRule
from protocol.rules.sequence import apart, fitting


class View:
    """One rule's. `since`: sentences that began earlier are not for it, but what they hold against it counts."""

    def __init__(self, rule: CompiledRule | None, around: Circumstances, since: int = 0) -> None:
        """`rule` None: any rule that takes everything into account."""
        self._forbidden = frozenset[int]() if rule is None else rule.forbidden
        self._since = since
        self._conditions = None if rule is None else rule.conditions
        self._options = None if self._conditions is None else self._conditions.options
        self.around = around
        self.plain = since == 0 and self._conditions is None

    @property
    def past(self) -> bool:
        """Whether nothing that may come can count any more."""
        options = self._options
        return options is not None and options.first_s is not None and self.around.settled_ms >= options.first_s * 1000

    def counts(self, position: int, heard: Heard) -> bool:
        """Whether this hit of the keyword at `position` is one for the rule."""
        if heard.born < self._since and position not in self._forbidden:
            return False
        conditions, options, said = self._conditions, self._options, heard.said
        if conditions is None or options is None:
            return True
        if said.channel >= 0:  # else it is nobody's, whoever is asked for
            role = conditions.roles.get(position)
            if (role is not None and said.role != role) or options.channel not in (None, said.channel):
                return False
            if options.speaker and not self._spoken_by(options.speaker, heard):
                return False
        return self._in_window(heard)

    def _spoken_by(self, name: str, heard: Heard) -> bool:
        labelled, stable = self.around.labels.get(heard.evidence.sentence_id, ("", False))
        return labelled == name and (stable or self.around.end_ms is not None)

    def _in_window(self, heard: Heard) -> bool:
        options = self._options
        assert options is not None
        if options.first_s is not None:
            return heard.times_ms[1] <= options.first_s * 1000
        if options.last_s is not None:
            end_ms = self.around.end_ms
            return end_ms is not None and heard.times_ms[0] >= end_ms - options.last_s * 1000
        return True

    def fits(self, taken: Mapping[int, Sequence[Heard]]) -> list[Heard] | None:
        """Of the hits taken, by position, those that are evidence; None: too few, out of order or far apart."""
        unique = {one.identity: one for hits in taken.values() for one in hits}
        heard = list(unique.values())
        options, conditions = self._options, self._conditions
        if options is None or conditions is None:
            return heard
        if options.count > 1 and apart(heard) < options.count:
            return None
        if conditions.chain:
            links = [[one for position in link for one in taken[position]] for link in conditions.chain]
            return fitting(links, options) or None
        return heard

    def hides(self, position: int, span_ms: tuple[int, int] | None) -> bool:
        """Whether a hole may hide the keyword at `position`; `span_ms`: only holes in this stretch matter."""
        begin_ms, end_ms = span_ms or (0, self.around.end_ms)
        options, conditions = self._options, self._conditions
        role, channel = None, None
        if options is not None and conditions is not None:
            role, channel = conditions.roles.get(position), options.channel
            if options.first_s is not None:
                first_ms = round(options.first_s * 1000)
                end_ms = first_ms if end_ms is None else min(end_ms, first_ms)
            if options.last_s is not None and self.around.end_ms is not None:
                begin_ms = max(begin_ms, self.around.end_ms - round(options.last_s * 1000))
        return any(
            hole.end_ms > begin_ms
            and (end_ms is None or hole.begin_ms < end_ms)
            and role in (None, hole.role)
            and channel in (None, hole.channel)
            for hole in self.around.holes
        )


EVERYTHING = View(None, Circumstances())
"""What a rule of the vendor's language sees of a call of which nothing is known but its words."""
