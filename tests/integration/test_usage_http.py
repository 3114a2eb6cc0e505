"""`/v1/usage` and quotas of a whole server."""

import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.app import EarshotServer
from gateway.ports import QualityTask, Rejected, Unavailable
from gateway.stores.usage import count_usage
from tests.client import Account, play
from tests.integration.hummed import DIALOGUE, RATE_HZ, client_of, eventually, serving
from tests.integration.test_http_side import START, wav_of
from tests.redis_server import RedisServer

APPS = "demo:secret,other:hidden"
QUOTAS = "quality_s=3600,demo:quality_s=2,demo:voiceprint_requests=5"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EarshotServer]:
    async with serving(tmp_path / "data", apps=APPS, qc_poll_s=0.05, quotas=QUOTAS) as one:
        yield one


@pytest.fixture
async def app(server: EarshotServer) -> AsyncIterator[Account]:
    async with client_of(server) as one:
        yield one


async def answer(app: Account, path: str, status: int = 200) -> Any:
    given, body = await app.get(path)
    assert given == status, body
    return msgspec.json.decode(body)


async def used(server: EarshotServer, day: dt.date, quality_ms: int, app_id: str = "demo") -> None:
    await server._database.run(lambda db: count_usage(db, app_id, day.isoformat(), "quality_ms", quality_ms))


async def test_usage_is_told_by_day_with_its_sum_the_quota_and_what_is_left(
    server: EarshotServer, app: Account
) -> None:
    today = dt.datetime.now(dt.UTC).date()
    before = today - dt.timedelta(days=1)
    await used(server, before, 1600)
    await used(server, today, 1600)
    await used(server, today, 999_000, "other")
    for _ in range(2):
        await app.voices.recognize("demo", "demo", None, DIALOGUE, RATE_HZ)
    told = await answer(app, f"/v1/usage?from={before}&to={today}")
    assert (told["from"], told["to"]) == (before.isoformat(), today.isoformat())
    assert told["days"] == [
        {"day": before.isoformat(), "quality_s": 1, "quality_ms": 1600, "voiceprint_requests": 0},
        {"day": today.isoformat(), "quality_s": 1, "quality_ms": 1600, "voiceprint_requests": 2},
    ]
    assert told["total"] == {"quality_s": 3, "quality_ms": 3200, "voiceprint_requests": 2}
    assert told["quota_per_day"] == {"quality_s": 2, "voiceprint_requests": 5}
    assert told["left_today"] == {"quality_s": 0, "quality_ms": 400, "voiceprint_requests": 3}
    assert told["next_day_at"] == f"{today + dt.timedelta(days=1)}T00:00:00Z"


async def test_the_last_31_days_are_told_when_none_are_named_and_others_have_their_own(server: EarshotServer) -> None:
    async with client_of(server, "other", "hidden") as stranger:
        told = await answer(stranger, "/v1/usage")
        last = dt.date.fromisoformat(told["to"])
        assert len(told["days"]) == 31
        assert told["from"] == (last - dt.timedelta(days=30)).isoformat()
        assert told["total"] == {"quality_s": 0, "quality_ms": 0, "voiceprint_requests": 0}
        assert told["quota_per_day"] == {"quality_s": 3600, "voiceprint_requests": None}


@pytest.mark.parametrize(
    "query",
    [
        "from=yesterday",
        "to=2026-1-1",
        "to=2026-02-30",
        "from=2026-02-02&to=2026-02-01",
        "from=2020-01-01&to=2026-01-01",
    ],
)
async def test_days_that_are_none_or_too_many_are_refused(app: Account, query: str) -> None:
    assert (await answer(app, f"/v1/usage?{query}", 400))["code"] == "bad_parameter"


async def test_the_first_days_of_the_calendar_are_days_too(app: Account) -> None:
    assert (await answer(app, "/v1/usage?to=0001-01-05"))["from"] == "0001-01-01"


async def test_usage_wants_credentials(app: Account) -> None:
    async with app.session.get(app.http + "/v1/usage") as response:
        assert response.status == 401


async def test_over_quota_a_task_is_refused_until_the_next_day_and_a_call_is_judged_all_the_same(
    server: EarshotServer, app: Account, tmp_path: Path
) -> None:
    today = dt.datetime.now(dt.UTC).date()
    recording = tmp_path / "some.wav"
    recording.write_bytes(wav_of(DIALOGUE))
    task = QualityTask("session-1", "demo", recording, RATE_HZ, 1, "en", ())
    await used(server, today, 1999)
    await app.quality.create(task)
    await used(server, today, 1)
    with pytest.raises(Unavailable) as refused:
        await app.quality.create(task)
    assert "error_code 17" in str(refused.value)
    assert f"{today + dt.timedelta(days=1)}T00:00:00Z" in str(refused.value)
    before = (await answer(app, "/v1/usage"))["total"]["quality_ms"]
    log = await play(app, START, DIALOGUE, speed=0)
    assert (await answer(app, "/v1/usage"))["total"]["quality_ms"] > before
    assert (await answer(app, f"/v1/calls/{log.call_id}"))["state"] == "judged"


async def test_what_a_task_cost_is_its_speech_once(app: Account, tmp_path: Path) -> None:
    recording = tmp_path / "some.wav"
    recording.write_bytes(wav_of(DIALOGUE))
    await app.quality.create(QualityTask("session-1", "demo", recording, RATE_HZ, 1, "en", ()))

    async def done() -> bool:
        return (await app.quality.result("demo", "session-1")).done

    await eventually(done)
    told = await answer(app, "/v1/usage")
    assert told["total"]["quality_ms"] == pytest.approx(5000, abs=300), "3.5 s and 1.5 s of speech in 8.9 s"
    assert told["left_today"]["quality_ms"] == 0


async def test_over_quota_a_voice_is_refused_with_10110(app: Account) -> None:
    for _ in range(5):
        await app.voices.recognize("demo", "demo", None, DIALOGUE, RATE_HZ)
    with pytest.raises(Rejected) as refused:
        await app.voices.recognize("demo", "demo", None, DIALOGUE, RATE_HZ)
    assert refused.value.code == "10110"
    assert (await answer(app, "/v1/usage"))["left_today"]["voiceprint_requests"] == 0


async def test_nodes_of_a_cluster_count_together(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as redis:
        cluster = {"redis_url": redis.url, "cluster_key": "k" * 32, "apps": APPS, "quotas": QUOTAS}
        async with (
            serving(tmp_path / "one", **cluster) as one,
            serving(tmp_path / "two", **cluster) as two,
            client_of(one) as here,
            client_of(two) as there,
        ):
            for app in (here, there):
                await app.voices.recognize("demo", "demo", None, DIALOGUE, RATE_HZ)
            assert (await answer(here, "/v1/usage"))["total"]["voiceprint_requests"] == 2
