"""Of many calls of all sizes that share pages, none is found in a file after it was deleted."""

import random
from pathlib import Path

from gateway.ports import CallRecord
from gateway.stores import calls
from gateway.stores.calls import CallRecords
from gateway.stores.sqlite import Database


def in_files(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


async def test_deleted_calls_leave_nothing_where_pages_were_split(tmp_path: Path) -> None:
    database, draw = Database(tmp_path / "earshot.db", [calls.SCHEMA]), random.Random(3)
    store = CallRecords(database)
    ids = [f"{draw.getrandbits(80):020x}" for _ in range(300)]
    for one in ids:
        said = f"said in {one}" * draw.randint(1, 60)
        await store.save(CallRecord(one, "demo", "judged", 0, 1, {"text": said}))
    assert await store.get("demo", ids[0]) is not None
    gone = ids[::2]
    draw.shuffle(gone)
    for one in gone:
        assert await store.forget("demo", one)
    assert await database.scrub()
    left = in_files(tmp_path)
    assert [one for one in gone if f"said in {one}".encode() in left] == []
    assert all([await store.get("demo", one) for one in ids[1::2]])
    database.close()
