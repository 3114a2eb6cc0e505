"""`earshot voiceprint share`: voices of one node become the cluster's, once, and none comes back from the dead."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from gateway.cli import cli
from gateway.ports import Prints, VoiceprintRow
from gateway.stores.redis_connection import RedisConnection
from gateway.stores.redis_voiceprints import RedisVoiceprints
from gateway.stores.sqlite import Database
from gateway.stores.voiceprint_sharing import share_voices
from gateway.stores.voiceprint_tables import NameDigests, insert, keep
from gateway.stores.voiceprints import SCHEMA, SqliteVoiceprints
from tests.redis_server import RedisServer


@dataclass
class Two:
    own: SqliteVoiceprints
    shared: RedisVoiceprints
    redis: RedisServer
    data: Path

    async def share(self) -> list[tuple[str, str]]:
        return [(row.name, outcome) async for row, outcome in share_voices(self.own, self.shared)]

    def run(self, *words: str) -> Result:
        environment = {"EARSHOT_REDIS_URL": self.redis.url, "EARSHOT_CLUSTER_KEY": "k" * 32}
        return CliRunner().invoke(cli, [*words, "--data", str(self.data)], env=environment)


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Two]:
    database = Database(tmp_path / "earshot.db", [SCHEMA])
    with RedisServer(tmp_path / "redis") as redis:
        connection = RedisConnection(redis.url)
        yield Two(SqliteVoiceprints(database), RedisVoiceprints(connection), redis, tmp_path)
        await connection.close()
    database.close()


def row(number: int, name: str, app: str = "acme") -> VoiceprintRow:
    vectors = np.random.default_rng(number).standard_normal((2, 6)).astype(np.float32)
    return VoiceprintRow(f"id{number}", app, "org", "tag", name, (Prints("m", vectors),))


async def test_voices_move_whole_and_leave_nothing_behind(two: Two) -> None:
    for number, name in enumerate(["ann", "bob"]):
        await two.own.add(row(number, name), [b"first", b"second"])
    assert await two.share() == [("ann", "shared"), ("bob", "shared")]
    assert await two.own.total() == 0
    assert [one.name for one in await two.shared.load(["m"])] == ["ann", "bob"]
    assert [await two.shared.audio("id1", clip) for clip in range(3)] == [b"first", b"second", None]
    assert await two.share() == []


async def test_a_name_that_is_taken_stays_where_it_is(two: Two) -> None:
    await two.shared.add(row(9, "ann"), [b"theirs"])
    for number, (name, app) in enumerate([("ann", "acme"), ("ann", "rival")]):
        await two.own.add(row(number, name, app), [b"ours"])
    assert await two.share() == [("ann", "name_taken"), ("ann", "shared")]
    assert await two.own.audio("id0") == b"ours"
    assert await two.shared.audio("id9") == b"theirs"


async def test_a_run_that_ended_halfway_brings_nothing_back_that_was_deleted_since(two: Two) -> None:
    for number, name in enumerate(["ann", "bob", "cid"]):
        await two.own.add(row(number, name), [b""])
        await two.shared.add(row(number, name), [b""])  # as far as it came, before it deleted them here
    await two.shared.remove("acme", "org", "tag", ["ann"])
    await two.shared.replace(row(9, "bob"), [b""])
    assert await two.share() == [("ann", "deleted_before"), ("bob", "deleted_before"), ("cid", "shared")]
    assert sorted(one.print_id for one in await two.shared.load(["m"])) == ["id2", "id9"]
    assert await two.own.total() == 0


# Not async: the command runs a loop of its own.
def test_the_command_says_what_it_did_and_the_doctor_what_is_to_do(two: Two) -> None:
    def enrol(number: int, name: str) -> None:
        database = Database(two.data / "earshot.db", [SCHEMA])
        voice = row(number, name)
        database.run_blocking(lambda db: keep(db, insert(db, voice, NameDigests(db)), voice, [b"x"]))
        database.close()

    enrol(1, "ann")
    assert "1 are in the data folder, not in Redis" in " ".join(two.run("doctor").output.split())
    done = two.run("voiceprint", "share")
    assert (done.exit_code, "1 voices moved to Redis" in done.output) == (0, True)
    enrol(2, "ann")
    again = two.run("voiceprint", "share")
    assert (again.exit_code, "1 stayed" in again.output) == (1, True)
    two.redis.kill()
    away = two.run("voiceprint", "share")
    assert (away.exit_code, "begin again" in away.output) == (1, True)


def test_without_a_redis_there_is_nothing_to_share(tmp_path: Path) -> None:
    told = CliRunner().invoke(cli, ["voiceprint", "share", "--data", str(tmp_path)])
    assert (told.exit_code, "set EARSHOT_REDIS_URL" in told.output) == (2, True)
