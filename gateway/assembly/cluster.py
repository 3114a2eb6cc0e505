"""What a node shares with others, through Redis; without one it is alone."""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack

import structlog

from gateway.assembly.folder import StartFailed
from gateway.keys import server_key, subkey
from gateway.ports import Clock, RuleBooks, Unavailable
from gateway.session.ownership import Standing
from gateway.settings import Settings
from gateway.stores.cluster import Cluster, solitary, through_redis
from gateway.stores.redis_connection import RedisConnection, Unsuitable, check_suitable

log = structlog.get_logger(__name__)


async def join_cluster(settings: Settings, books: RuleBooks, clock: Clock, begun: AsyncExitStack) -> Cluster:
    """This node's part in its cluster; `begun` closes its connection. Raises StartFailed."""
    if not settings.redis_url:
        return solitary(clock, books, resume_window_s=settings.resume_window_s)
    connection = RedisConnection(settings.redis_url)
    begun.push_async_callback(connection.close)
    try:
        doubts = await check_suitable(connection, replicated=settings.replicated)
    except Unsuitable as fault:
        raise StartFailed(str(fault)) from fault
    except Unavailable as fault:
        doubts = [f"{fault}; this node goes on alone until it can be"]
    for doubt in doubts:
        log.warning("cluster_doubtful", doubt=doubt)
    node = node_name(settings)
    standing = Standing(settings.lease_s, settings.resume_window_s, settings.replicated, node=node)
    ack = "replica" if standing.replicated else "local"
    log.info("node_of_a_cluster", node=node, redis=connection.shown_url, ack=ack)
    return through_redis(connection, node, clock, books, standing, _note_replication)


def node_name(settings: Settings) -> str:
    """Under which the others know this node: the same after a restart, for what it has finished stays with it."""
    return settings.node or f"{socket.gethostname()}-{subkey(server_key(settings.data_path), 'node').hex()[:6]}"


def _note_replication(fault: str | None) -> None:
    if fault is None:
        log.info("replication_is_well")
    else:
        log.warning("replication_is_not_well", fault=fault)
