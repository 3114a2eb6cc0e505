"""Both APIs at another server, given by their base URLs: a call works the same."""

from pathlib import Path

from gateway.ports import StoredCategory
from protocol.messages import Ended, QcResult, Speaker, Start
from tests.client import play
from tests.integration.hummed import DIALOGUE, RATE_HZ, client_of, humming, serving
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
