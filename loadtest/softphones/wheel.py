"""A timing wheel: thousands of softphones that each have something to do every few milliseconds, and one timer."""

from __future__ import annotations

from typing import Final, Protocol

SLOTS: Final = 1024
TICK_S: Final = 0.001


class Paced(Protocol):
    """Something with a next time to act."""

    def act(self, now_s: float) -> float:
        """Do what is due; the next due time (s), or 0 when it is over."""
        ...


class Wheel:
    """Calls each of its members when due, to the millisecond. `turn` is to be called every millisecond or so.

    Cost of a member does not depend on how many there are: it lies in the slot of its next due time, and one due in
    more than a second is looked at once a second.
    """

    def __init__(self, now_s: float) -> None:
        self._slots: list[list[Paced]] = [[] for _ in range(SLOTS)]
        self._tick = int(now_s / TICK_S)
        """The slot that is turned to next."""

    def add(self, member: Paced, due_s: float) -> None:
        """Call it at `due_s` (of any clock, the same as for `turn`), or at the next turn if that has passed."""
        tick = int(due_s / TICK_S) + 1
        tick = max(self._tick, min(tick, self._tick + SLOTS - 1))
        self._slots[tick % SLOTS].append(member)

    def turn(self, now_s: float) -> None:
        """Call every member that has come due up to `now_s`, late ones too, each once."""
        until = int(now_s / TICK_S)
        # After a stall of over a second each slot is visited once: members send all that is due at one visit.
        due: list[Paced] = []
        for tick in range(self._tick, min(until + 1, self._tick + SLOTS)):
            slot = tick % SLOTS
            if self._slots[slot]:
                due += self._slots[slot]
                self._slots[slot] = []
        self._tick = max(self._tick, until + 1)
        for member in due:
            next_s = member.act(now_s)
            if next_s:
                self.add(member, next_s)

    def rest_s(self, most: int = 5) -> float:
        """How long nothing is due, in whole ticks and at most so many: a nearly empty wheel need not be turned."""
        for ahead in range(most):
            if self._slots[(self._tick + ahead) % SLOTS]:
                return (ahead + 1) * TICK_S
        return most * TICK_S
