"""One way to a Redis server: bounded waits, clear faults, scripts that survive its restarts."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gateway.ports import Unavailable

log = structlog.get_logger(__name__)

T = TypeVar("T")
Argument = str | bytes | int
MAX_CONNECTIONS = 8
"""Round trips of one node that may be under way together; more wait their turn, within the timeout."""


class RedisScript:
    """A Lua script: Redis runs it as one step, and knows it by its digest."""

    def __init__(self, text: str) -> None:
        self.text = text
        # Redis names scripts so; nothing is protected by it.
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def without_password(url: str) -> str:
    """A Redis URL as people may see it."""
    return re.sub(r"(//[^/@:]*:)[^@]*@|([?&]password=)[^&]*", _starred, url)


def _starred(found: re.Match[str]) -> str:
    return f"{found[1]}***@" if found[1] else f"{found[2]}***"


class Unsuitable(Exception):
    """This Redis cannot keep what a cluster entrusts to it; the text says why, and what to change."""


class RedisConnection:
    """A small pool of connections. A command that fails, times out or is cancelled costs its connection: a reply that
    comes late can then never be taken for another command's."""

    def __init__(self, url: str, *, timeout_s: float = 2.0) -> None:
        """`url` is redis://, rediss:// or unix://, with the password if any. Raises ValueError for another."""
        self.shown_url = without_password(url)
        self._url = url
        self._timeout_s = timeout_s
        self._pool = BlockingConnectionPool.from_url(
            url,
            max_connections=MAX_CONNECTIONS,
            timeout=timeout_s,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),  # whoever asks knows best whether, and how soon, to ask again
        )
        self._redis: Redis = Redis(connection_pool=self._pool)

    async def close(self) -> None:
        await self._redis.aclose()
        await self._pool.disconnect()

    @property
    def database(self) -> int:
        """The number of the Redis database whose keys these are."""
        return int(self._pool.connection_kwargs.get("db") or 0)

    def listener(self) -> PubSub:
        """Something to hear published messages with, on a connection of its own; whoever takes it closes it."""
        alone: Redis = Redis.from_url(
            self._url,
            socket_timeout=self._timeout_s,
            socket_connect_timeout=self._timeout_s,
            retry=Retry(NoBackoff(), 0),
        )
        return _Listener(alone)

    async def command(self, *words: Argument) -> Any:
        """One command's reply; bytes stay bytes. Raises Unavailable, whatever Redis has against it."""
        async with self._faults():
            return await self._redis.execute_command(*words)  # type: ignore[no-untyped-call]

    async def commands(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        """The replies to several commands, in one round trip. Raises Unavailable if any fails."""
        async with self._faults():
            pipeline = self._redis.pipeline(transaction=False)
            for words in commands:
                pipeline.execute_command(*words)
            replies: list[Any] = await pipeline.execute()
            return replies

    async def run(self, script: RedisScript, keys: Sequence[Argument], arguments: Sequence[Argument]) -> Any:
        """One script's reply. Raises Unavailable."""
        return (await self.run_all(script, [(keys, arguments)]))[0]

    async def run_all(
        self, script: RedisScript, calls: Sequence[tuple[Sequence[Argument], Sequence[Argument]]]
    ) -> list[Any]:
        """Run a script once for each (keys, arguments), in one round trip; replies in their order.

        Raises Unavailable if any fails; the others have run all the same.
        """
        async with self._faults():
            replies = await self._evaluate(script, calls)
            strangers = [number for number, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if strangers:
                # Redis was restarted. Order among the calls of one round trip is nobody's concern.
                await self._redis.script_load(script.text)
                again = await self._evaluate(script, [calls[number] for number in strangers])
                for number, reply in zip(strangers, again, strict=True):
                    replies[number] = reply
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
            return replies

    async def _evaluate(
        self, script: RedisScript, calls: Sequence[tuple[Sequence[Argument], Sequence[Argument]]]
    ) -> list[Any]:
        pipeline = self._redis.pipeline(transaction=False)
        for keys, arguments in calls:
            pipeline.execute_command("EVALSHA", script.digest, len(keys), *keys, *arguments)
        replies: list[Any] = await pipeline.execute(raise_on_error=False)
        return replies

    @asynccontextmanager
    async def _faults(self) -> AsyncIterator[None]:
        """Bound the wait, and say of any fault that it is Redis's."""
        task = asyncio.current_task()
        cancelled_before = task.cancelling() if task else 0
        try:
            # The client's own timeouts are per read and write: a server that trickles must not hold us for ever.
            async with asyncio.timeout(2 * self._timeout_s):
                yield
        except RedisConnectionError as fault:
            # Idle connections to the same server are as dead; finding out one by one would cost a command each.
            with suppress(RedisError, OSError):
                await self._pool.disconnect(inuse_connections=False)
            raise Unavailable(f"Redis at {self.shown_url} cannot be reached: {fault}") from fault
        except (TimeoutError, RedisTimeoutError) as fault:
            raise Unavailable(f"Redis at {self.shown_url} did not answer within {self._timeout_s:g} s") from fault
        except (RedisError, OSError) as fault:
            raise Unavailable(f"Redis at {self.shown_url} refuses: {fault}") from fault
        finally:
            # The library drops a cancellation that comes while it looks whether a pooled connection still lives: a task
            # that was told to end would go on for ever.
            if task and task.cancelling() > cancelled_before:
                raise asyncio.CancelledError


class _Listener(PubSub):
    """Takes its client's pool with it when it is closed."""

    def __init__(self, client: Redis) -> None:
        super().__init__(client.connection_pool)
        self._client = client

    async def aclose(self) -> None:
        await super().aclose()  # type: ignore[no-untyped-call]
        await self._client.aclose(close_connection_pool=True)


OLDEST_REDIS = 7


async def check_suitable(connection: RedisConnection, *, replicated: bool) -> list[str]:
    """What an operator should know about this Redis; nothing if all is well.

    `replicated`: acks rest on it. Raises Unsuitable for one that would break its promises, and Unavailable.
    """
    information: dict[str, Any] = {}
    for section in ("server", "memory", "persistence"):
        information.update(await connection.command("INFO", section))
    version = str(information.get("redis_version", "0"))
    if int(version.partition(".")[0]) < OLDEST_REDIS:
        raise Unsuitable(f"Redis at {connection.shown_url} is {version}: Earshot needs {OLDEST_REDIS} or newer")
    policy = information.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise Unsuitable(
            f"Redis at {connection.shown_url} drops keys when it is full (maxmemory-policy {policy}), and with them "
            "calls: set it to noeviction"
        )
    if not int(information.get("aof_enabled", 0)):
        what = "tails and enrolled voices" if replicated else "enrolled voices"
        return [f"Redis at {connection.shown_url} forgets {what} when it restarts: set appendonly yes"]
    return []
