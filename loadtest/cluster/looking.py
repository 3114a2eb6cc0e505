"""What a cluster's nodes, its Redis and its workers' logs tell of the calls that were played."""

from __future__ import annotations

import asyncio
import io
import time
import wave
from collections.abc import Sequence
from typing import Any, Final

import aiohttp
import msgspec
import redis

from loadtest.cluster.accounts import Judged, Told
from loadtest.cluster.calls import PlayedCall
from loadtest.cluster.parts import Gateway, Worker
from protocol.voiceprint import signed_headers

AGREE_S: Final = 20.0
"""How long nodes may take to hear of one another's calls."""
_CALL_KEYS: Final = ("earshot:tail:*", "earshot:calls", "earshot:going-on:*")


class Looking:
    """Asks as the app that made the calls."""

    def __init__(self, http: aiohttp.ClientSession, app_id: str, secret: str) -> None:
        self._http = http
        self._app_id = app_id
        self._secret = secret

    async def get(self, gateway: Gateway, path: str) -> tuple[int, bytes]:
        headers = signed_headers(self._app_id, self._secret, time.time())
        async with self._http.get(gateway.http + path, headers=headers) as response:
            return response.status, await response.read()

    async def told(self, gateway: Gateway, calls: Sequence[PlayedCall]) -> Told:
        """All that the node tells of these calls, once each is judged there or has had its time."""
        documents: dict[str, Any] = {}
        recordings: dict[str, bytes] = {}
        deadline_s = time.monotonic() + AGREE_S
        for call in calls:
            path = f"/v1/calls/{call.call_id}"
            while True:
                status, body = await self.get(gateway, path)
                document = msgspec.json.decode(body) if status == 200 else {"state": "absent"}
                if document["state"] in ("judged", "failed") or time.monotonic() > deadline_s:
                    break
                await asyncio.sleep(0.2)
            documents[call.call_id] = document
            status, body = await self.get(gateway, f"{path}/recording")
            if status == 200:
                with wave.open(io.BytesIO(body), "rb") as wav:
                    recordings[call.call_id] = wav.readframes(wav.getnframes())
        _, body = await self.get(gateway, "/v1/calls?limit=200")
        listed = frozenset(one["call_id"] for one in msgspec.json.decode(body)["calls"])
        return Told(documents, recordings, listed)

    async def used_ms(self, gateway: Gateway) -> int:
        """The speech that the app is told was judged for it."""
        _, body = await self.get(gateway, "/v1/usage")
        return int(msgspec.json.decode(body)["total"]["quality_ms"])


def at_work_of(client: redis.Redis, workers: Sequence[Worker]) -> Worker | None:
    """A worker that is at work on a recording; None when nobody is."""
    tasks = [client.hmget(key, "state", "worker") for key in client.scan_iter("earshot:qc:task:*")]
    busy = {name for state, name in tasks if state == b"1"}
    return next((worker for worker in workers if worker.claims_as.encode() in busy), None)


def judged(client: redis.Redis, workers: Sequence[Worker], used_ms: int) -> Judged:
    """What the queue holds, and the verdicts that workers gave."""
    keys = list(client.scan_iter("earshot:qc:task:*"))
    tasks = [(_text(client.hget(key, "session")), int(client.hget(key, "attempts") or 0)) for key in keys]
    given = [
        entry
        for worker in workers
        for entry in worker.entries()
        if entry.get("event") == "quality_task_finished" and entry["kept"]
    ]
    return Judged(
        tasks=[session for session, _ in tasks],
        verdicts=[entry["session_id"] for entry in given],
        attempts=dict(tasks),
        billed_ms=sum(entry["billed_ms"] for entry in given),
        used_ms=used_ms,
    )


def _text(value: bytes | str | None) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""


def left_over(client: redis.Redis) -> list[str]:
    """Keys of calls that go on; after the last call there should be none."""
    return sorted(key.decode() for pattern in _CALL_KEYS for key in client.scan_iter(pattern))
