"""What a call waits for by the clock: its client, its last answers, its verdict."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.call.events import Event, HungUp, QcWaitExpired, SettlingExpired
from gateway.session.keeping import Patience

Receive = Callable[[Event], None]
"""The call's own; given with each wait, so that nothing holds a call that waits for nothing."""


class Waits:
    """When a wait is over, the call receives what that means."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._client: asyncio.TimerHandle | None = None
        self._end: list[asyncio.TimerHandle] = []

    def for_client(self, receive: Receive) -> None:
        """Its socket is gone; after the window the call is hung up all the same."""
        loop = asyncio.get_running_loop()
        self._client = loop.call_later(self._patience.resume_window_s, receive, HungUp("lost"))

    def client_is_back(self) -> None:
        if self._client is not None:
            self._client.cancel()
            self._client = None

    def for_end(self, wait_qc_s: float, receive: Receive) -> None:
        """The call is over. What its last answers and its verdict have not brought in time, it ends without."""
        self.client_is_back()  # or needs to come back no more
        loop = asyncio.get_running_loop()
        self._end = [
            loop.call_later(self._patience.settle_timeout_s, receive, SettlingExpired()),
            loop.call_later(wait_qc_s, receive, QcWaitExpired()),
        ]

    def stop(self) -> None:
        """Wait for nothing any more."""
        self.client_is_back()
        for timer in self._end:
            timer.cancel()
