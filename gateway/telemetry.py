"""What an operator can see: logs and metrics."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample
from structlog.processors import ExceptionRenderer
from structlog.tracebacks import ExceptionDictTransformer

_LATENCY_S = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)


class Metrics:
    """One process's metrics, in a registry of their own so that tests can have many."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.calls_live = Gauge("earshot_calls_live", "Calls going on now.", registry=registry)
        self.calls_total = Counter("earshot_calls", "Calls begun.", registry=registry)
        self.audio_seconds = Counter("earshot_audio_seconds", "Audio received, of each channel.", registry=registry)
        self.messages_sent = Counter("earshot_messages_sent", "Server messages, by type.", ["type"], registry=registry)
        self.acks_sent = self.messages_sent.labels("ack")
        self.ack_lag_s = Histogram(
            "earshot_ack_lag_seconds", "From audio received to safe on disk.", buckets=_LATENCY_S, registry=registry
        )
        self.engine_s = Histogram(
            "earshot_engine_seconds",
            "From a question to an engine to its answer, waiting included.",
            ["engine"],
            buckets=_LATENCY_S,
            registry=registry,
        )
        self.engine_failures = Counter(
            "earshot_engine_failures", "Questions no engine answered.", ["engine"], registry=registry
        )
        self.load_level = Gauge(
            "earshot_load_level", "What live text gives up: 0 nothing, 6 all but late finals.", registry=registry
        )
        self.recognizer_queue = Gauge("earshot_recognizer_queue", "Texts that wait their turn.", registry=registry)
        self.recognizer_lag_s = Gauge(
            "earshot_recognizer_lag_seconds",
            "How late, after its deadline, the latest text was begun.",
            registry=registry,
        )
        self.alerts = Counter("earshot_alerts", "Alert statuses reached.", ["status"], registry=registry)
        self.loop_lag_s = Histogram(
            "earshot_loop_lag_seconds", "How late the event loop ran.", buckets=_LATENCY_S, registry=registry
        )
        self.disk_free_bytes = Gauge("earshot_disk_free_bytes", "Free space for the data folder.", registry=registry)
        self.journal_backlog_bytes = Gauge(
            "earshot_journal_backlog_bytes", "What waits in memory for the disk.", registry=registry
        )
        self.outbox_tasks = Gauge(
            "earshot_outbox_tasks",
            "Tasks that voice QC owes a verdict on, or was given up for.",
            ["state"],
            registry=registry,
        )
        self.outbox_oldest_s = Gauge(
            "earshot_outbox_oldest_seconds", "Age of the oldest such task.", ["state"], registry=registry
        )
        self.erased = Counter(
            "earshot_erased", "What was deleted for good, on request or by retention.", ["what"], registry=registry
        )
        self.bus_dropped = Counter(
            "earshot_bus_dropped", "What other processes should have been told and were not.", registry=registry
        )
        self.watchers = Gauge("earshot_watchers", "Sockets that watch calls.", registry=registry)
        self.watch_messages = Counter("earshot_watch_messages", "Messages told to watchers.", registry=registry)
        self.watch_coalesced = Counter(
            "earshot_watch_coalesced", "Messages left out for watchers that a newer one stood for.", registry=registry
        )
        self.watchers_dropped = Counter(
            "earshot_watchers_dropped", "Watchers cut off, by the reason.", ["code"], registry=registry
        )
        self.refused = Counter("earshot_refused", "Requests and sockets refused.", ["code"], registry=registry)
        self.elsewhere: Callable[[], Mapping[SampleKey, float]] = dict
        """What other processes of this server have measured."""

    def page(self) -> bytes:
        """All that was measured, in Prometheus' text format: what several processes have is added up."""
        return generate_latest(_Sums(self.registry, self.elsewhere()))


SampleKey = tuple[str, tuple[tuple[str, str], ...]]
"""A sample's name, and its labels with their values."""


def samples_of(registry: CollectorRegistry, *, only_growing: bool = False) -> dict[SampleKey, float]:
    """Every value of a registry; with `only_growing`, of what is counted rather than measured now."""
    return {
        (sample.name, tuple(sample.labels.items())): sample.value
        for family in registry.collect()
        if not only_growing or family.type in ("counter", "histogram")
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


class _Sums:
    """A registry's families with the values of others added, as `generate_latest` reads them."""

    def __init__(self, registry: CollectorRegistry, others: Mapping[SampleKey, float]) -> None:
        self._registry = registry
        self._others = dict(others)

    def collect(self) -> Iterator[Metric]:
        for family in self._registry.collect():
            known = []
            for sample in family.samples:
                more = self._others.pop((sample.name, tuple(sample.labels.items())), 0.0)
                known.append(sample._replace(value=sample.value + more))
            names = {family.name + suffix for suffix in ("", "_total", "_bucket", "_count", "_sum")}
            unknown = [key for key in self._others if key[0] in names]
            known += [Sample(name, dict(labels), self._others.pop((name, labels))) for name, labels in unknown]
            family.samples = known
            yield family


def configure_logging(level: str, style: Literal["console", "json"]) -> None:
    """Log to standard error: for people, or one JSON object a line.

    Tracebacks come without the values of variables: those hold secrets, and what people said.
    """
    renderers: list[structlog.typing.Processor] = (
        [
            ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
            structlog.processors.JSONRenderer(),
        ]
        if style == "json"
        else [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
