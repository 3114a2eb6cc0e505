"""Quotas: read from a setting, compared with what was used, told with the moment they begin anew."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ports import Quotas, day_of, next_day_at, stamp
from gateway.settings import Settings, parse_quotas

MOMENTS = st.integers(0, 4_000_000_000_000).map(lambda wall_ms: wall_ms / 1000)
AMOUNTS = st.integers(0, 10**12)


@given(MOMENTS)
def test_a_moment_lies_in_its_day_and_before_the_next(wall_s: float) -> None:
    begins = datetime.fromisoformat(f"{day_of(wall_s)}T00:00:00+00:00")
    assert begins.timestamp() <= wall_s < next_day_at(wall_s).timestamp()
    assert next_day_at(wall_s) - begins == timedelta(days=1)


@given(AMOUNTS, AMOUNTS, MOMENTS)
def test_an_app_is_refused_from_its_last_unit_on_and_never_without_a_quota(
    limit: int, used: int, wall_s: float
) -> None:
    refusal = Quotas({("", "quality_ms"): limit}).refusal("shop", "quality_ms", used, wall_s)
    assert bool(refusal) == (limit > 0 and used >= limit)
    if refusal:
        assert stamp(next_day_at(wall_s)) in refusal
    assert Quotas().refusal("shop", "quality_ms", used, wall_s) == ""


@given(st.dictionaries(st.sampled_from(["", "shop", "a=b"]), st.integers(0, 10**9)), st.booleans())
def test_a_setting_says_what_each_app_may_use(limits: dict[str, int], spaced: bool) -> None:
    entries = [f"{app_id}:quality_s={limit}" if app_id else f"quality_s={limit}" for app_id, limit in limits.items()]
    quotas = parse_quotas((" , " if spaced else ",").join(entries))
    for app_id in ("shop", "a=b", "another"):
        own = limits.get(app_id, limits.get("", 0))
        assert quotas.of(app_id, "quality_ms") == (own * 1000 or None)
        assert quotas.of(app_id, "voiceprint_requests") is None


@pytest.mark.parametrize(
    "wrong", ["quality_s", "quality_s=", "quality_s=-1", "quality_s=1.5", "minutes=3", ":quality_s=3", "shop=3", "=3"]
)
def test_a_quota_of_another_form_is_named(wrong: str) -> None:
    with pytest.raises(ValueError, match="expected quality_s=3600") as refused:
        Settings(quotas=f"quality_s=1,{wrong}")
    assert repr(wrong) in str(refused.value)


def test_a_quota_said_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="says twice what shop may use of quality_s"):
        parse_quotas("shop:quality_s=1,quality_s=2,shop:quality_s=3")


def test_what_is_stamped_is_utc() -> None:
    assert stamp(datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC)) == "2026-01-31T23:59:59Z"
