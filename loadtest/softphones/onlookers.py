"""The watchers of one process: how many there are to be, on what, and from when."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from loadtest.scenario import Watchers
from loadtest.softphones.listener import Listener, Measures
from loadtest.softphones.schedule import mine
from loadtest.softphones.socket import Socket, Target
from loadtest.softphones.watcher import PATH, Watcher

AFTER_RAMP_S = 1.0
"""Call pages come when there are calls to look at."""


class Onlookers:
    """Of this process's part of `wanted`. `connect`: sees to it that a socket is connected."""

    def __init__(
        self,
        wanted: Watchers,
        target: Target,
        measures: Measures,
        listeners: Mapping[str, Listener],
        connect: Callable[[Socket], None],
    ) -> None:
        self._wanted = wanted
        self._target = target.at(PATH)
        self._measures = measures
        self._listeners = listeners
        self._connect = connect
        self._watchers: list[Watcher] = []

    def begin(self, process: int, processes: int, ramp_s: float, live: Callable[[], Sequence[str]]) -> None:
        """Boards now, call pages after the ramp. `live`: ids of the calls that this process then carries."""
        for number in range(self._wanted.boards):
            if mine(number, process, processes):
                self._look_on(None)
        pages = sum(mine(number, process, processes) for number in range(self._wanted.calls))
        asyncio.get_running_loop().call_later(ramp_s + AFTER_RAMP_S, self._open_pages, pages, live)

    def close(self) -> None:
        for watcher in self._watchers:
            watcher.close()

    def _open_pages(self, pages: int, live: Callable[[], Sequence[str]]) -> None:
        calls = live()
        for number in range(pages if calls else 0):
            self._look_on(calls[number % len(calls)])

    def _look_on(self, call_id: str | None) -> None:
        watcher = Watcher(self._target, self._measures, self._listeners, call_id=call_id, levels=self._wanted.levels)
        self._watchers.append(watcher)
        self._connect(watcher)
