"""What the server under load takes of its machine, and how late its event loops run."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

LOOP_LAG = "earshot_loop_lag_seconds"
TIMEOUT = aiohttp.ClientTimeout(total=5)


class ExtraMissing(Exception):
    """A package of the extra `load` is not installed."""

    def __init__(self, package: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package}, which is not installed: pip install 'earshot[load]'")


@dataclass(frozen=True, slots=True)
class Lags:
    """A histogram as Prometheus has it: how many were at most so many seconds, by upper bound."""

    up_to: dict[float, float] = field(default_factory=dict)

    @property
    def count(self) -> float:
        return self.up_to.get(float("inf"), 0.0)

    def since(self, before: Lags) -> Lags:
        """What came after `before` was taken. A server that began anew in between counts from there."""
        if before.count > self.count:
            return self
        return Lags({bound: count - before.up_to.get(bound, 0.0) for bound, count in self.up_to.items()})

    def at_most_s(self, share: float) -> float:
        """The least bound that a `share` of all do not exceed; of the open last bucket, its lower bound."""
        finite = [bound for bound in sorted(self.up_to) if bound != float("inf")]
        for bound in finite:
            if self.up_to[bound] >= share * self.count:
                return bound
        return finite[-1] if finite else 0.0

    @classmethod
    def of_metrics(cls, text: str) -> Lags:
        """Of a /metrics page; those of several processes are added up."""
        up_to: dict[float, float] = {}
        for family in text_string_to_metric_families(text):
            if family.name == LOOP_LAG:
                for sample in family.samples:
                    if sample.name == f"{LOOP_LAG}_bucket":
                        bound = float(sample.labels["le"])
                        up_to[bound] = up_to.get(bound, 0.0) + sample.value
        return cls(up_to)


@dataclass(frozen=True, slots=True)
class ServerSample:
    """`cpu_s`: of each of its processes, by pid, since it began; empty where the server runs elsewhere."""

    cpu_s: dict[int, float]
    rss_bytes: int
    loop_lags: Lags


class ServerProbe:
    """Looks at the processes of `pid` and below, if given, and at /metrics."""

    def __init__(self, http_url: str, pid: int | None, session: aiohttp.ClientSession) -> None:
        """Raises ExtraMissing, when there is a process to look at and nothing to do it with."""
        self._metrics_url = f"{http_url.rstrip('/')}/metrics"
        self._session = session
        self._lags = Lags()
        self._asking: asyncio.Task[None] | None = None
        if pid is None:
            self._process = None
            return
        try:
            import psutil
        except ImportError as fault:
            raise ExtraMissing("psutil", "measuring the server's CPU and memory") from fault
        self._gone = psutil.NoSuchProcess
        self._process = psutil.Process(pid)
        self._ended_cpu_s: dict[int, float] = {}

    async def begin(self) -> None:
        """See what the server has told of its loops before the run: it is not the run's."""
        await self._ask()

    def sample(self) -> ServerSample:
        """As of now; the lags are those that the server told last, for one that is overloaded answers late."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.get_running_loop().create_task(self._ask())
        return ServerSample(*self._of_processes(), self._lags)

    async def close(self) -> None:
        """Ask no more."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    async def _ask(self) -> None:
        try:
            async with self._session.get(self._metrics_url, timeout=TIMEOUT) as answer:
                if answer.status == 200:
                    self._lags = Lags.of_metrics(await answer.text())
        except (aiohttp.ClientError, TimeoutError, ValueError):
            pass  # overloaded, or no Earshot's metrics at this address: told as not measured

    def _of_processes(self) -> tuple[dict[int, float], int]:
        if self._process is None:
            return {}, 0
        rss_bytes = 0
        try:
            family = [self._process, *self._process.children(recursive=True)]
        except self._gone:
            family = []
        for process in family:
            try:
                times = process.cpu_times()
                self._ended_cpu_s[process.pid] = times.user + times.system
                rss_bytes += process.memory_info().rss
            except self._gone:
                continue  # what it has used until we looked last stays counted
        return dict(self._ended_cpu_s), rss_bytes
