"""Enrols voices one after another, and prints the name of each that is safe. Run as a module; killed by its test."""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

import numpy as np

from gateway.ports import Prints, Unavailable, VoiceprintRow
from gateway.stores.redis_connection import RedisConnection
from gateway.stores.redis_voiceprints import RedisVoiceprints
from gateway.stores.sqlite import Database
from gateway.stores.voiceprints import SCHEMA, SqliteVoiceprints


def voice(number: int) -> tuple[VoiceprintRow, list[bytes]]:
    """A voice that can be made again from its number."""
    chance = random.Random(number)
    vectors = np.frombuffer(chance.randbytes(2 * 4 * 192), "<u4").astype(np.float32).reshape(2, 192)
    row = VoiceprintRow(f"id{number}", "acme", "org", "tag", f"name{number}", (Prints("m", vectors),))
    return row, [chance.randbytes(50_000) for _ in range(2)]


def store_at(place: str) -> SqliteVoiceprints | RedisVoiceprints:
    if "://" in place:
        return RedisVoiceprints(RedisConnection(place))
    return SqliteVoiceprints(Database(Path(place), [SCHEMA]))


async def main(place: str) -> None:
    store = store_at(place)
    number = 0
    try:
        while await store.add(*voice(number)):
            print(number, flush=True)
            number += 1
    except Unavailable:
        return


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
