"""Both ends of a link, in one process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from socket import socketpair

from gateway.workers.link import Link


@asynccontextmanager
async def linked() -> AsyncIterator[tuple[Link, Link]]:
    """The main process's end and a worker's; each is to `listen` once it has its handlers."""
    one, other = socketpair()
    main, worker = await Link.over(one, "a worker"), await Link.over(other, "the main process")
    try:
        yield main, worker
    finally:
        main.close()
        worker.close()
        await main.gone.wait()
        await worker.gone.wait()
