"""Taking up what earlier processes have left: in the background, one call after another, the awaited ones first."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import structlog

from gateway.session.rebuilding import Recovered

log = structlog.get_logger(__name__)


class Recovery:
    """Knows which calls are still to be taken up. Belongs to one event loop."""

    def __init__(self, take_up: Callable[[Recovered], Awaitable[None]]) -> None:
        """`take_up` takes up one call; whatever it raises costs that call alone, which stays in the journal."""
        self._take_up = take_up
        self._found = asyncio.Event()
        self._found.set()
        self._left: dict[str, Recovered] = {}
        self._done: dict[str, asyncio.Event] = {}
        self._awaited: dict[str, None] = {}
        self._running: asyncio.Task[None] | None = None
        self.fault: Exception | None = None
        """Why the calls that were left behind could not be looked for."""

    def start(self, find: Callable[[], Awaitable[Iterable[Recovered]]]) -> None:
        """Look for calls and take them up, in the background."""
        self._found.clear()
        self._running = asyncio.get_running_loop().create_task(self._run(find), name="recovery")

    @property
    def finished(self) -> bool:
        return self._found.is_set() and not self._done

    async def taken_up(self, call_id: str) -> None:
        """Return once the call is taken up, or is known not to be one that was left behind."""
        await self._found.wait()
        done = self._done.get(call_id)
        if done is not None:
            self._awaited[call_id] = None
            await done.wait()

    async def finds(self, call_id: str) -> bool:
        """Whether the call is one that is still to be taken up, once it is known what was left behind."""
        await self._found.wait()
        return call_id in self._done

    async def all_taken_up(self) -> None:
        """Return once there is nothing left to take up."""
        if self._running is not None:
            await asyncio.shield(self._running)

    async def stop(self) -> None:
        """Give up; what is left stays in the journal."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def _run(self, find: Callable[[], Awaitable[Iterable[Recovered]]]) -> None:
        try:
            self._left = {call.call_id: call for call in await find()}
            self._done = {call_id: asyncio.Event() for call_id in self._left}
        except Exception as fault:
            log.exception("calls_not_looked_for")
            self.fault = fault
        finally:
            self._found.set()
        count = len(self._left)
        while self._left:
            call_id = next((one for one in self._awaited if one in self._left), next(iter(self._left)))
            try:
                await self._take_up(self._left.pop(call_id))
            except Exception:
                log.exception("call_not_recovered", call_id=call_id)
            finally:
                self._done.pop(call_id).set()
                self._awaited.pop(call_id, None)
        if count:
            log.info("calls_recovered", found=count)
