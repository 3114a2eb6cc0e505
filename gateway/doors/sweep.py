"""When calls look at the audio that has come: at once while there is little of it, together while there is much.

A packet that is looked at alone pays for what two or three would share. So the more packets come, the longer they wait
for others, up to `MOST_WAIT_S`. What a call makes of its audio, and where, does not depend on it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import structlog

log = structlog.get_logger(__name__)

MOST_WAIT_S = 0.2
FULL_WAIT_PER_S = 20_000
"""Packets a second (400 calls) from which on they wait that long; half as many wait a quarter of it, and so on."""
LITTLE_WAIT_S = 0.002
"""A wait that would be shorter is none."""
MEASURED_S = 0.2
"""How long packets are counted to tell how many come a second, at least."""
AT_A_TIME = 4
"""Between so many calls, sockets are read."""
BETWEEN_BREATHS = 16
BREATH_S = 0.004
"""After so many calls the others wait so long: what came meanwhile is dealt with before it piles up."""


class Sweep:
    """One for all calls of a process."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Callable[[], None]] = deque()
        self._in_turn: deque[Callable[[], None]] = deque()
        self._begun = False
        self._wait_s = 0.0
        self._taken = 0
        self._looked = 0
        """Calls, in this sweep."""
        self._measured_s = self._loop.time()

    @property
    def waits(self) -> bool:
        """Whether so much comes that packets wait for others."""
        return self._wait_s > 0

    def enter(self, look: Callable[[], None]) -> None:
        """Have `look` called soon, once."""
        self._waiting.append(look)
        if not self._begun:
            self._begin()

    def note(self, packets: int) -> None:
        """So many packets were looked at."""
        self._taken += packets

    def _begin(self) -> None:
        self._begun = True
        if self._wait_s:
            self._loop.call_later(self._wait_s, self._run)
        else:
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        if not self._in_turn:  # who enters from here on has his turn in the next sweep
            self._in_turn, self._waiting = self._waiting, self._in_turn
        in_turn = self._in_turn
        for _ in range(min(AT_A_TIME, len(in_turn))):
            look = in_turn.popleft()
            try:
                look()
            except Exception:  # a look tells its own call; what escapes it must not keep all others from theirs
                log.exception("look_failed")
        if in_turn:
            self._looked += AT_A_TIME
            if self._looked % BETWEEN_BREATHS:
                self._loop.call_soon(self._run)
            else:
                self._loop.call_later(BREATH_S, self._run)
            return
        self._begun, self._looked = False, 0
        self._measure()
        if self._waiting:
            self._begin()

    def _measure(self) -> None:
        elapsed_s = self._loop.time() - self._measured_s
        if elapsed_s < MEASURED_S:
            return
        wait_s = MOST_WAIT_S * min(1.0, self._taken / elapsed_s / FULL_WAIT_PER_S) ** 2
        self._wait_s = wait_s if wait_s >= LITTLE_WAIT_S else 0.0
        self._taken, self._measured_s = 0, self._loop.time()
