"""What a server does for itself now and then, beside calls."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Protocol

import structlog

from gateway.engines.engines import Engines
from gateway.engines.load import TICK_S
from gateway.ports import Clock, Unavailable
from gateway.stores.apps import Apps
from gateway.stores.erasure import Eraser, Kept
from gateway.stores.outbox import Outbox, OutboxState
from gateway.telemetry import Metrics

log = structlog.get_logger(__name__)


class Paced(Protocol):
    """Whoever has calls."""

    def pace(self, level: int) -> None:
        """The recogniser is so loaded (0 to 6)."""


APPS_REFRESH_S = 2.0
"""How often a running server looks for apps and secrets that `earshot app` has made or revoked."""
GAUGES_REFRESH_S = 5.0
SWEEP_EVERY_S = 3600.0
WATCHED_STATES: tuple[OutboxState, ...] = ("pending", "submitted", "dead")


async def refresh_apps(apps: Apps) -> None:
    """Look for new apps and secrets, again and again."""
    while True:
        await asyncio.sleep(APPS_REFRESH_S)
        try:
            await apps.refresh()
        except sqlite3.Error as fault:
            log.warning("apps_not_refreshed", fault=str(fault))


async def keep_gauges(outbox: Outbox, clock: Clock, metrics: Metrics) -> None:
    """Count what waits in the outbox, again and again."""
    while True:
        try:
            await refresh_gauges(outbox, clock, metrics)
        except sqlite3.Error as fault:
            log.warning("outbox_not_counted", fault=str(fault))
        await asyncio.sleep(GAUGES_REFRESH_S)


async def refresh_gauges(outbox: Outbox, clock: Clock, metrics: Metrics) -> None:
    """Count what waits in the outbox."""
    depths = {depth.state: depth for depth in await outbox.depths()}
    now = clock.wall()
    for state in WATCHED_STATES:
        depth = depths.get(state)
        metrics.outbox_tasks.labels(state).set(depth.tasks if depth else 0)
        metrics.outbox_oldest_s.labels(state).set(max(0.0, now - depth.oldest_at) if depth else 0)


async def keep_retention(eraser: Eraser, kept: Kept) -> None:
    """Delete what has been kept long enough: now, and again and again."""
    while True:
        try:
            await eraser.sweep(kept)
        except (sqlite3.Error, OSError, Unavailable) as fault:
            log.warning("retention_not_swept", fault=str(fault))
        await asyncio.sleep(SWEEP_EVERY_S)


async def follow_load(engines: Engines, calls: Paced, metrics: Metrics) -> None:
    """Let the calls know how loaded the recogniser is, again and again."""
    recognizer = engines.pools["recognizer"]
    known = 0
    while True:
        await asyncio.sleep(TICK_S)
        level = engines.load.tick()
        if level != known:
            log.info("load_changed", level=level, queued=recognizer.queued, lag_s=round(recognizer.lag_s, 2))
            known = level
        calls.pace(level)
        metrics.load_level.set(level)
        metrics.recognizer_queue.set(recognizer.queued)
        metrics.recognizer_lag_s.set(recognizer.lag_s)
