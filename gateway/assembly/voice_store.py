"""Where enrolled voices are kept: in this node's database, or in the Redis that nodes share."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import structlog

from gateway.keys import subkey
from gateway.settings import Settings
from gateway.stores.redis_connection import RedisConnection
from gateway.stores.redis_erasure import RedisErasure
from gateway.stores.redis_requests import RedisRequests
from gateway.stores.redis_voiceprints import RedisVoiceprints
from gateway.stores.sqlite import Database
from gateway.stores.voiceprints import SqliteVoiceprints

log = structlog.get_logger(__name__)
REDIS_TIMEOUT_S = 5.0
"""Longer than calls give Redis: five minutes of audio go in one command."""


VoiceStore = SqliteVoiceprints | RedisVoiceprints


def name_key(key: bytes) -> bytes:
    """By what the audit knows names, from the server's or the cluster's key."""
    return subkey(key, "voiceprint-audit")


async def voice_store(
    settings: Settings,
    database: Database,
    key: bytes,
    begun: AsyncExitStack,
    run: Callable[[str, Coroutine[Any, Any, None]], object],
) -> VoiceStore:
    """The store of this node. `begun` closes its connection, `run` runs what it does by itself until the server stops.

    Says in the log if voices are in this node's database that should be in Redis.
    """
    own = SqliteVoiceprints(database, name_key=name_key(key))
    if not settings.redis_url:
        return own
    # A pool of its own: recordings on their way must not hold up the acks of calls.
    connection = RedisConnection(settings.redis_url, timeout_s=REDIS_TIMEOUT_S)
    begun.push_async_callback(connection.close)
    if left := await own.total():
        log.warning("voices_not_shared", voices=left, remedy="earshot voiceprint share")
    run("voices-erasure", RedisErasure(connection).run())
    return RedisVoiceprints(connection, name_key=name_key(key))


def shared_requests(settings: Settings, begun: AsyncExitStack) -> RedisRequests | None:
    """What counts an app's voiceprint requests over all nodes; None where there is one, or no limit."""
    at_once, per_s = settings.max_requests_per_app, settings.voiceprint_requests_per_s
    if not settings.redis_url or not (at_once or per_s):
        return None
    connection = RedisConnection(settings.redis_url)
    begun.push_async_callback(connection.close)
    return RedisRequests(connection, at_once=at_once, per_s=per_s)
