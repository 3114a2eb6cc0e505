"""The rules of a voice QC vendor, here another server of ours: calls that run are judged by them too."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from gateway.app import EarshotServer
from gateway.ports import StoredCategory
from tests.client import Account, play
from tests.integration.hummed import DIALOGUE, client_of, eventually, serving
from tests.integration.test_vendors import START, synced

VENDOR = "vendor-id"
REFUND = StoredCategory("Money back", "what they ask for", ("refund",))
OPTIONS = {"expression": "agent:sorry"}


@dataclass
class Both:
    server: EarshotServer
    app: Account
    vendor: Account
    stop_vendor: Callable[[], Any]

    async def put(self, category: str, *contents: object) -> int:
        status, _ = await self.app.send("PUT", f"/v1/rules/{category}", {"contents": contents})
        return status

    async def here(self) -> dict[str, Any]:
        _, body = await self.app.get("/v1/rules")
        listed: dict[str, Any] = msgspec.json.decode(body)
        return listed

    async def contents(self) -> dict[str, list[Any]]:
        return {one["category"]: one["contents"] for one in (await self.here())["categories"]}

    async def there(self) -> dict[str, tuple[Any, ...]]:
        _, listed = await self.vendor.quality.rules(VENDOR, page_size=1000)
        return {one.category: one.contents for one in listed}


@asynccontextmanager
async def both(tmp_path: Path, *rules: StoredCategory, sync_s: float = 3600) -> AsyncIterator[Both]:
    """A vendor that has these rules, and a server that has taken them over."""
    async with AsyncExitStack() as stack:
        of_vendor = await stack.enter_async_context(AsyncExitStack())
        vendor = await of_vendor.enter_async_context(serving(tmp_path / "vendor", apps=f"{VENDOR}:s"))
        at_vendor = await of_vendor.enter_async_context(client_of(vendor, VENDOR, "s"))
        for rule in rules:
            await at_vendor.quality.add_rule(VENDOR, rule)
        settings = {"quality_url": vendor.addresses.http, "quality_app": f"{VENDOR}:s", "rules_sync_s": sync_s}
        server = await stack.enter_async_context(
            serving(tmp_path / "gateway", apps="demo:secret", qc_poll_s=0.05, **settings)
        )
        app = await stack.enter_async_context(client_of(server))
        await synced(app)
        yield Both(server, app, at_vendor, of_vendor.aclose)


async def test_a_running_call_is_judged_by_the_vendors_rules(tmp_path: Path) -> None:
    many = [StoredCategory(f"category {number}", "", ("nothing",)) for number in range(101)]  # more than a page
    async with both(tmp_path, *many, REFUND) as world:
        log = await play(world.app, START, DIALOGUE, speed=0)
        listed = await world.here()
    (alert,) = log.alerts_of("refund")
    assert log.statuses_of(alert)[-1] == "confirmed"
    assert (len(listed["categories"]), listed["sync_error"]) == (102, "")
    assert listed["categories"][-1] == {
        "category": "Money back",
        "description": "what they ask for",
        "contents": ["refund"],
        "shadow": False,
        "at_vendor": True,
    }


async def test_changes_made_here_are_made_at_the_vendor_first_as_far_as_it_understands_them(tmp_path: Path) -> None:
    async with both(tmp_path) as world:
        assert await world.put("mixed", "refund", OPTIONS) == 200
        assert await world.put("ours", OPTIONS) == 200
        assert await world.there() == {"mixed": ("refund",)}
        assert await world.put("mixed", "money||refund", OPTIONS) == 200
        await world.app.quality.add_rule("demo", StoredCategory("by the API", "", ("help",)))
        assert await world.there() == {"mixed": ("money||refund",), "by the API": ("help",)}
        await world.app.quality.modify_rule("demo", StoredCategory("by the API", "", ("helps",)))
        assert await world.put("mixed", OPTIONS) == 200
        assert await world.there() == {"by the API": ("helps",)}
        await world.app.quality.delete_rule("demo", "by the API")
        assert (await world.app.send("DELETE", "/v1/rules/ours"))[0] == 200
        assert await world.there() == {}
        assert await world.contents() == {"mixed": [OPTIONS]}


async def test_a_category_that_somebody_added_or_deleted_at_the_vendor_meanwhile_is_no_obstacle(
    tmp_path: Path,
) -> None:
    async with both(tmp_path, REFUND) as world:
        await world.vendor.quality.add_rule(VENDOR, StoredCategory("new", "", ("a",)))
        assert await world.put("new", "b") == 200
        await world.vendor.quality.delete_rule(VENDOR, "Money back")
        assert await world.put("Money%20back", "c") == 200
        assert await world.there() == {"new": ("b",), "Money back": ("c",)}
        await world.vendor.quality.delete_rule(VENDOR, "new")
        assert (await world.app.send("DELETE", "/v1/rules/new"))[0] == 200


async def test_what_changes_at_the_vendor_is_taken_over_on_a_schedule_and_what_is_ours_stays(tmp_path: Path) -> None:
    async with both(tmp_path, REFUND, sync_s=1) as world:
        assert await world.put("ours", OPTIONS) == 200
        assert await world.put("mixed", "a", OPTIONS) == 200
        await world.vendor.quality.modify_rule(VENDOR, StoredCategory("mixed", "", ("b", "c")))
        await world.vendor.quality.delete_rule(VENDOR, "Money back")
        await world.vendor.quality.add_rule(VENDOR, StoredCategory("theirs", "", ("d",)))

        async def taken_over() -> bool:
            return "theirs" in await world.contents()

        await eventually(taken_over)
        assert await world.contents() == {"ours": [OPTIONS], "mixed": ["b", "c", OPTIONS], "theirs": ["d"]}
        await world.vendor.quality.delete_rule(VENDOR, "mixed")

        async def gone_there() -> bool:
            return (await world.contents())["mixed"] == [OPTIONS]

        await eventually(gone_there)
        version = (await world.here())["version"]
        synced_at = (await world.here())["synced_at"]

        async def again() -> bool:
            return bool((await world.here())["synced_at"] > synced_at)

        await eventually(again)
        assert (await world.here())["version"] == version  # nothing new, no new version


async def test_while_the_vendor_is_away_rules_stay_as_they_are(tmp_path: Path) -> None:
    async with both(tmp_path, REFUND, sync_s=1) as world:
        await world.stop_vendor()
        status, body = await world.app.send("PUT", "/v1/rules/new", {"contents": ["a"]})
        assert (status, msgspec.json.decode(body)["code"]) == (503, "unavailable")
        assert (await world.app.send("DELETE", "/v1/rules/Money%20back"))[0] == 503
        assert await world.put("ours", OPTIONS) == 200

        async def told() -> str:
            return str((await world.here())["sync_error"])

        assert "cannot be reached" in await eventually(told)
        assert (await world.here())["synced_at"]
        assert await world.contents() == {"Money back": ["refund"], "ours": [OPTIONS]}
