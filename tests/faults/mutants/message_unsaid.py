"""Keeps one message of each connection to itself: the fifth."""

from gateway.doors.outgoing import Outgoing

_send = Outgoing.send


def _all_but_the_fifth(self: Outgoing, payload: bytes) -> None:
    said = _SAID[id(self)] = _SAID.get(id(self), 0) + 1
    if said != 5:
        _send(self, payload)


_SAID: dict[int, int] = {}


def break_it() -> None:
    Outgoing.send = _all_but_the_fifth  # type: ignore[method-assign]
