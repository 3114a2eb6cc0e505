"""Rules change while a call runs: the call goes on by the new ones from the next sentence, in the next process too."""

import asyncio
import signal
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from gateway.app import SCHEMAS
from gateway.ports import StoredCategory
from gateway.stores.quality_rules import SqliteQualityRules
from gateway.stores.sqlite import Database
from protocol.client import CallClient
from protocol.messages import Alert, AlertUpdate, Ended
from tests.integration.hummed import humming
from tests.integration.test_restart import BEFORE, Listening, Replaceable, judged

REFUND = StoredCategory("Money back", "", ("refund",))


@pytest.fixture
def server(tmp_path: Path) -> Any:
    one = Replaceable(tmp_path / "data")
    yield one
    if one.process is not None:
        one.process.kill()


async def say_until_alert(client: CallClient, heard: Listening, pitch_hz: int, category: str) -> Alert:
    """Say a line again and again: when a change reaches a call is told nowhere."""

    async def speak() -> None:
        while True:
            await client.send_audio(humming((pitch_hz, 900), (0, 2000)))
            await asyncio.sleep(0)

    speaking = asyncio.create_task(speak())
    try:
        return await heard.until(Alert, lambda alert: alert.category == category)
    finally:
        speaking.cancel()
        with suppress(asyncio.CancelledError):
            await speaking


async def test_a_change_reaches_a_running_call_and_outlives_its_server(server: Replaceable) -> None:
    server.start()
    async with server.account() as app:
        await app.quality.add_rule("demo", REFUND)
        async with server.client() as client:
            heard = Listening(client)
            await client.send_audio(BEFORE)
            first = await heard.until(Alert)
            await app.quality.add_rule("demo", StoredCategory("Escalation", "", ("manager",)))
            second = await say_until_alert(client, heard, 160, "Escalation")
            await app.quality.delete_rule("demo", "Money back")
            await app.quality.add_rule("demo", StoredCategory("Farewell", "", ("goodbye",)))
            third = await say_until_alert(client, heard, 200, "Farewell")
            await server.replace(signal.SIGKILL)
            await client.send_audio(humming((160, 900), (0, 2000), (200, 900), (0, 2000)))
            await app.quality.add_rule("demo", StoredCategory("Offer", "", ("help",)))
            fourth = await say_until_alert(client, heard, 100, "Offer")
            await client.hang_up()
            await heard.until(Ended)
            document = await judged(app, client.call_id)
    heard.is_one_unbroken_call()
    assert [one.rule_version for one in (first, second, third, fourth)] == [1, 2, 4, 5]
    assert [one.category for one in heard.of(Alert)] == ["Money back", "Escalation", "Farewell", "Offer"]
    last = {one.alert_id: one.status for one in heard.of(AlertUpdate)}
    assert [last[one.alert_id] for one in heard.of(Alert)] == ["not_confirmed", *["confirmed"] * 3]
    assert [one["rule_version"] for one in document["alerts"]] == [1, 2, 4, 5]
    assert "Traceback" not in server.log


async def test_a_change_made_by_another_process_is_noticed_too(server: Replaceable) -> None:
    server.start()
    async with server.client() as client:
        heard = Listening(client)
        await client.send_audio(BEFORE)
        database = Database(server.data / "earshot.db", SCHEMAS)
        try:
            assert await SqliteQualityRules(database).add("demo", REFUND)
        finally:
            database.close()
        assert (await say_until_alert(client, heard, 130, "Money back")).rule_version == 1
        await client.hang_up()
        await heard.until(Ended)


async def test_what_rules_in_shadow_saw_is_kept_over_a_restart(server: Replaceable) -> None:
    server.start()
    async with server.account() as app, AsyncExitStack() as stack:
        await app.quality.add_rule("demo", REFUND)
        status, _ = await app.send("PUT", "/v1/rules/Quiet", {"contents": ["refund"], "shadow": True})
        assert status == 200
        client = await stack.enter_async_context(server.client())
        heard = Listening(client)
        await client.send_audio(BEFORE)
        await heard.until(Alert)
        await server.replace(signal.SIGKILL)
        await client.hang_up()
        await heard.until(Ended)
        document = await judged(app, client.call_id)
    assert [one["category"] for one in document["shadow_alerts"]] == ["Quiet"]
