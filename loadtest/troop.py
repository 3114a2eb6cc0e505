"""The processes of softphones, as whoever runs them sees them."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from msgspec.structs import replace

from loadtest.softphones.orders import (
    Finish,
    Finished,
    Order,
    Outcome,
    Prepare,
    Ready,
    Second,
    Unfit,
    Unpacking,
    packed,
    told,
)

READY_S: Final = 120.0
FINISH_S: Final = 60.0
READ_BYTES: Final = 1 << 16


class HarnessFailed(Exception):
    """The load test itself could not go on: no statement about the server."""


class Troop:
    """Enter it with everything prepared; `tell` orders; `seconds` are what was seen since they were taken last."""

    def __init__(self, plan: Prepare, *, processors: Sequence[int] = ()) -> None:
        """One process for each of `plan.processes`. `processors`: the only ones they may run on; empty: any."""
        self._plan = plan
        self._processors = processors
        self._processes: list[asyncio.subprocess.Process] = []
        self._readers: list[asyncio.Task[None]] = []
        self._latest: list[Second | None] = [None] * plan.processes
        self._seconds: list[Second] = []
        self._cpu_s = [0.0] * plan.processes
        self._ready = [asyncio.Event() for _ in range(plan.processes)]
        self._finished = [asyncio.Event() for _ in range(plan.processes)]
        self.outcomes: list[Outcome] = []
        self._fault = ""

    async def __aenter__(self) -> Troop:
        """Raises HarnessFailed."""
        for number in range(self._plan.processes):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "loadtest.softphones.process"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            if self._processors:
                os.sched_setaffinity(process.pid, self._processors)
            self._processes.append(process)
            self._readers.append(asyncio.create_task(self._read(number, process)))
            self._order(process, replace(self._plan, process=number))
        try:
            async with asyncio.timeout(READY_S):
                await asyncio.gather(*(event.wait() for event in self._ready))
        except TimeoutError as fault:
            await self.__aexit__()
            raise HarnessFailed(f"the softphones were not ready within {READY_S:g} s") from fault
        if self._fault:
            await self.__aexit__()
            raise HarnessFailed(self._fault)
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in self._processes:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)

    def tell(self, message: Order) -> None:
        for process in self._processes:
            self._order(process, message)

    def seconds(self) -> list[Second]:
        """What was told since the last time. Raises HarnessFailed when a process has."""
        if self._fault:
            raise HarnessFailed(self._fault)
        seconds, self._seconds = self._seconds, []
        return seconds

    @property
    def latest(self) -> list[Second]:
        """The last word of each process that has said something."""
        return [second for second in self._latest if second is not None]

    @property
    def cpu_s(self) -> tuple[float, ...]:
        """What each process has used, as it told last."""
        return tuple(self._cpu_s)

    @property
    def all_have_told(self) -> bool:
        return all(second is not None for second in self._latest)

    async def finish(self) -> None:
        """Have every process say what became of its calls, and end."""
        self.tell(Finish())
        try:
            async with asyncio.timeout(FINISH_S):
                await asyncio.gather(*(event.wait() for event in self._finished))
        except TimeoutError as fault:
            raise HarnessFailed(f"the softphones did not end within {FINISH_S:g} s") from fault

    def _order(self, process: asyncio.subprocess.Process, message: Order) -> None:
        assert process.stdin is not None
        process.stdin.write(packed(message))

    async def _read(self, number: int, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        unpacking = Unpacking()
        while data := await process.stdout.read(READ_BYTES):
            for body in unpacking.feed(data):
                self._take(number, body)
        if not self._finished[number].is_set():
            self._fault = self._fault or f"a process of softphones died (status {await process.wait()})"
        for event in (self._ready[number], self._finished[number]):
            event.set()

    def _take(self, number: int, body: bytes) -> None:
        match told(body):
            case Ready(cpu_s=cpu_s):
                self._cpu_s[number] = cpu_s
                self._ready[number].set()
            case Unfit(reason=reason):
                self._fault = reason
                self._ready[number].set()
            case Second() as second:
                self._latest[number] = second
                self._cpu_s[number] = second.cpu_s
                self._seconds.append(second)
            case Outcome() as outcome:
                self.outcomes.append(outcome)
            case Finished():
                self._finished[number].set()
