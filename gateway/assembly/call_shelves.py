"""Where a process keeps its calls, and finds those of other nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from gateway.assembly.cluster import node_name
from gateway.assembly.folder import StartFailed
from gateway.keys import server_key, subkey
from gateway.ports import Clock, LiveCalls
from gateway.ports.bus import Bus
from gateway.ports.levels import LevelReader
from gateway.session.levels_elsewhere import LevelsEverywhere
from gateway.session.live_elsewhere import LiveEverywhere
from gateway.settings import Settings
from gateway.stores.call_versions import CallVersions
from gateway.stores.calls import CallRecords
from gateway.stores.durable_files import make_directory
from gateway.stores.erasure import Eraser
from gateway.stores.recordings import Recordings
from gateway.stores.redis_calls import RedisCalls
from gateway.stores.redis_connection import RedisConnection
from gateway.stores.shared_calls import SharedCalls
from gateway.stores.sqlite import Database


@dataclass(frozen=True, slots=True)
class CallShelves:
    """What a process keeps of calls, but for the journal."""

    own: CallRecords
    """Those of this node."""
    shared: SharedCalls | None
    """Those of all nodes; None for a server that is alone."""
    recordings: Recordings

    @property
    def store(self) -> CallRecords | SharedCalls:
        """Every call that this node answers for."""
        return self.shared or self.own

    @property
    def fault(self) -> str:
        """Why calls may be missing from what `store` told last, or nothing."""
        return self.shared.fault if self.shared is not None else ""

    async def give_up(self, app_id: str, call_id: str) -> bool:
        """Let go of what is left here of a call that another node has finished; False: not yet."""
        if self.shared is None or not app_id:  # a registry that was flushed knows no app
            return True
        became = await self.shared.give_up(app_id, call_id)
        if became == "gone":
            await asyncio.to_thread(self.recordings.give_up, call_id)
        return became != "untold"

    async def elsewhere(self, app_id: str, call_id: str) -> str:
        """Name of the other node that has the app's call and its recording, as far as is known."""
        return await self.shared.elsewhere(app_id, call_id) if self.shared is not None else ""

    def live(self, here: LiveCalls, bus: Bus) -> LiveCalls:
        """The calls in memory here, and those that other nodes tell of when they are asked by `bus`."""
        return here if self.shared is None else LiveEverywhere(here, bus, self.shared.going_on)

    def levels(self, here: LevelReader, bus: Bus) -> LevelReader:
        """How loud calls are and were here, and how loud those are that other nodes hold."""
        return here if self.shared is None else LevelsEverywhere(here, bus)

    def keep_in_step(
        self, eraser: Eraser, live: LiveCalls, run: Callable[[str, Coroutine[Any, Any, None]], object]
    ) -> None:
        """Share this node's calls from here on, and erase what is deleted at other nodes."""
        if self.shared is None:
            return

        async def erase(app_id: str, call_id: str) -> bool:
            if await live.holds(app_id, call_id):
                return False
            await eraser.erase_call(app_id, call_id)
            return True

        run("calls-sharing", self.shared.run(erase))


def call_shelves(settings: Settings, database: Database, clock: Clock, begun: AsyncExitStack) -> CallShelves:
    """Of one process; `begun` closes its connection. Blocking. Raises StartFailed."""
    if settings.shared_recordings is not None:
        try:
            make_directory(settings.shared_recordings)
        except OSError as fault:
            raise StartFailed(f"recordings_folder {settings.shared_recordings} cannot be used: {fault}") from fault
    mark = subkey(server_key(settings.data_path), "recordings").hex()[:12]
    recordings = Recordings(settings.data_path, settings.shared_recordings, node_mark=mark)
    if not settings.redis_url:
        return CallShelves(CallRecords(database), None, recordings)
    # Not the connection that calls go by: documents are large, and a call's ack must not wait behind them.
    connection = RedisConnection(settings.redis_url)
    begun.push_async_callback(connection.close)
    node = node_name(settings)
    shared: SharedCalls
    own = CallRecords(database, saved=lambda: shared.wake())
    shared = SharedCalls(own, CallVersions(database), RedisCalls(connection, node), node, clock)
    return CallShelves(own, shared, recordings)
