"""Who watches calls, what they watch, and what they are told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec

from gateway.session.brief import Shown
from gateway.session.level_meter import LevelMeter
from gateway.session.record import MessageRecord
from protocol.watching import Levels


class FedCall(Shown, Protocol):
    """A call in memory."""

    app_id: str
    record: MessageRecord
    meter: LevelMeter | None


@dataclass(frozen=True, slots=True)
class Item:
    """Something a watcher is to be told."""

    payload: bytes
    """One text frame."""
    key: str = ""
    """Of several items of one key that wait, only the newest counts; empty: this one is never left out."""
    ends: str = ""
    """What waits under this key says nothing any more."""
    seq: int = 0
    """The call's number of it; 0: it has none."""
    bounded: bool = True
    """Whether it counts against what may wait; what there is one of for each call does not."""


class CallWatcher(Protocol):
    """Somebody who watches one call. Both are called from the call's own work, and must neither wait nor raise."""

    def put(self, item: Item) -> None:
        """The call has said something."""

    def moved(self) -> None:
        """The call is not where it was: it has come here, has gone elsewhere, or is forgotten. Nothing follows."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A call in brief."""

    call_id: str
    agent: str
    payload: bytes
    """The message `call`."""


class AppWatcher(Protocol):
    """Somebody who watches an app's calls. All are called from others' work, and must neither wait nor raise."""

    @property
    def levels(self) -> bool:
        """Whether `tell_levels` is wanted."""

    def tell(self, summary: Summary) -> None:
        """A call as it is now."""

    def gone(self, call_id: str) -> None:
        """A call is over, and was told for the last time."""

    def left(self, call_id: str) -> None:
        """A call goes on elsewhere, from where it will be told of; if it is not, it cannot be reached."""

    def tell_levels(self, levels: Mapping[str, list[int]]) -> None:
        """How loud calls are, by call id."""


def levels_item(levels: Mapping[str, list[int]], whose: str) -> Item:
    """The message `levels`; of several of `whose` that wait only the newest counts."""
    return Item(msgspec.json.encode(Levels(calls=dict(levels))), key=f"levels/{whose}")
