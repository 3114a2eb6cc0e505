"""The cluster demo: two gateways and two workers around a Redis, of each one is killed, and nothing may be lost."""

from __future__ import annotations

import asyncio
import secrets
import signal
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import aiohttp
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from gateway.clients.quality_http import QualityHttp
from gateway.demo.material import LANGUAGES, categories
from gateway.ports import StoredCategory
from loadtest.cluster.accounts import Check, Observed, checks
from loadtest.cluster.calls import PlayedCall, material, play
from loadtest.cluster.looking import Looking, at_work_of, judged, left_over
from loadtest.cluster.parts import Gateway, RedisPart, Worker
from protocol.messages import QcResult

APP_ID: Final = "demo"
RAMP_S: Final = 1.0
REDIS_AWAY_S: Final = 30.0
REDIS_AFTER_S: Final = 6.0
"""From the gateway's death to Redis's trouble: by then its calls have moved."""
WORK_S: Final = 90.0
"""How long to wait for a recording in the hand of the worker that is to be killed."""
RedisTrouble = Literal["none", "restart", "stop", "flush"]


@dataclass(frozen=True, slots=True)
class Plan:
    calls: int
    seconds: float
    """Length of a call."""
    kill_after_s: float
    """From the first call's beginning to the gateway's death."""
    redis: RedisTrouble
    workers: int
    """Processes of each gateway that take calls."""
    ack: Literal["replica", "local"]
    module: str
    """What runs `serve` and `worker`."""


@dataclass(frozen=True, slots=True)
class Cluster:
    redis: RedisPart
    gateways: Sequence[Gateway]
    workers: Sequence[Worker]
    secret: str


class Demo:
    """One run in a folder of its own."""

    def __init__(self, plan: Plan, folder: Path, console: Console) -> None:
        self._plan = plan
        self._folder = folder
        self._console = console
        self._began_s = time.monotonic()
        self._killed_at_s = 0.0
        self._moved: frozenset[int] = frozenset()
        self._had_work = False

    async def run(self) -> bool:
        """Play, kill, prove and print; True when every promise was kept. Raises NotStarted."""
        with ExitStack() as ending:
            cluster = await asyncio.to_thread(self._start, ending)
            self._began_s = time.monotonic()
            async with aiohttp.ClientSession() as http:
                await self._rules(http, cluster)
                calls = self._calls(cluster)
                with self._bars() as bars:
                    await self._play(cluster, calls, bars)
                observed = await self._look(Looking(http, APP_ID, cluster.secret), cluster, calls)
        return self._report(checks(observed), observed)

    # --- the cluster ---

    def _start(self, ending: ExitStack) -> Cluster:
        folder, module = self._folder, self._plan.module
        redis = RedisPart(folder)
        ending.callback(redis.end)
        with self._console.status("starting Redis, two gateways and two workers, and loading their engines"):
            redis.start()
            secret = secrets.token_hex(16)
            settings = {
                "apps": f"{APP_ID}:{secret}",
                "redis_url": redis.url,
                "cluster_key": secrets.token_hex(32),
                "quality_folder": str(folder / "quality"),
                "recordings_folder": str(folder / "recordings"),
                "ack": self._plan.ack,
                "workers": str(self._plan.workers),
                "lease_s": "5",
                "quality_workers": "0",
                # Sized for two processors, on which seven engines have to live.
                "recognizer_processes": "1",
                "partial_hop_ms": "0",
                "index_calls": "false",
                "qc_poll_s": "0.5",
            }
            gateways = [Gateway(name, folder, settings, module) for name in ("gateway-one", "gateway-two")]
            workers = [Worker(name, folder, settings, module) for name in ("worker-one", "worker-two")]
            for part in (*gateways, *workers):
                ending.callback(part.end)
                part.begin()
            for gateway in gateways:
                gateway.when_ready()
            for worker in workers:
                worker.when_ready()
        self._say(f"ready: {', '.join(part.name for part in (redis, *gateways, *workers))}")
        return Cluster(redis, gateways, workers, secret)

    async def _rules(self, http: aiohttp.ClientSession, cluster: Cluster) -> None:
        api = QualityHttp(http, cluster.gateways[0].http, lambda _: (APP_ID, cluster.secret))
        for language in LANGUAGES:
            for one in categories(language):
                await api.add_rule(APP_ID, StoredCategory(one.name, one.description, tuple(one.contents)))

    def _calls(self, cluster: Cluster) -> list[PlayedCall]:
        """Every other call begins at the gateway that will die, in each language."""
        played = material(self._plan.seconds)
        found = []
        for number in range(self._plan.calls):
            one, first = played[number // 2 % len(played)], cluster.gateways[number % 2]
            found.append(PlayedCall(number + 1, first.name, one.start, one.pcm))
        return found

    # --- the run ---

    async def _play(self, cluster: Cluster, calls: Sequence[PlayedCall], bars: Progress) -> None:
        spoken, verdicts = bars.add_task("calls hung up", total=len(calls)), bars.add_task("verdicts", total=len(calls))

        async def one(call: PlayedCall) -> None:
            await asyncio.sleep((call.number - 1) * RAMP_S)
            first, other = sorted(cluster.gateways, key=lambda gateway: gateway.name != call.first_node)
            await play(call, [first.ws, other.ws], APP_ID, cluster.secret)

        async def follow() -> None:
            while True:
                bars.update(spoken, completed=sum(call.hung_up for call in calls))
                bars.update(verdicts, completed=sum(bool(call.of(QcResult)) for call in calls))
                await asyncio.sleep(0.2)

        following = asyncio.create_task(follow())
        try:
            async with asyncio.TaskGroup() as group:
                for call in calls:
                    group.create_task(one(call))
                group.create_task(self._strike(cluster, calls))
        finally:
            bars.update(spoken, completed=sum(call.hung_up for call in calls))
            bars.update(verdicts, completed=sum(bool(call.of(QcResult)) for call in calls))
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def _strike(self, cluster: Cluster, calls: Sequence[PlayedCall]) -> None:
        gateway, at_work = cluster.gateways[0], None
        await asyncio.sleep(self._plan.kill_after_s)
        going_on = (call for call in calls if call.acked_at_s and not call.hung_up)
        self._moved = frozenset(call.number for call in going_on if call.first_node == gateway.name)
        self._killed_at_s = time.monotonic()
        gateway.kill()
        self._say(f"kill -9 {gateway.name}, with {len(self._moved)} calls on it")
        if self._plan.redis != "none":
            await asyncio.sleep(REDIS_AFTER_S)
            await self._trouble(cluster.redis)
        deadline_s = time.monotonic() + self._plan.seconds + WORK_S
        while at_work is None and time.monotonic() < deadline_s and not all(call.of(QcResult) for call in calls):
            await asyncio.sleep(0.02)
            at_work = await asyncio.to_thread(at_work_of, cluster.redis.client, cluster.workers)
        self._had_work, worker = at_work is not None, at_work or cluster.workers[0]
        worker.kill()
        self._say(f"kill -9 {worker.name}, {'at its work' if self._had_work else 'which had nothing to do'}")

    async def _trouble(self, redis: RedisPart) -> None:
        match self._plan.redis:
            case "restart":
                redis.kill()
                await asyncio.to_thread(redis.start)
                self._say("kill -9 redis, and started again")
            case "stop":
                redis.signal(signal.SIGSTOP)
                self._say(f"redis stopped for {REDIS_AWAY_S:g} s")
                await asyncio.sleep(REDIS_AWAY_S)
                redis.signal(signal.SIGCONT)
                self._say("redis goes on")
            case "flush":
                await asyncio.to_thread(redis.client.flushall)
                self._say("redis flushed")
            case "none":
                pass

    async def _look(self, looking: Looking, cluster: Cluster, calls: Sequence[PlayedCall]) -> Observed:
        gateway = cluster.gateways[0]
        gateway.begin()
        with self._console.status(
            f"starting {gateway.name} again: it must do nothing more to its calls, and tell of all"
        ):
            await asyncio.to_thread(gateway.when_ready)
        self._say(f"{gateway.name} is back")
        nodes = {one.name: await looking.told(one, calls) for one in reversed(cluster.gateways)}
        used_ms = await looking.used_ms(cluster.gateways[1])
        client = cluster.redis.client
        return Observed(
            calls=calls,
            moved=self._moved,
            killed_at_s=self._killed_at_s,
            worker_had_work=self._had_work,
            nodes=nodes,
            judged=await asyncio.to_thread(judged, client, cluster.workers, used_ms),
            left_in_redis=await asyncio.to_thread(left_over, client),
        )

    # --- what is printed ---

    def _report(self, found: Sequence[Check], observed: Observed) -> bool:
        table = Table("promise", "seen", "", title="Two gateways, two workers, one of each killed")
        for check in found:
            table.add_row(check.promise, check.seen, f"[red]BROKEN: {check.fault}" if check.fault else "[green]kept")
        self._console.print(table)
        moved = [call for call in observed.calls if call.number in observed.moved]
        stayed = [call for call in observed.calls if call.number not in observed.moved]
        breaks = [call.longest_silence_s(observed.killed_at_s) for call in moved]
        if breaks:
            usual = statistics.median(call.longest_silence_s() for call in stayed) if stayed else 0.0
            self._console.print(
                f"Clients of the killed gateway had no ack for {statistics.median(breaks):.2f} s (median), "
                f"{max(breaks):.2f} s at most; the longest wait of the others was {usual:.2f} s (median). "
                "What they said meanwhile is in the recordings."
            )
        broken = sum(bool(check.fault) for check in found)
        took_s = time.monotonic() - self._began_s
        verdict = f"[red]{broken} promises were broken" if broken else "[green]Nothing was lost"
        self._console.print(f"{verdict}[/] ({took_s:.0f} s).")
        return not broken

    def _say(self, text: str) -> None:
        self._console.print(f"[dim]{time.monotonic() - self._began_s:6.1f} s[/]  {text}", highlight=False)

    def _bars(self) -> Progress:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        return Progress(*columns, console=self._console)
