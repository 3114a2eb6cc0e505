"""When garbage is looked for everywhere: a full collection walks through every object of every call, some 0.2 ms a
call, and nothing else happens meanwhile. Python would have one whenever a quarter more objects are there.

Calls leave no cycles behind, so what waits for a full collection is little.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

from gateway.ports import Clock

LOOK_EVERY_S = 10.0
FEW_CALLS = 10
"""With no more calls a full collection takes no longer than a packet may be late."""
OFTEN_S, SELDOM_S = 60.0, 600.0
"""Between two full collections, with few calls and with more."""
_NEVER = 1_000_000


def leave_full_collections_to_us() -> None:
    """What start-up made stays for good and is looked at no more; when to look at the rest, `collect_garbage` says."""
    gc.collect()
    gc.freeze()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, _NEVER)


async def collect_garbage(calls: Callable[[], int], clock: Clock) -> None:
    """Collect everything now and then, until cancelled; `calls` says how many there are."""
    last_s = clock.monotonic()
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        if due(calls(), clock.monotonic() - last_s):
            gc.collect()
            last_s = clock.monotonic()


def due(calls: int, since_s: float) -> bool:
    """Whether to collect everything, with so many calls and so long after the last time."""
    return since_s >= (OFTEN_S if calls <= FEW_CALLS else SELDOM_S)
