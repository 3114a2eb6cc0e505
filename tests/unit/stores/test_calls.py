from dataclasses import replace

import pytest

from gateway.ports import CallRecord
from gateway.stores.calls import CallRecords
from gateway.stores.sqlite import Database


def record(call_id: str, app_id: str = "ours", began_at_ms: int = 1000) -> CallRecord:
    return CallRecord(call_id, app_id, "live", began_at_ms, None, {"call_id": call_id, "alerts": []})


async def test_a_record_comes_back_as_it_was_saved_last(database: Database) -> None:
    calls = CallRecords(database)
    await calls.save(record("c1"))
    saved = replace(record("c1"), state="judged", ended_at_ms=2000, document={"metadata": {"队列": 3}, "gaps": [1]})
    await calls.save(saved)
    assert await calls.get("ours", "c1") == saved


async def test_a_document_is_kept_as_it_was_when_save_was_called(database: Database) -> None:
    calls = CallRecords(database)
    growing = record("c1")
    saving = calls.save(growing)
    await saving
    growing.document["alerts"].append("later")
    kept = await calls.get("ours", "c1")
    assert kept is not None
    assert kept.document["alerts"] == []


async def test_a_call_of_another_app_is_as_if_absent_on_every_way_in(database: Database) -> None:
    calls = CallRecords(database)
    await calls.save(record("c1", "theirs"))
    assert await calls.get("ours", "c1") is None
    assert await calls.page("ours", limit=10) == []
    assert await calls.page("ours", limit=10, before="c1") == []
    with pytest.raises(ValueError, match="taken"):
        await calls.save(record("c1", "ours"))
    assert await calls.get("theirs", "c1") == record("c1", "theirs")


async def test_pages_of_calls_join_without_loss_even_when_calls_began_together(database: Database) -> None:
    calls = CallRecords(database)
    for number in range(7):
        await calls.save(record(f"c{number}", began_at_ms=1000 + number // 3))
    everything = [one.call_id for one in await calls.page("ours", limit=100)]
    paged: list[str] = []
    while page := await calls.page("ours", limit=2, before=paged[-1] if paged else None):
        paged += [one.call_id for one in page]
    assert paged == everything == ["c6", "c5", "c4", "c3", "c2", "c1", "c0"]


async def test_a_call_that_a_process_left_is_found_whosever_it_is(database: Database) -> None:
    calls = CallRecords(database)
    await calls.save(record("c1", "theirs"))
    assert await calls.left_behind("c1") == record("c1", "theirs")
    assert await calls.left_behind("c2") is None
