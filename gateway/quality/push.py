"""Results pushed to the addresses that callers of voice QC gave: durable, retried, and never in the worker's way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import msgspec
import structlog

from gateway.ports import Clock, Fetcher, QualityPush, QualityPushes, Rejected, Unavailable
from gateway.quality.service import QualityService
from protocol.quality import ERROR_MESSAGES, ErrorCode, QualityFault
from protocol.quality_callback import signed_headers
from protocol.quality_result import TaskState

PUSHES_AT_ONCE = 4
IDLE_S = 2.0
"""How often results are looked for that another process has finished."""
STORE_PAUSE_S = 1.0

_log = structlog.get_logger(__name__)


class ResultPusher:
    """Delivers finished results, each at least once; one address that does not answer costs one slot for a while.

    What is pushed is what a query would answer. Owned by whoever awaits `run`.
    """

    def __init__(
        self,
        pushes: QualityPushes,
        service: QualityService,
        fetcher: Fetcher,
        clock: Clock,
        secrets: Callable[[str], Sequence[str]],
    ) -> None:
        """`secrets` tells the live secrets of an app, which its results are signed with."""
        self._secrets = secrets
        self._pushes = pushes
        self._service = service
        self._fetcher = fetcher
        self._clock = clock
        self._woken = asyncio.Event()
        self._under_way: dict[str, asyncio.Task[None]] = {}

    def wake(self) -> None:
        """Say that a result may be there."""
        self._woken.set()

    async def run(self) -> None:
        """Deliver until cancelled; what is under way then is delivered again at the next start."""
        try:
            while True:
                self._woken.clear()
                wait_s = IDLE_S
                try:
                    await self._begin_due()
                    next_at = await self._pushes.next_at(tuple(self._under_way))
                except Unavailable as fault:
                    _log.warning("quality_pushes_not_readable", reason=str(fault))
                    wait_s = STORE_PAUSE_S
                else:
                    if next_at is not None and len(self._under_way) < PUSHES_AT_ONCE:
                        wait_s = min(wait_s, max(0.0, next_at - self._clock.wall()))
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._woken.wait()
        finally:
            tasks = list(self._under_way.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def push_due(self) -> int:
        """Deliver everything that is due at this moment; how many attempts were begun."""
        begun = 0
        while (new := await self._begin_due()) or self._under_way:
            begun += new
            if self._under_way:
                await asyncio.wait(self._under_way.values(), return_when=asyncio.FIRST_COMPLETED)
        return begun

    async def _begin_due(self) -> int:
        free = PUSHES_AT_ONCE - len(self._under_way)
        due = await self._pushes.due(limit=free, but=tuple(self._under_way)) if free else ()
        for push in due:
            task = asyncio.get_running_loop().create_task(self._deliver(push))
            self._under_way[push.ticket] = task
            task.add_done_callback(partial(self._ended, push.ticket))
        return len(due)

    def _ended(self, ticket: str, _: asyncio.Task[None]) -> None:
        del self._under_way[ticket]
        self._woken.set()

    async def _deliver(self, push: QualityPush) -> None:
        try:
            await self._settle(push)
        except Exception:
            _log.exception("quality_push_failed", session_id=push.session_id)
            # The table did not take the outcome: without a pause the push would be due again at once, for ever.
            await asyncio.sleep(STORE_PAUSE_S)

    async def _settle(self, push: QualityPush) -> None:
        """Try once, and note what came of it."""
        log = _log.bind(app_id=push.app_id, session_id=push.session_id, failures=push.failures)
        try:
            body = await self._body(push)
            await self._fetcher.post_json(push.url, body, self._signed(push, body))
        except Unavailable as fault:
            again = await self._pushes.failed(
                push.ticket, str(fault), retryable=True, retry_after_s=fault.retry_after_s
            )
            log.warning("quality_result_not_pushed", reason=str(fault), again=again)
        except Rejected as fault:
            await self._pushes.failed(push.ticket, str(fault), retryable=False)
            log.warning("quality_result_refused", reason=str(fault))
        else:
            await self._pushes.delivered(push.ticket)
            log.info("quality_result_pushed")

    def _signed(self, push: QualityPush, body: bytes) -> dict[str, str]:
        """The headers by which the receiver knows whose it is, and that it has not had it before."""
        secrets = self._secrets(push.app_id)
        if not secrets:
            raise Rejected(f"there is no app {push.app_id} any more")
        return signed_headers(secrets, push.ticket, int(self._clock.wall()), body)

    async def _body(self, push: QualityPush) -> bytes:
        try:
            result = await self._service.status(push.app_id, push.session_id)
        except QualityFault as fault:
            raise Rejected(fault.message, code=str(int(fault.code))) from fault
        if result["state"] in (TaskState.SUBMITTED, TaskState.RUNNING):
            raise Rejected("the session was submitted anew")
        ok = ErrorCode.OK
        return msgspec.json.encode({"error_code": int(ok), "error_message": ERROR_MESSAGES[ok], "result": result})
