"""What every meter of usage promises, in SQLite and in a real Redis."""

import sqlite3
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.ports import Quotas, UsageDay, UsageMeter
from gateway.stores.redis_connection import RedisConnection
from gateway.stores.redis_usage import RedisUsage
from gateway.stores.sqlite import Database
from gateway.stores.usage import SCHEMA, SqliteUsage, count_usage
from tests.redis_server import RedisServer
from tests.unit.stores.clock import FakeClock

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()
QUOTAS = Quotas({("", "quality_ms"): 5000, ("free", "quality_ms"): 0, ("shop", "voiceprint_requests"): 2})


class Meters:
    """`made()` is the meter of a process; the next one is that process started again."""

    def __init__(self, made: Callable[[], UsageMeter], clock: FakeClock) -> None:
        self.made = made
        self.clock = clock
        self.meter = made()


@pytest.fixture(params=["sqlite", "redis"])
async def meters(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Meters]:
    clock = FakeClock(NOON)
    if request.param == "sqlite":
        database = Database(tmp_path / "earshot.db", [SCHEMA])
        yield Meters(lambda: SqliteUsage(database, clock, QUOTAS), clock)
        database.close()
        return
    with RedisServer(tmp_path / "redis") as server:
        connection = RedisConnection(server.url)
        yield Meters(lambda: RedisUsage(connection, clock, QUOTAS), clock)
        await connection.close()


async def test_nothing_used_is_nothing_told(meters: Meters) -> None:
    assert list(await meters.meter.days("shop", "2026-01-01", "2026-12-31")) == []
    assert list(await meters.meter.days("shop", "2026-03-02", "2026-03-01")) == []


async def test_amounts_add_up_by_app_day_and_product_and_outlive_the_process(meters: Meters) -> None:
    await meters.meter.add("shop", "quality_ms", 1500)
    await meters.meter.add("shop", "quality_ms", 1)
    await meters.meter.add("shop", "voiceprint_requests", 1)
    await meters.meter.add("other", "quality_ms", 7)
    meters.clock.now += 86_400
    await meters.made().add("shop", "quality_ms", 20)
    expected = [
        UsageDay("2026-03-01", "quality_ms", 1501),
        UsageDay("2026-03-01", "voiceprint_requests", 1),
        UsageDay("2026-03-02", "quality_ms", 20),
    ]
    again = meters.made()
    assert list(await again.days("shop", "2026-02-28", "2026-03-02")) == expected
    assert list(await again.days("shop", "2026-03-02", "2026-03-02")) == expected[2:]
    assert list(await again.days("other", "2026-03-01", "2026-03-02")) == [UsageDay("2026-03-01", "quality_ms", 7)]


async def test_a_day_ends_at_midnight_utc(meters: Meters) -> None:
    midnight = datetime(2026, 3, 2, tzinfo=UTC).timestamp()
    for meters.clock.now in (midnight - 0.001, midnight):
        await meters.meter.add("shop", "quality_ms", 1)
    days = await meters.meter.days("shop", "2026-03-01", "2026-03-02")
    assert [(one.day, one.amount) for one in days] == [("2026-03-01", 1), ("2026-03-02", 1)]


async def test_a_quota_ends_with_its_last_unit_and_begins_anew_with_the_day(meters: Meters) -> None:
    meter = meters.meter
    await meter.add("shop", "quality_ms", 4999)
    assert await meter.over_quota("shop", "quality_ms") == ""
    await meter.add("shop", "quality_ms", 1)
    refusal = await meter.over_quota("shop", "quality_ms")
    assert "5.0 s of speech judged, 5 s allowed" in refusal
    assert "2026-03-02T00:00:00Z" in refusal
    assert await meters.made().over_quota("shop", "quality_ms") == refusal
    assert await meter.over_quota("other", "quality_ms") == ""
    meters.clock.now += 12 * 3600
    assert await meter.over_quota("shop", "quality_ms") == ""


async def test_each_product_and_each_named_app_has_a_quota_of_its_own(meters: Meters) -> None:
    meter = meters.meter
    await meter.add("free", "quality_ms", 10_000_000)
    assert await meter.over_quota("free", "quality_ms") == ""
    for app_id in ("shop", "other"):
        await meter.add(app_id, "voiceprint_requests", 2)
    assert "2 voiceprint requests carried out, 2 allowed" in await meter.over_quota("shop", "voiceprint_requests")
    assert await meter.over_quota("other", "voiceprint_requests") == ""
    assert await meter.over_quota("shop", "quality_ms") == ""


async def test_what_is_counted_in_a_transaction_that_fails_is_not_counted(tmp_path: Path) -> None:
    database = Database(tmp_path / "earshot.db", [SCHEMA])
    meter = SqliteUsage(database, FakeClock(NOON), QUOTAS)

    def fails(db: sqlite3.Connection) -> None:
        count_usage(db, "shop", "2026-03-01", "quality_ms", 5)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await database.run(fails)
    await database.run(lambda db: count_usage(db, "shop", "2026-03-01", "quality_ms", 3))
    assert list(await meter.days("shop", "2026-03-01", "2026-03-01")) == [UsageDay("2026-03-01", "quality_ms", 3)]
    database.close()
