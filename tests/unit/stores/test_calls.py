import msgspec
import pytest

from gateway.stores.calls import CallRecord, Calls
from gateway.stores.sqlite import Database


def record(call_id: str, app_id: str = "ours", began_at_ms: int = 1000) -> CallRecord:
    return CallRecord(call_id=call_id, app_id=app_id, state="live", began_at_ms=began_at_ms, rate_hz=8000, channels=2)


async def test_a_record_comes_back_as_it_was_saved(database: Database) -> None:
    calls = Calls(database)
    saved = msgspec.structs.replace(
        record("c1"), metadata={"队列": 3}, alerts=({"alert_id": "a", "status": "final"},), gaps=({"channel": 0},)
    )
    await calls.save(saved)
    assert await calls.get("ours", "c1") == saved


async def test_a_call_of_another_app_is_as_if_absent_on_every_way_in(database: Database) -> None:
    calls = Calls(database)
    await calls.save(record("c1", "theirs"))
    assert await calls.get("ours", "c1") is None
    assert await calls.list("ours") == []
    assert await calls.list("ours", before="c1") == []
    assert await calls.update("ours", "c1", lambda one: one) is None
    assert await calls.delete("ours", "c1") is False
    with pytest.raises(ValueError, match="taken"):
        await calls.save(record("c1", "ours"))
    assert await calls.get("theirs", "c1") == record("c1", "theirs")


async def test_an_update_changes_the_record_in_place(database: Database) -> None:
    calls = Calls(database)
    await calls.save(record("c1"))
    changed = await calls.update("ours", "c1", lambda one: msgspec.structs.replace(one, state="sealed", samples=5))
    assert changed is not None
    assert changed.samples == 5
    assert await calls.get("ours", "c1") == changed
    with pytest.raises(ValueError, match="keeps"):
        await calls.update("ours", "c1", lambda one: msgspec.structs.replace(one, app_id="theirs"))
    assert await calls.get("ours", "c1") == changed


async def test_pages_of_calls_join_without_loss_even_when_calls_began_together(database: Database) -> None:
    calls = Calls(database)
    for number in range(7):
        await calls.save(record(f"c{number}", began_at_ms=1000 + number // 3))
    everything = [one.call_id for one in await calls.list("ours")]
    paged: list[str] = []
    while page := await calls.list("ours", limit=2, before=paged[-1] if paged else None):
        paged += [one.call_id for one in page]
    assert paged == everything == ["c6", "c5", "c4", "c3", "c2", "c1", "c0"]


async def test_calls_that_wait_for_something_are_found_at_the_start(database: Database) -> None:
    calls = Calls(database)
    await calls.save(record("live"))
    await calls.save(msgspec.structs.replace(record("over"), state="judged"))
    await calls.save(msgspec.structs.replace(record("lost", "theirs"), state="failed"))
    assert [one.call_id for one in await calls.unfinished()] == ["live"]
    assert await calls.delete("ours", "live")
    assert await calls.unfinished() == []
