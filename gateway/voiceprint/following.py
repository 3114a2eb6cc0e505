"""An index in memory that follows what other processes change in the store of voices."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

import structlog

from gateway.ports import PortError, VoiceprintChange, VoiceprintChanges, VoiceprintRow

_log = structlog.get_logger()
POLL_S = 1.0
"""How soon a node hears of a change without being asked for anything."""
PATIENCE_S = 0.25
"""How long a search waits to hear of changes."""


class Following:
    """Looks for changes now and then, and before a search that asks for it. Nothing here raises because the store is
    away: what was known goes on being searched, and `fault` says what is the matter.

    The index belongs to its service. Changes are applied under `writing`, so that none comes between a write of the
    service's own and what the service makes of it.
    """

    def __init__(
        self,
        changes: VoiceprintChanges,
        writing: asyncio.Lock,
        *,
        load: Callable[[], Awaitable[None]],
        add: Callable[[VoiceprintRow], None],
        drop: Callable[[VoiceprintChange], None],
        poll_s: float = POLL_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """`load` puts a whole index in the place of the present one; `add` and `drop` change that."""
        self._changes = changes
        self._writing = writing
        self._load = load
        self._add = add
        self._drop = drop
        self._poll_s = poll_s
        self._patience_s = patience_s
        self._position: str | None = None
        self._own: set[str] = set()
        self._next: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.fault = ""
        """Why changes cannot be heard of at the moment; empty when they can."""

    @property
    def loaded(self) -> bool:
        """Whether there is an index at all."""
        return self._position is not None

    async def load(self) -> None:
        """Load the index. Raises what the store raises."""
        async with self._writing:
            await self._reload()

    def start(self) -> None:
        """Look for changes from now on, until `close`."""
        self._run(self._poll())

    async def close(self) -> None:
        """End the looking, also that which is under way."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name="voiceprint-changes")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def note_own(self, print_id: str) -> None:
        """The service has just put this voice into store and index itself; it holds `writing`."""
        self._own.add(print_id)

    def ask(self) -> asyncio.Task[None] | None:
        """Begin to look for whatever changed until now; None while that is known to be in vain.

        Those who ask at the same time share one look, which begins after all of them have asked.
        """
        if self.fault:
            return None
        return self._looking()

    async def answered(self, asked: asyncio.Task[None] | None) -> None:
        """Wait for what `ask` began, but not for ever."""
        if asked is not None:
            await asyncio.wait([asked], timeout=self._patience_s)

    async def look(self) -> None:
        """Apply every change that was made until now."""
        await asyncio.wait([self._looking()])

    def _looking(self) -> asyncio.Task[None]:
        if self._next is None:
            self._next = self._run(self._look_next())
        return self._next

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            await self.look()

    async def _look_next(self) -> None:
        async with self._writing:
            self._next = None  # whoever asks from here on needs another look
            try:
                await self._catch_up()
                fault = ""
            except Exception as error:
                fault = str(error) or repr(error)
                if not isinstance(error, PortError):
                    _log.exception("voiceprint.changes_failed")
            if fault and not self.fault:
                _log.warning("voiceprint.changes_unheard", fault=fault, loaded=self.loaded)
            elif self.fault and not fault:
                _log.info("voiceprint.changes_heard_again")
            self.fault = fault

    async def _catch_up(self) -> None:
        more = True
        while more:
            news = None if self._position is None else await self._changes.since(self._position)
            if news is None:
                await self._reload()
                return
            await self._apply(news.changes)
            self._position, more = news.position, news.more

    async def _reload(self) -> None:
        # What changes while it loads is heard of afterwards, and does no harm twice.
        position = await self._changes.position()
        await self._load()
        self._own.clear()
        self._position = position

    async def _apply(self, changes: Iterable[VoiceprintChange]) -> None:
        come: dict[str, None] = {}
        for change in changes:
            if change.gone:
                self._drop(change)
            for print_id in change.gone:
                come.pop(print_id, None)
            come.update(dict.fromkeys(one for one in change.come if one not in self._own))
            self._own.difference_update(change.come)
        for row in await self._changes.rows(come) if come else ():
            self._drop(VoiceprintChange(row.app_id, row.org_id, row.tag_id, (row.print_id,), ()))
            self._add(row)
