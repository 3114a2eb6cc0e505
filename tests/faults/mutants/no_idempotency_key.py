"""Hands a call in anew under another name whenever it is handed in: voice QC cannot tell that it knows it."""

import secrets
from dataclasses import replace

from gateway.ports import QualityTask
from gateway.stores.outbox import Outbox

_put = Outbox.put


async def _put_anew(self: Outbox, task: QualityTask, call_id: str) -> bool:
    return await _put(self, replace(task, session_id=f"{task.session_id}-{secrets.token_hex(4)}"), call_id)


def break_it() -> None:
    Outbox.put = _put_anew  # type: ignore[method-assign]
