"""What a watcher watches: the calls of an app or an agent in brief, or all that one call says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import msgspec
import structlog

from gateway.doors.watch_line import WatchLine, told_of
from gateway.ports import CallStore, Unavailable
from gateway.session.feed import Feed, Replay
from gateway.session.feed_elsewhere import CallElsewhere, FeedElsewhere
from gateway.session.watchers import Item, Summary, levels_item
from protocol.watching import CallGone, CaughtUp, Watch, WatchFault, Watching

log = structlog.get_logger(__name__)

LOOK_AGAIN_S = 1.0
LOOK_FOR_S = 60.0
"""A watched call that is nowhere is looked for this long: it may be moving, or its node starting anew."""


@dataclass(frozen=True, slots=True)
class Grounds:
    """Where calls are to be found."""

    feed: Feed
    elsewhere: FeedElsewhere
    store: CallStore
    taken_up: Callable[[str], Awaitable[None]]


class BoardWatch:
    """An AppWatcher for one socket: the summaries of one agent's calls, or of all."""

    def __init__(self, grounds: Grounds, app_id: str, agent: str, line: WatchLine, *, levels: bool) -> None:
        self.levels = levels
        self._grounds = grounds
        self._app_id = app_id
        self._agent = agent
        self._line = line
        self._shown: set[str] = set()
        self._key = f"{id(self):x}"

    async def begin(self) -> bool:
        """Tell what there is, and go on telling. Raises Unavailable: then what is here is told, and what is heard."""
        self._grounds.feed.watch_app(self._app_id, self)
        await self._grounds.elsewhere.watch_app(self._app_id, self)
        return True

    async def close(self) -> None:
        self._grounds.feed.unwatch_app(self._app_id, self)
        await self._grounds.elsewhere.unwatch_app(self._app_id, self)

    def tell(self, summary: Summary) -> None:
        if self._agent in ("", summary.agent):
            self._shown.add(summary.call_id)
            self._line.put(Item(summary.payload, key=_brief_key(summary.call_id), bounded=False))
        elif summary.call_id in self._shown:
            self.gone(summary.call_id)

    def gone(self, call_id: str) -> None:
        if call_id in self._shown:
            self._shown.discard(call_id)
            self._line.put(Item(msgspec.json.encode(CallGone(call_id=call_id))))

    def left(self, call_id: str) -> None:
        self._grounds.elsewhere.left(self._app_id, call_id)

    def tell_levels(self, levels: Mapping[str, list[int]]) -> None:
        shown = {call_id: level for call_id, level in levels.items() if call_id in self._shown}
        if shown:
            # Of each process one message; of several that wait, the newest.
            self._line.put(levels_item(shown, f"{self._key}/{next(iter(shown))}"))


class CallWatch:
    """A CallWatcher for one socket: follows one call wherever it goes, and tells its messages once, in order."""

    def __init__(self, grounds: Grounds, app_id: str, call_id: str, wanted: Watch, line: WatchLine) -> None:
        self._grounds = grounds
        self._app_id = app_id
        self._call_id = call_id
        self._wanted = wanted
        self._line = line
        self._seq = wanted.from_seq
        """Everything up to here was told."""
        self._begun = self._closed = False
        self._elsewhere: CallElsewhere | None = None
        self._looking: asyncio.Task[None] | None = None

    async def begin(self) -> bool:
        """Tell what was said, and go on telling; False: there is no such call. Raises Unavailable.

        One that is known to go on, but is nowhere just now, is looked for.
        """
        try:
            if await self._find():
                return True
            if await self._grounds.store.get(self._app_id, self._call_id) is None:
                return False
        except Unavailable:
            self._introduce()
            self.moved()
            raise
        self._introduce()
        self.moved()
        return True

    async def close(self) -> None:
        self._closed = True
        self._grounds.feed.unwatch_call(self._app_id, self._call_id, self)
        if self._looking is not None:
            self._looking.cancel()
        if self._elsewhere is not None:
            await self._elsewhere.close()

    # --- told by the feed ---

    def put(self, item: Item) -> None:
        if self._closed or 0 < item.seq <= self._seq:
            return
        self._seq = max(self._seq, item.seq)
        self._line.put(item)

    def moved(self) -> None:
        if not self._closed and (self._looking is None or self._looking.done()):
            self._looking = asyncio.get_running_loop().create_task(self._look())

    # --- finding it ---

    async def _look(self) -> None:
        """Find the call again, or give up."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + LOOK_FOR_S
        while loop.time() < until_s:
            try:
                if await self._find():
                    return
            except Unavailable as fault:
                log.info("watched_call_not_looked_for", call_id=self._call_id, fault=str(fault))
            await asyncio.sleep(LOOK_AGAIN_S)
        text = f"call {self._call_id} cannot be found any more"
        self._line.put(Item(told_of(WatchFault("unknown_call", text, self._wanted.id))))
        await self.close()

    async def _find(self) -> bool:
        if self._elsewhere is not None:
            await self._elsewhere.close()
            self._elsewhere = None
        replay = self._grounds.feed.watch_call(self._app_id, self._call_id, self._seq, self, levels=self._wanted.levels)
        if replay is None:
            found = await self._grounds.elsewhere.watch_call(
                self._app_id, self._call_id, self._seq, self, levels=self._wanted.levels
            )
            if found is None:
                return await self._read()
            replay, self._elsewhere = found
        self._tell(replay)
        if self._elsewhere is not None:
            if self._closed:
                await self._elsewhere.close()
            else:
                self._elsewhere.go_on()
        return True

    async def _read(self) -> bool:
        """Whether the call is over, and kept; then nothing follows."""
        record = await self._grounds.store.get(self._app_id, self._call_id)
        if record is None or record.state == "live":
            return False
        self._tell(Replay([], self._seq, self._seq, live=False))
        return True

    def _tell(self, replay: Replay) -> None:
        """In one step with the beginning of what follows."""
        self._introduce()
        said = [payload for seq, payload in replay.said if seq > self._seq]
        self._line.put_past(said)
        self._seq = max(self._seq, replay.kept_seq)
        caught_up = CaughtUp(id=self._wanted.id, call_id=self._call_id, seq=replay.seq, live=replay.live)
        self._line.put(Item(msgspec.json.encode(caught_up)))

    def _introduce(self) -> None:
        if not self._begun:
            self._begun = True
            self._line.put(Item(msgspec.json.encode(Watching(id=self._wanted.id))))


def _brief_key(call_id: str) -> str:
    return f"call/{call_id}"
