"""One worker as the main process sees it: started, started again when it dies, less and less eagerly when it keeps
dying."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence
from contextlib import suppress
from socket import socketpair

import structlog

from gateway.ports import Clock, Unavailable
from gateway.telemetry import SampleKey
from gateway.workers.link import Link, LinkFault
from gateway.workers.questions import BEGAN, DRAIN, HELLO, REPORT, Began, Report, Setup
from gateway.workers.wire import Nothing

log = structlog.get_logger(__name__)

MODULE = "gateway.assembly.ingest_process"
START_TIMEOUT_S = 60.0
FIRST_PAUSE_S, MOST_PAUSE_S = 0.5, 30.0
"""Between a start that failed, or was soon followed by an end, and the next one."""
STEADY_S = 20.0
"""A worker that has taken calls for so long did not fail at its start: its successor comes at once."""
SILENT_S = 10.0
"""A worker that has not reported for so long is not well, whatever it is doing."""
HUNG_LOOKS = 60
"""So many looks, a second apart, at a worker that does not report: it hangs. Looks are counted rather than time: where
this process did not get to run either, it has no opinion."""
KILL_TIMEOUT_S = 5.0


class WorkerSlot:
    """Keeps one worker running. Belongs to one event loop."""

    def __init__(
        self,
        number: int,
        setup: Callable[[int], Setup],
        attach: Callable[[WorkerSlot, Link], None],
        detach: Callable[[WorkerSlot, Link], None],
        kept_open: Sequence[int],
        clock: Clock,
    ) -> None:
        """`setup` tells a new process what it needs, `attach` gives its link its handlers before anything comes,
        `detach` hears that it is gone; `kept_open` are descriptors that the process inherits."""
        self.number = number
        self._setup = setup
        self._attach = attach
        self._detach = detach
        self._kept_open = kept_open
        self._clock = clock
        self.up = asyncio.Event()
        """Set while the worker takes calls."""
        self.tried = asyncio.Event()
        """Set once the first start has succeeded or failed."""
        self.link: Link | None = None
        self.fault = ""
        """Why the last one ended, or could not begin."""
        self.report: Report | None = None
        self.counted: dict[SampleKey, float] = {}
        """What workers in this place had counted that are gone."""
        self._reported_s = 0.0
        self._looks = 0
        self._failures = 0
        self._process: Process | None = None
        self._stopping = False

    def _is_stopping(self) -> bool:
        return self._stopping  # it may have changed while a worker ran

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def silent(self) -> bool:
        """Whether it has said nothing for so long that nobody should wait for its answers."""
        return self._silent_s > SILENT_S

    @property
    def _silent_s(self) -> float:
        return self._clock.monotonic() - self._reported_s

    @property
    def amiss(self) -> str:
        """What is wrong with this worker, or nothing."""
        if not self.up.is_set():
            often = f", for the {self._failures}th time in a row" if self._failures > 1 else ""
            return f"is being restarted{often}: {self.fault}" if self.fault else "is starting"
        if self.silent:
            return f"has not been heard of for {self._silent_s:.0f} s"
        return self.report.amiss if self.report is not None else ""

    def look(self) -> None:
        """Once a second: end a worker that hangs, so that its calls go on in another."""
        self._looks += 1
        if self._looks >= HUNG_LOOKS and self._process is not None and self.up.is_set():
            log.error("worker_hangs", worker=self.number, pid=self._process.pid, silent_looks=self._looks)
            self._looks = 0
            with suppress(ProcessLookupError):
                self._process.kill()

    async def run(self) -> None:
        """Have a worker run until `stop`, or cancelled: then none is left."""
        while not self._is_stopping():
            begun_s = await self._live_once()
            self.tried.set()
            steady = begun_s is not None and self._clock.monotonic() - begun_s >= STEADY_S
            self._failures = 1 if steady else self._failures + 1
            # The first end is no pattern: calls wait for a successor.
            pause_s = 0.0 if self._failures == 1 else min(MOST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (self._failures - 2))
            if self._is_stopping():
                return
            log.error("worker_gone", worker=self.number, reason=self.fault, failures=self._failures, next_in_s=pause_s)
            await asyncio.sleep(pause_s)

    async def stop(self, patience_s: float) -> None:
        """Let the worker drain, and see that it is gone when this returns."""
        self._stopping = True
        process, link = self._process, self.link
        if process is None:
            return
        try:
            async with asyncio.timeout(patience_s):
                if link is not None and self.up.is_set():
                    with suppress(Unavailable, LinkFault):
                        await link.ask(DRAIN, Nothing())
                    await process.wait()
        except TimeoutError:
            log.warning("worker_not_stopped_in_time", worker=self.number)
        await _end(process)

    async def _live_once(self) -> float | None:
        """Start a worker and wait for its end; when it began to take calls, None when it never did."""
        self.report = None
        try:
            self._process, self.link = process, link = await self._spawned()
        except OSError as fault:
            self.fault = f"no process could be started: {fault}"
            return None
        begun: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        try:
            return await self._attend(process, link, begun)
        finally:
            self.up.clear()
            self.link = None
            self._detach(self, link)
            link.close()
            await _end(process)
            self._process = None
            self._count_on()

    async def _spawned(self) -> tuple[Process, Link]:
        """A new process, and our end of the link to it. Raises OSError, and then there is neither."""
        ours, theirs = socketpair()
        with theirs:
            link = await Link.over(ours, f"ingest worker {self.number}")
            try:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-P", "-m", MODULE, str(theirs.fileno())),
                    stdin=PIPE,  # never written: that it ends says that we have
                    pass_fds=(theirs.fileno(), *self._kept_open),
                    env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
                )
            except BaseException:
                link.close()
                raise
        return process, link

    async def _attend(self, process: Process, link: Link, begun: asyncio.Future[str]) -> float | None:
        async def hello(_: Nothing) -> Setup:
            return self._setup(self.number)

        def began(told: Began) -> None:
            if not begun.done():
                begun.set_result(told.fault)

        link.answers(HELLO, hello)
        link.hears(BEGAN, began)
        link.hears(REPORT, self._take_report)
        self._attach(self, link)
        link.listen()
        ended = asyncio.ensure_future(process.wait())
        try:
            await asyncio.wait((begun, ended), timeout=START_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
            if not begun.done() or begun.result():
                late = f"it was not ready in {START_TIMEOUT_S:g} s"
                self.fault = begun.result() if begun.done() else self._why(process, late)
                return None
            began_s = self._reported_s = self._clock.monotonic()
            self._looks = 0
            self.up.set()
            self.tried.set()
            log.info("worker_takes_calls", worker=self.number, pid=process.pid)
            await asyncio.wait((ended, asyncio.ensure_future(link.gone.wait())), return_when=asyncio.FIRST_COMPLETED)
            with suppress(TimeoutError):
                async with asyncio.timeout(KILL_TIMEOUT_S):
                    await asyncio.shield(ended)
            self.fault = self._why(process, "it let go of its connection")
            return began_s
        finally:
            ended.cancel()

    def _why(self, process: Process, otherwise: str) -> str:
        status = process.returncode
        if status is None:
            return otherwise
        if status < 0:
            return f"killed by {signal.Signals(-status).name}"
        return f"ended with status {status}"

    def _take_report(self, report: Report) -> None:
        self.report = report
        self._looks = 0
        self._reported_s = self._clock.monotonic()

    def _count_on(self) -> None:
        """What the worker that is gone had counted stays in the sums: counters never go back."""
        if self.report is not None:
            growing = set(self.report.counted)
            for key, value in self.report.measured:
                if key in growing:
                    self.counted[key] = self.counted.get(key, 0.0) + value
        self.report = None


async def _end(process: Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()
    if process.stdin is not None:
        process.stdin.close()
