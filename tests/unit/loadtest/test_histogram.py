"""Latencies are counted to within a bucket, wherever they were counted."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from loadtest.figures.histogram import Histogram, percentiles

TIMES_S = st.lists(st.floats(min_value=-1, max_value=4000), min_size=1, max_size=200)


def of(values: list[float]) -> Histogram:
    histogram = Histogram()
    histogram.add(values)
    return histogram


@given(TIMES_S, st.floats(min_value=0.01, max_value=1))
def test_a_percentile_is_the_value_of_that_rank_to_within_a_64th(values: list[float], share: float) -> None:
    exact = max(0.0, float(np.quantile(values, share, method="inverted_cdf")))
    told = of(values).percentile_s(share)
    assert exact - 1e-6 <= told <= exact * (1 + 1 / 64) + 2e-6


@given(TIMES_S, TIMES_S)
def test_histograms_merged_are_one_of_all_values(some: list[float], others: list[float]) -> None:
    merged = of(some)
    merged.merge(of(others))
    whole = of(some + others)
    assert merged.sparse() == whole.sparse()
    assert merged.max_s == whole.max_s


@given(TIMES_S)
def test_a_histogram_travels_as_its_counts(values: list[float]) -> None:
    histogram = of(values)
    again = Histogram.of(histogram.sparse(), histogram.max_s, histogram.sum_s)
    assert again.percentile_s(0.99) == histogram.percentile_s(0.99)
    assert again.count == len(values)


@given(TIMES_S.filter(bool))
def test_percentiles_of_a_few_are_values_that_so_many_do_not_exceed(values: list[float]) -> None:
    p50, p95, p99, most = percentiles(values)
    for share, one in ((0.5, p50), (0.95, p95), (0.99, p99)):
        assert one in values
        assert sum(value <= one for value in values) >= share * len(values)
        assert sum(value < one for value in values) < share * len(values)
    assert most == max(values)


def test_nothing_counted_is_zero() -> None:
    assert Histogram().percentile_s(0.5) == 0.0


def test_the_greatest_value_is_told_exactly() -> None:
    assert of([0.1, 7.654321]).percentile_s(1) == 7.654321
