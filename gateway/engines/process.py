"""One engine process as the parent sees it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import sys
from typing import Any

from gateway.engines.worker import LENGTH, Answer, EngineSpec, Job, frame

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class ProcessDied(Exception):
    """The engine process ended, or broke off, in the middle of something."""


class EngineProcess:
    """A child that loads one engine and answers one job at a time.

    It is a plain subprocess and no fork: forking a process that runs an event loop and native threads is unsafe. It
    ends by itself when this process does.
    """

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self._child = child

    @classmethod
    async def start(cls, spec: EngineSpec, timeout_s: float, name: str = "") -> EngineProcess:
        """Start and wait until the engine is loaded. `name` ends its command line, so that `ps` tells engines apart.

        Raises what the engine's constructor raised, ProcessDied, or TimeoutError; the child is gone then.
        """
        environment = os.environ | _ONE_THREAD | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "gateway.engines.worker", name),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment,
        )
        process = cls(child)
        try:
            await process._exchange(spec, timeout_s)
        except BaseException:
            await process.kill()
            raise
        return process

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def alive(self) -> bool:
        return self._child.returncode is None

    async def run(self, job: Job, timeout_s: float) -> Any:
        """The job's value. Raises what the engine raised, ProcessDied, or TimeoutError; kill it after those two."""
        return await self._exchange(job, timeout_s)

    async def kill(self) -> None:
        """End the child now and reap it. Never raises when it is gone already."""
        with contextlib.suppress(ProcessLookupError):
            self._child.kill()
        await self._child.wait()
        if self._child.stdin is not None:
            self._child.stdin.close()

    async def _exchange(self, message: EngineSpec | Job, timeout_s: float) -> Any:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        try:
            async with asyncio.timeout(timeout_s):
                self._child.stdin.write(frame(message))
                await self._child.stdin.drain()
                header = await self._child.stdout.readexactly(LENGTH.size)
                payload = await self._child.stdout.readexactly(LENGTH.unpack(header)[0])
        except (asyncio.IncompleteReadError, ConnectionError, RuntimeError) as cause:
            # Writing to a child that is gone is a ConnectionError with asyncio, and a RuntimeError with uvloop.
            raise ProcessDied(f"engine process {self.pid} ended") from cause
        answer: Answer = pickle.loads(payload)  # noqa: S301 -- written by our own child
        if answer.error is not None:
            raise answer.error
        return answer.value
