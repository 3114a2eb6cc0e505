"""A voice QC vendor that fails as told, outlives the gateway's processes, and keeps account of every request."""

from __future__ import annotations

import asyncio
import base64
import io
import time
import wave
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

from protocol.quality import CREATE_PATH, RESULT_PATH, TOKEN_PATH

Step = Literal["token", "create", "result"]
Script = Callable[[Step, str], Awaitable[web.Response | None]]
"""Asked at each request, with its session id: an answer instead of the vendor's own, or None to let it through."""


async def in_order(step: Step, session_id: str) -> web.Response | None:
    """Nothing fails."""


@dataclass(frozen=True)
class Request:
    step: Step
    session_id: str
    at_s: float
    """Monotonic."""


@dataclass
class Vendor:
    """The vendor's session ids are idempotency keys: the same one again is the same task."""

    host: str = "127.0.0.1"
    port: int = 0
    requests: list[Request] = field(default_factory=list)
    tasks: dict[str, bytes] = field(default_factory=dict)
    """PCM by session id, of every task accepted."""
    callback_urls: dict[str, str] = field(default_factory=dict)
    """Where the gateway wants the verdict, by session id, if it says so."""
    before: Script = in_order
    after: Script = in_order
    """As `before`, but once the task is accepted."""
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What makes a gateway its customer, for tasks alone: each request is then about one."""
        return {
            "EARSHOT_QUALITY_URL": self.url,
            "EARSHOT_QUALITY_APP": "client:secret",
            "EARSHOT_RULES_SYNC_S": "0",
        }

    def asked(self, step: Step) -> list[Request]:
        return [request for request in self.requests if request.step == step]

    def tasks_of(self, pcm: bytes) -> list[str]:
        """The session ids of the tasks whose recording begins as this call does."""
        return [
            session_id
            for session_id, recorded in self.tasks.items()
            if recorded and recorded[:HEAD_BYTES] == pcm[: min(HEAD_BYTES, len(recorded))]
        ]

    async def open(self) -> None:
        """Answer, on the same port as before."""
        application = web.Application(client_max_size=1 << 26)
        application.router.add_post(TOKEN_PATH, self._token)
        application.router.add_post(CREATE_PATH, self._create)
        application.router.add_get(RESULT_PATH, self._result)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def close(self) -> None:
        """Nobody answers any more; connections are refused."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _token(self, request: web.Request) -> web.Response:
        self._note("token", "")
        answer = await self.before("token", "")
        return answer or web.json_response({"access_token": "a-token", "expires_in": 2592000})

    async def _create(self, request: web.Request) -> web.Response:
        body = await request.json()
        session_id = body["session_id"]
        self._note("create", session_id)
        answer = await self.before("create", session_id)
        if "callback_url" in body:
            self.callback_urls[session_id] = body["callback_url"]
        if answer is None:
            with wave.open(io.BytesIO(base64.b64decode(body["speech_data"]))) as wav:
                self.tasks[session_id] = wav.readframes(wav.getnframes())
            answer = await self.after("create", session_id)
        return answer or web.json_response({"error_code": 0, "error_message": "ok"})

    async def _result(self, request: web.Request) -> web.Response:
        session_id = request.query["session_id"]
        self._note("result", session_id)
        answer = await self.before("result", session_id)
        if answer is not None:
            return answer
        if session_id not in self.tasks:
            return web.json_response({"error_code": 336120, "error_message": "no such task"})
        return web.json_response(verdict(session_id))

    def _note(self, step: Step, session_id: str) -> None:
        self.requests.append(Request(step, session_id, time.monotonic()))


def verdict(session_id: str, state: int = 2) -> dict[str, Any]:
    """The body of an answer about a task: 1 it is being worked on, 2 it is done."""
    result = {"session_id": session_id, "state": state, "state_desc": ("等待处理", "处理中", "处理成功")[state]}
    return {"error_code": 0, "error_message": "ok", "result": result | ({"detection_result": []} if state == 2 else {})}


HEAD_BYTES = 400
"""So much of a recording tells whose it is."""


@asynccontextmanager
async def vendor_open(host: str = "127.0.0.1") -> AsyncIterator[Vendor]:
    vendor = Vendor(host)
    await vendor.open()
    try:
        yield vendor
    finally:
        await vendor.close()


def failing(status: int, *, retry_after_s: int | None = None) -> Script:
    """Every request is answered with this status."""

    async def script(step: Step, session_id: str) -> web.Response:
        headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
        return web.json_response({"error_msg": "as told"}, status=status, headers=headers)

    return script


def hanging(until: asyncio.Event) -> Script:
    """No request is answered before the event."""

    async def script(step: Step, session_id: str) -> web.Response | None:
        await until.wait()
        return None

    return script


def at_first(step: Step, act: Callable[[], Awaitable[web.Response | None]]) -> Script:
    """Do something at the first request of a kind, and let the others through."""
    seen: Counter[str] = Counter()

    async def script(now: Step, session_id: str) -> web.Response | None:
        seen[now] += 1
        return await act() if now == step and seen[now] == 1 else None

    return script
