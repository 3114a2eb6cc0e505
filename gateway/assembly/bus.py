"""How this process hears of the calls of others: through the Redis of its cluster, or not at all."""

from __future__ import annotations

from contextlib import AsyncExitStack

from gateway.ports.bus import Bus
from gateway.settings import Settings
from gateway.stores.redis_bus import RedisBus
from gateway.stores.redis_connection import RedisConnection
from gateway.stores.solitary_bus import SolitaryBus
from gateway.telemetry import Metrics


def join_bus(settings: Settings, metrics: Metrics, begun: AsyncExitStack) -> Bus:
    """The bus of this process; `begun` ends its part in it."""
    if not settings.redis_url:
        return SolitaryBus()
    connection = RedisConnection(settings.redis_url)
    begun.push_async_callback(connection.close)
    bus = RedisBus(connection, on_dropped=metrics.bus_dropped.inc)
    bus.start()
    begun.push_async_callback(bus.stop)
    return bus
