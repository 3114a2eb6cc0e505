"""Engine processes behind one queue ordered by deadline.

What when the queue is full? First the partial that is due last is dropped (its awaiter gets None: the next one will
come). When only finals are left, a new job is refused with Unavailable: the caller still holds the audio. Jobs are not
put together into one engine call: a process takes the next as soon as it is free.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any

import structlog

from gateway.engines.deadline_queue import DeadlineQueue, QueueFull, Waiting
from gateway.engines.process import EngineProcess, ProcessDied
from gateway.engines.worker import EngineSpec, Job
from gateway.ports import Unavailable

_log = structlog.get_logger(__name__)

LOAD_TIMEOUT_S = 120
FIRST_BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 30


class JobKilled(Unavailable):
    """The job's process died, or was ended because it took too long."""


@dataclass(slots=True)
class _Asked:
    job: Job
    answer: asyncio.Future[Any]
    attempts: int = 0


class Pool:
    """Runs jobs on `processes` engine processes, one at a time each. Use from one event loop."""

    def __init__(
        self,
        name: str,
        spec: EngineSpec,
        *,
        processes: int = 1,
        queue_limit: int = 256,
        job_timeout_s: float = 30,
        jobs_per_process: int | None = None,
        retries: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`jobs_per_process` replaces a process after so many jobs (1: each job gets a fresh one, started ahead).

        `retries`: how often a job is tried again whose process died; a job that took too long never is.
        """
        self.name = name
        self._spec = spec
        self.processes = processes
        self._queue_limit = queue_limit
        self._queue = DeadlineQueue[_Asked](queue_limit, gone=lambda asked: asked.answer.done(), drop=self._drop)
        self._job_timeout_s = job_timeout_s
        self._jobs_per_process = jobs_per_process
        self._retries = retries
        self._clock = clock
        self._permits = asyncio.Semaphore(0)  # one for each entry ever pushed
        self._tasks: list[asyncio.Task[None]] = []
        self._refusal: str | None = "is not started"
        """Why jobs are refused, if they are."""
        self.ready = 0
        """Processes that are loaded and answering."""
        self.running = 0
        self.completed = 0
        self.dropped = 0
        """Jobs that gave way to a newer one or to a full queue."""
        self.restarts = 0
        self.lag_s = 0.0
        """How far behind its deadline the last job started."""
        self.on_begun: Callable[[float], None] = lambda _: None
        """Hears how far behind its deadline (below zero: ahead of it) each job starts, in seconds."""
        self.busy_s = 0.0
        """Time that processes have spent on jobs."""

    @property
    def available(self) -> bool:
        """Whether jobs are taken."""
        return self._refusal is None

    @property
    def queued(self) -> int:
        """Jobs that wait for a process."""
        return len(self._queue)

    @property
    def overdue_s(self) -> float:
        """How far beyond its deadline the job is that waits longest for its turn; minus infinity when none waits."""
        return self._queue.overdue_s(self._clock())

    async def start(self) -> None:
        """Start and load all processes at once. Raises what loading raised, or Unavailable; none is left then."""
        starts = [EngineProcess.start(self._spec, LOAD_TIMEOUT_S, self.name) for _ in range(self.processes)]
        started = await asyncio.gather(*starts, return_exceptions=True)
        processes = [process for process in started if isinstance(process, EngineProcess)]
        failure = next((outcome for outcome in started if isinstance(outcome, BaseException)), None)
        if failure is not None:
            await asyncio.gather(*(process.kill() for process in processes))
            if isinstance(failure, (ProcessDied, TimeoutError)):
                raise Unavailable(f"engine {self.name} did not start: {failure}") from failure
            raise failure
        self.ready = len(processes)
        self._refusal = None
        self._tasks = [asyncio.create_task(self._serve(process), name=f"engine {self.name}") for process in processes]

    async def stop(self) -> None:
        """End all processes; jobs that wait or run get Unavailable."""
        self._refuse("is stopping")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        self.ready = 0

    async def run(
        self,
        method: str,
        *arguments: Any,
        rank: int = 0,
        deadline_s: float | None = None,
        key: str | None = None,
        replaceable: bool = False,
        patience_s: float = inf,
    ) -> Any:
        """The value of `engine.method(*arguments)`; None when the job gave way.

        Lower ranks go first, then earlier deadlines (default: now). A `replaceable` job gives way to any later one of
        its key; any job to time, when it was not begun `patience_s` after its deadline. Raises what the engine raised,
        or Unavailable.
        """
        if self._refusal is not None:
            raise Unavailable(f"engine {self.name} {self._refusal}", retry_after_s=LONGEST_BACKOFF_S)
        asked = _Asked(Job(method, arguments), asyncio.get_running_loop().create_future())
        due_s = self._clock() if deadline_s is None else deadline_s
        try:
            self._queue.push(asked, rank, due_s, key, replaceable=replaceable, stale_s=due_s + patience_s)
        except QueueFull:
            message = f"engine {self.name} is overloaded: {self._queue_limit} jobs wait"
            raise Unavailable(message, retry_after_s=5) from None
        self._permits.release()
        return await asked.answer

    def _drop(self, asked: _Asked) -> None:
        if not asked.answer.done():
            asked.answer.set_result(None)
            self.dropped += 1

    async def _next(self) -> Waiting[_Asked]:
        while True:
            await self._permits.acquire()
            entry = self._queue.pop(self._clock())
            if entry is not None:  # else what had a permit gave way, or was dropped from a full queue
                return entry

    async def _serve(self, process: EngineProcess) -> None:
        """Own one process for good: hand it jobs, replace it when it dies."""
        jobs = 0
        try:
            while True:
                entry = await self._next()
                healthy = process.alive
                if healthy:
                    healthy = await self._perform(process, entry)
                    jobs += 1
                else:  # it died with nothing to do: no fault of this job, which any other process may take
                    _log.warning("engine_process_died", engine=self.name, pid=process.pid, attempt=0)
                    self._push_back(entry)
                if not healthy or jobs == self._jobs_per_process:
                    self.ready -= 1
                    await process.kill()
                    self.restarts += not healthy
                    process = await self._replacement()
                    jobs = 0
        finally:
            await process.kill()

    async def _perform(self, process: EngineProcess, entry: Waiting[_Asked]) -> bool:
        """Run one job; False when the process must be replaced."""
        asked = entry.item
        self.running += 1
        asked.attempts += 1
        begun_s = self._clock()
        self.lag_s = max(0.0, begun_s - entry.deadline_s)
        self.on_begun(begun_s - entry.deadline_s)
        try:
            value = await process.run(asked.job, self._job_timeout_s)
        except ProcessDied as cause:
            _log.warning("engine_process_died", engine=self.name, pid=process.pid, attempt=asked.attempts)
            self._retry(entry, cause)
            return False
        except TimeoutError:
            _log.warning("engine_job_timed_out", engine=self.name, pid=process.pid, method=asked.job.method)
            message = f"engine {self.name} gave no answer within {self._job_timeout_s:g} s"
            self._settle(asked, error=JobKilled(message))
            return False
        except asyncio.CancelledError:
            self._settle(asked, error=Unavailable(f"engine {self.name} is stopping"))
            raise
        except Exception as error:  # the engine's own, for whoever asked
            self._settle(asked, error=error)
        else:
            self.completed += 1
            self._settle(asked, value)
        finally:
            self.running -= 1
            self.busy_s += self._clock() - begun_s
        return True

    def _retry(self, entry: Waiting[_Asked], cause: ProcessDied) -> None:
        """Queue the job again if it may be: the fault may have been the machine's and not the job's."""
        attempts = entry.item.attempts
        if attempts > self._retries:
            error = JobKilled(f"engine {self.name} died on this job, {attempts} times")
            error.__cause__ = cause
            self._settle(entry.item, error=error)
            return
        self._push_back(entry)

    def _push_back(self, entry: Waiting[_Asked]) -> None:
        self._queue.push_back(entry)
        self._permits.release()

    async def _replacement(self) -> EngineProcess:
        """A fresh process, however many attempts it takes; jobs do not wait for it when no other is left."""
        backoff_s = FIRST_BACKOFF_S
        while True:
            try:
                process = await EngineProcess.start(self._spec, LOAD_TIMEOUT_S, self.name)
            except Exception as error:  # logged, and tried again
                _log.error("engine_restart_failed", engine=self.name, error=str(error), retry_after_s=backoff_s)
                if not self.ready:
                    self._refuse("could not be restarted")
                await asyncio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, LONGEST_BACKOFF_S)
            else:
                self.ready += 1
                self._refusal = None
                return process

    def _settle(self, asked: _Asked, value: Any = None, error: BaseException | None = None) -> None:
        with contextlib.suppress(asyncio.InvalidStateError):  # the awaiter may have given up
            if error is not None:
                asked.answer.set_exception(error)
            else:
                asked.answer.set_result(value)

    def _refuse(self, reason: str) -> None:
        """Refuse what waits and what comes, until a process is ready again."""
        self._refusal = reason
        for asked in self._queue.clear():
            self._settle(asked, error=Unavailable(f"engine {self.name} {reason}", retry_after_s=LONGEST_BACKOFF_S))
