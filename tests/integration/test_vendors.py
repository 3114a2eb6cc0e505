"""Both APIs at another server, given by their base URLs: a call works the same."""

import socket
from pathlib import Path

from gateway.doors.quality_callback import PATH
from gateway.ports import StoredCategory
from protocol.messages import Ended, QcResult, Speaker, Start
from tests.client import play
from tests.integration.hummed import DIALOGUE, RATE_HZ, client_of, eventually, humming, serving
from tests.integration.test_http_side import wav_of

START = Start(rate=RATE_HZ, channels=1, language="en", org_id="desk-org")


async def test_a_call_asks_the_voiceprint_and_quality_apis_that_settings_name(tmp_path: Path) -> None:
    async with serving(tmp_path / "vendor", apps="vendor-id:vendor-secret") as vendor:
        settings = {
            "voiceprint_url": vendor.addresses.http,
            "voiceprint_app": "vendor-id:vendor-secret",
            "quality_url": vendor.addresses.http + "/",
            "quality_app": "vendor-id:vendor-secret",
        }
        async with (
            serving(tmp_path / "gateway", apps="demo:secret", qc_poll_s=0.05, **settings) as server,
            client_of(vendor, "vendor-id", "vendor-secret") as at_vendor,
            client_of(server) as app,
        ):
            await at_vendor.voices.register("vendor-id", "desk-org", "desk", "Low", wav_of(humming((100, 4000))))
            rule = StoredCategory("Money back", "", ("refund",))
            await at_vendor.quality.add_rule("vendor-id", rule)
            log = await play(app, START, DIALOGUE, speed=0)
            told = await at_vendor.quality.result("vendor-id", log.call_id)

    assert log.one(Ended).reason == "hangup"
    assert {one.name for one in log.of(Speaker) if one.state == "known"} == {"Low"}
    # The rule lives at the vendor only, so that no early alert could know it.
    assert log.hits == {"Money back"}
    assert [one.category for one in log.one(QcResult).missed] == ["Money back"]
    assert told.result["detection_result"] == log.one(QcResult).result["detection_result"]


async def test_a_vendor_that_refuses_us_costs_a_call_its_labels_and_its_verdict_and_nothing_else(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path / "vendor", apps="vendor-id:vendor-secret") as vendor:
        settings = {
            "voiceprint_url": vendor.addresses.http,
            "voiceprint_app": "vendor-id:wrong",
            "quality_url": vendor.addresses.http,
            "quality_app": "vendor-id:wrong",
        }
        async with (
            serving(tmp_path / "gateway", apps="demo:secret", qc_poll_s=0.05, **settings) as server,
            client_of(server) as app,
        ):
            await app.quality.add_rule("demo", StoredCategory("Money back", "", ("refund",)))
            log = await play(app, START, DIALOGUE, speed=0, wait_qc_ms=30_000)
            (alert,) = log.alerts_of("refund")
            status, _ = await app.get(f"/v1/calls/{log.call_id}/recording")
    assert status == 200
    assert log.one(Ended).reason == "qc_failed"
    assert log.statuses_of(alert)[-1] == "indeterminate"
    assert {one.state for one in log.of(Speaker)} == {"undecided"}


def free_address() -> str:
    """A loopback address that nobody listens at: a callback's address must be known before the server starts."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"127.0.0.1:{taken.getsockname()[1]}"


async def test_a_vendor_that_calls_back_is_not_waited_for(tmp_path: Path) -> None:
    # The vendor is our own voice QC, so this shows both ends; the gateway polls once an hour.
    address = free_address()
    async with serving(tmp_path / "vendor", apps="vendor-id:vendor-secret", fetch_allow="127.0.0.0/8:*") as vendor:
        settings = {
            "quality_url": vendor.addresses.http,
            "quality_app": "vendor-id:vendor-secret",
            "qc_poll_s": 3600,
            "http": address,
            "public_url": f"http://{address}",
        }
        async with (
            serving(tmp_path / "gateway", apps="demo:secret", **settings) as server,
            client_of(server) as app,
            client_of(vendor, "vendor-id", "vendor-secret") as at_vendor,
        ):
            await at_vendor.quality.add_rule("vendor-id", StoredCategory("Money back", "", ("refund",)))
            log = await play(app, START, DIALOGUE, speed=0)
            assert log.one(Ended).reason == "hangup"
            assert log.hits == {"Money back"}

            async def pushed() -> bool:
                told = await at_vendor.quality.result("vendor-id", log.call_id)
                return bool(told.result["push_status_desc"] == "推送成功")

            await eventually(pushed)


async def test_a_vendor_that_never_calls_back_is_asked_all_the_same(tmp_path: Path) -> None:
    address = free_address()
    # Nothing is allowed: the vendor may not call loopback.
    async with serving(tmp_path / "vendor", apps="vendor-id:vendor-secret") as vendor:
        settings = {
            "quality_url": vendor.addresses.http,
            "quality_app": "vendor-id:vendor-secret",
            "qc_poll_s": 0.05,
            "http": address,
            "public_url": f"http://{address}",
        }
        async with (
            serving(tmp_path / "gateway", apps="demo:secret", **settings) as server,
            client_of(server) as app,
            client_of(vendor, "vendor-id", "vendor-secret") as at_vendor,
        ):
            log = await play(app, START, DIALOGUE, speed=0)
            assert log.one(Ended).reason == "hangup"

            async def given_up() -> bool:
                told = await at_vendor.quality.result("vendor-id", log.call_id)
                return bool(told.result["push_status_desc"] == "推送失败")

            await eventually(given_up)


async def test_without_a_public_address_there_is_no_route_for_callbacks(tmp_path: Path) -> None:
    async with (
        serving(tmp_path / "data", apps="demo:secret") as server,
        client_of(server) as app,
        app.session.post(f"{app.http}{PATH}x", json={}) as callback,
    ):
        assert callback.status == 404
