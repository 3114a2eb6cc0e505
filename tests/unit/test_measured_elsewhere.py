"""One page of metrics for several processes: what each has counted is added up."""

from gateway.telemetry import Metrics, samples_of


def lines(metrics: Metrics) -> set[str]:
    return set(metrics.page().decode().splitlines())


def test_alone_the_page_is_the_registry() -> None:
    metrics = Metrics()
    metrics.calls_live.set(3)
    metrics.refused.labels("overloaded").inc()
    assert {"earshot_calls_live 3.0", 'earshot_refused_total{code="overloaded"} 1.0'} <= lines(metrics)


def test_values_of_others_are_added_also_under_labels_that_are_new_here() -> None:
    here, there = Metrics(), Metrics()
    here.calls_live.set(1)
    there.calls_live.set(2)
    here.refused.labels("overloaded").inc()
    there.refused.labels("overloaded").inc(4)
    there.refused.labels("too_fast").inc()
    for metrics in (here, there):
        metrics.ack_lag_s.observe(0.02)
    here.elsewhere = lambda: samples_of(there.registry)
    assert {
        "earshot_calls_live 3.0",
        'earshot_refused_total{code="overloaded"} 5.0',
        'earshot_refused_total{code="too_fast"} 1.0',
        'earshot_ack_lag_seconds_bucket{le="0.025"} 2.0',
        "earshot_ack_lag_seconds_count 2.0",
    } <= lines(here)


def test_what_only_grows_is_told_apart() -> None:
    metrics = Metrics()
    metrics.calls_total.inc()
    metrics.calls_live.set(1)
    growing = {name for name, _ in samples_of(metrics.registry, only_growing=True)}
    assert "earshot_calls_total" in growing
    assert "earshot_ack_lag_seconds_sum" in growing
    assert "earshot_calls_live" not in growing
