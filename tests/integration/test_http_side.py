"""The HTTP side of a whole server: health, metrics, stored calls and recordings, and the two APIs it mounts."""

import asyncio
import base64
import io
import wave
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.app import EarshotServer
from gateway.ports import CallRecord, QualityAnswer, QualityTask, Rejected, StoredCategory
from gateway.stores.calls import CallRecords
from protocol.client import CallClient
from protocol.messages import Ended, Segment, Start, Update
from tests.client import Account, CallLog, play, until
from tests.integration.hummed import DIALOGUE, RATE_HZ, client_of, eventually, humming, serving

APPS = "demo:secret,other:hidden"
START = Start(rate=RATE_HZ, channels=1, language="en")
REFUND = StoredCategory("Money back", "", ("refund",))
NEVER_SAID = StoredCategory("Notice", "", ("!recorded",))
METRICS = {
    "earshot_calls_live",
    "earshot_calls",
    "earshot_audio_seconds",
    "earshot_messages_sent",
    "earshot_ack_lag_seconds",
    "earshot_engine_seconds",
    "earshot_engine_failures",
    "earshot_alerts",
    "earshot_refused",
    "earshot_outbox_tasks",
    "earshot_outbox_oldest_seconds",
}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EarshotServer]:
    async with serving(tmp_path / "data", apps=APPS, qc_poll_s=0.05) as one:
        yield one


@pytest.fixture
async def app(server: EarshotServer) -> AsyncIterator[Account]:
    async with client_of(server) as one:
        yield one


@pytest.fixture
async def stranger(server: EarshotServer) -> AsyncIterator[Account]:
    """Another app of the same server."""
    async with client_of(server, "other", "hidden") as one:
        yield one


async def call(app: Account, **options: Any) -> CallLog:
    return await play(app, START, DIALOGUE, speed=0, **options)


async def answer(app: Account, path: str, status: int = 200) -> Any:
    given, body = await app.get(path)
    assert given == status, body
    return msgspec.json.decode(body)


# --- health and metrics ------------------------------------------------------------------------------------------


async def test_health_and_readiness_need_no_credentials(server: EarshotServer, app: Account) -> None:
    for path, status in (("/healthz", "ok"), ("/readyz", "ready")):
        async with app.session.get(app.http + path) as response:
            assert response.status == 200
            assert await response.json() == {"status": status}


async def test_a_server_whose_engine_is_away_is_alive_but_not_ready(server: EarshotServer, app: Account) -> None:
    with patch.object(server.engines, "ready", False):
        assert await answer(app, "/readyz", 503) == {"status": "an engine is being restarted"}
        assert await answer(app, "/healthz") == {"status": "ok"}


async def test_metrics_are_prometheus_text_that_counts_what_happened(app: Account) -> None:
    await app.quality.add_rule(app.app_id, REFUND)
    await call(app)
    async with app.session.get(app.http + "/v1/calls") as refused:
        assert refused.status == 401
    async with app.session.get(app.http + "/metrics") as response:
        assert response.content_type == "text/plain"
        families = {family.name: family for family in text_string_to_metric_families(await response.text())}
    assert set(families) >= METRICS
    values = {(one.name, *one.labels.values()): one.value for family in families.values() for one in family.samples}
    assert values["earshot_calls_total",] == 1
    assert values["earshot_calls_live",] == 0
    assert values["earshot_audio_seconds_total",] == pytest.approx(len(DIALOGUE) / 2 / RATE_HZ)
    assert values["earshot_messages_sent_total", "ended"] == 1
    assert values["earshot_alerts_total", "confirmed"] == 1
    assert values["earshot_refused_total", "access_denied"] == 1
    assert values["earshot_ack_lag_seconds_count",] > 0


async def test_metrics_tell_what_waits_for_voice_qc_and_readiness_does_not_care(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = {"quality_url": "http://127.0.0.1:9", "quality_app": "demo:secret"}
    monkeypatch.setattr("gateway.assembly.upkeep.GAUGES_REFRESH_S", 0.01)
    async with serving(tmp_path / "data", apps=APPS, **nowhere) as server, client_of(server) as app:
        log = await call(app, wait_qc_ms=0)

        async def waiting() -> bool:
            return server.metrics.registry.get_sample_value("earshot_outbox_tasks", {"state": "pending"}) == 1

        await eventually(waiting)
        status, page = await app.get("/metrics")
        assert status == 200
        assert b'earshot_outbox_oldest_seconds{state="pending"}' in page
        assert b'earshot_outbox_tasks{state="dead"} 0.0' in page
        assert await answer(app, "/readyz") == {"status": "ready"}
        assert log.one(Ended).reason == "qc_pending"


# --- calls -------------------------------------------------------------------------------------------------------


async def test_a_call_is_listed_and_told_from_its_first_moment(app: Account) -> None:
    async with CallClient(app.ws, START, app_id=app.app_id, secret=app.secret) as client:
        await client.send_audio(DIALOGUE)
        segment = await until(client, Segment, lambda one: one.state == "closed")
        told = await answer(app, f"/v1/calls/{client.call_id}")
        assert (told["state"], told["reason"], told["qc"]) == ("live", "", None)
        assert told["segments"][0]["end_ms"] == segment.end_ms
        (listed,) = (await answer(app, "/v1/calls"))["calls"]
        assert (listed["call_id"], listed["state"], listed["alerts"]) == (client.call_id, "live", 0)
        refusal = await answer(app, f"/v1/calls/{client.call_id}/recording", 409)
        assert refusal["code"] == "not_sealed"
        await client.hang_up()
        await until(client, Ended)
    assert (await answer(app, f"/v1/calls/{client.call_id}"))["state"] == "judged"


async def test_a_recording_is_a_wav_of_what_was_sent(app: Account) -> None:
    log = await call(app)
    status, body = await app.get(f"/v1/calls/{log.call_id}/recording")
    assert status == 200
    with wave.open(io.BytesIO(body)) as wav:
        assert (wav.getframerate(), wav.getnchannels(), wav.getsampwidth()) == (RATE_HZ, 1, 2)
        assert wav.readframes(wav.getnframes()) == DIALOGUE


async def test_calls_are_paged_latest_first(app: Account) -> None:
    made = [(await play(app, START, humming((0, 200)), speed=0)).call_id for _ in range(5)]
    first = await answer(app, "/v1/calls?limit=2")
    assert [one["call_id"] for one in first["calls"]] == made[:2:-1]
    then = await answer(app, f"/v1/calls?limit=2&before={made[3]}")
    assert [one["call_id"] for one in then["calls"]] == [made[2], made[1]]
    last = await answer(app, f"/v1/calls?before={made[1]}")
    assert [one["call_id"] for one in last["calls"]] == [made[0]]
    assert await answer(app, f"/v1/calls?before={made[0]}") == {"calls": []}
    assert "segments" not in first["calls"][0]


@pytest.mark.parametrize("limit", ["0", "201", "-1", "ten", "1e2", "٣"])
async def test_a_limit_that_is_no_number_in_range_is_refused(app: Account, limit: str) -> None:
    refusal = await answer(app, f"/v1/calls?limit={limit}", 400)
    assert refusal == {"code": "bad_parameter", "message": "limit must be a whole number from 1 to 200"}


async def test_the_call_of_another_app_is_as_if_absent_on_every_route(app: Account, stranger: Account) -> None:
    live = CallClient(app.ws, START, app_id=app.app_id, secret=app.secret)
    ended = (await call(app)).call_id
    async with live:
        for call_id in (ended, live.call_id):
            for path in (f"/v1/calls/{call_id}", f"/v1/calls/{call_id}/recording"):
                foreign = await answer(stranger, path, 404)
                absent = await answer(stranger, path.replace(call_id, "no-such-call"), 404)
                assert foreign["code"] == absent["code"] == "unknown_call"
                assert foreign["message"] == absent["message"].replace("no-such-call", call_id)
            assert await answer(stranger, f"/v1/calls?before={call_id}") == {"calls": []}
        assert await answer(stranger, "/v1/calls") == {"calls": []}


@pytest.mark.parametrize("path", ["/v1/calls", "/v1/calls/some-call", "/v1/calls/some-call/recording"])
async def test_our_own_routes_want_credentials(app: Account, path: str) -> None:
    wrong = {
        "no credentials": {},
        "a wrong secret": {"Authorization": "Basic " + base64.b64encode(b"demo:guess").decode()},
        "no such app": {"Authorization": "Basic " + base64.b64encode(b"nobody:secret").decode()},
        "not base64": {"Authorization": "Basic !!!"},
        "an old signature": {**app.headers, "X-Timestamp": "1000000000"},
    }
    for what, headers in wrong.items():
        async with app.session.get(app.http + path, headers=headers) as response:
            assert response.status == 401, what
            assert response.headers["WWW-Authenticate"] == 'Basic realm="earshot"'
            assert (await response.json())["code"] == "access_denied"


async def test_basic_credentials_open_our_own_routes_too(app: Account) -> None:
    headers = {"Authorization": "Basic " + base64.b64encode(b"demo:secret").decode()}
    async with app.session.get(app.http + "/v1/calls", headers=headers) as response:
        assert response.status == 200


async def test_whoever_has_read_ended_finds_the_whole_call_however_slow_the_store_is(app: Account) -> None:
    await app.quality.add_rule(app.app_id, REFUND)
    save = CallRecords.save

    async def slowly(store: CallRecords, record: CallRecord) -> None:
        if record.state == "judged":
            await asyncio.sleep(0.3)
        await save(store, record)

    with patch.object(CallRecords, "save", slowly):
        log = await call(app)
        told = await answer(app, f"/v1/calls/{log.call_id}")
    assert (told["state"], [alert["status"] for alert in told["alerts"]]) == ("judged", ["confirmed"])


async def test_what_the_client_changes_of_a_call_is_told_with_it(app: Account) -> None:
    start = Start(rate=RATE_HZ, channels=1, language="en", metadata={"desk": 4, "agent": "Ann"})
    async with CallClient(app.ws, start, app_id=app.app_id, secret=app.secret) as client:
        await client.send(
            Update(language="zh", roles=["customer"], metadata={"agent": "Bob"}, categories=["Money back"])
        )
        await client.hang_up()
        await until(client, Ended)
    told = await answer(app, f"/v1/calls/{client.call_id}")
    assert told["metadata"] == {"desk": 4, "agent": "Bob"}
    assert (told["language"], told["roles"], told["categories"]) == ("zh", ["customer"], ["Money back"])


async def test_a_verdict_that_comes_after_ended_is_found_at_the_call(app: Account) -> None:
    for rule in (REFUND, NEVER_SAID):
        await app.quality.add_rule(app.app_id, rule)
    log = await call(app, wait_qc_ms=0)
    assert log.one(Ended).reason == "qc_pending"

    async def judged() -> Any:
        told = await answer(app, f"/v1/calls/{log.call_id}")
        return told if told["state"] == "judged" else None

    told = await eventually(judged)
    assert {alert["rule"]: alert["status"] for alert in told["alerts"]} == {
        "refund": "confirmed",
        "!recorded": "confirmed",
    }
    assert told["reason"] == "qc_pending"
    assert told["qc"]["missed"] == []
    assert "refund" in told["qc"]["result"]["asr_text"]


# --- the two APIs ------------------------------------------------------------------------------------------------


def wav_of(pcm: bytes) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(RATE_HZ)
        wav.writeframes(pcm)
    return file.getvalue()


async def test_the_voiceprint_api_enrols_and_recognises(app: Account, stranger: Account) -> None:
    low, high = humming((100, 4000)), humming((200, 4000))
    for name, pcm in (("Low", low), ("High", high)):
        await app.voices.register("demo", "demo", "desk", name, wav_of(pcm))
    with pytest.raises(Rejected) as again:
        await app.voices.register("demo", "demo", "desk", "Low", wav_of(low))
    assert again.value.code == "10107"
    assert {one.name for one in await app.voices.voices("demo", "demo", "desk")} == {"Low", "High"}
    best, second = await app.voices.recognize("demo", "demo", None, high, RATE_HZ)
    assert best.name == "High"
    assert best.score > second.score
    assert not await stranger.voices.recognize("other", "demo", None, high, RATE_HZ)
    await app.voices.delete("demo", "demo", "desk", "Low")
    assert [one.name for one in await app.voices.recognize("demo", "demo", None, low, RATE_HZ)] == ["High"]


async def test_the_quality_api_keeps_rules(app: Account, stranger: Account) -> None:
    await app.quality.add_rule("demo", REFUND)
    await app.quality.modify_rule("demo", StoredCategory("Money back", "more", ("refund", "money&&back")))
    total, (listed,) = await app.quality.rules("demo", "Money")
    assert (total, listed.description, listed.contents) == (1, "more", ("refund", "money&&back"))
    with pytest.raises(Rejected):
        await app.quality.add_rule("demo", StoredCategory("Broken", "", ("refund&&",)))
    assert (await stranger.quality.rules("other"))[0] == 0
    await app.quality.delete_rule("demo", "Money back")
    assert (await app.quality.rules("demo"))[0] == 0


async def test_the_quality_api_judges_a_recording(app: Account, tmp_path: Path) -> None:
    await app.quality.add_rule("demo", REFUND)
    recording = tmp_path / "tiny.wav"
    recording.write_bytes(wav_of(DIALOGUE))
    await app.quality.create(QualityTask("session-1", "demo", recording, RATE_HZ, 1, "en", ()))

    async def done() -> QualityAnswer | None:
        found = await app.quality.result("demo", "session-1")
        return found if found.done else None

    found = await eventually(done)
    assert found is not None
    assert (found.state, found.state_desc) == (2, "处理成功")
    assert found.result["pass_detection"] == "failed"
    assert [hit["category"] for hit in found.result["detection_result"]] == ["Money back"]


async def test_a_call_counts_until_it_has_ended(server: EarshotServer, app: Account) -> None:
    async with CallClient(app.ws, START, app_id=app.app_id, secret=app.secret) as client:
        assert len(server.calls) == 1
        await client.hang_up(wait_qc_ms=0)
        await until(client, Ended)
    assert len(server.calls) == 0
