"""What an answer of voice QC means for whoever asked: done, try again later, or never."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.clients.retry_after import RETRYABLE_STATUSES, retry_after_s
from gateway.ports import PortError, Rejected, Unavailable

_RETRYABLE_CODES = frozenset({1, 2, 4, 17, 18, 19, 282000, 282004})
"""Baidu's: unknown or inner error, unavailable, cluster, daily, per-second or total limits reached."""


def parsed_answer(status: int, headers: Mapping[str, str], body: bytes) -> tuple[dict[str, Any], float | None]:
    """The JSON object of an answer, and its Retry-After in s. Raises Rejected or Unavailable when it has none."""
    wait_s = retry_after_s(headers.get("Retry-After", ""))
    if status >= 500 or status in RETRYABLE_STATUSES:
        raise Unavailable(f"voice QC answered HTTP {status}", retry_after_s=wait_s)
    try:
        answer = msgspec.json.decode(body)
    except msgspec.DecodeError as fault:
        if status >= 300:
            raise Rejected(f"voice QC answered HTTP {status}", code=f"http_{status}") from fault
        raise Unavailable("voice QC answered something other than JSON", retry_after_s=wait_s) from fault
    if not isinstance(answer, dict):
        raise Unavailable("voice QC answered JSON that is no object", retry_after_s=wait_s)
    if status >= 300 and "error_code" not in answer and "error" not in answer:
        raise Rejected(f"voice QC answered HTTP {status}", code=f"http_{status}")
    return answer, wait_s


def failure_of(answer: Mapping[str, Any], retry_after_s: float | None) -> PortError | None:
    """The error an answer reports, as the port names it; None when it reports none."""
    if "error" in answer:
        return Rejected(f"voice QC refuses: {answer.get('error_description', '')}", code=str(answer["error"]))
    code = answer.get("error_code", 0)
    if code in (0, "0"):
        return None
    message = f"voice QC: {answer.get('error_message') or answer.get('error_msg') or ''} (error_code {code})"
    if isinstance(code, int) and code in _RETRYABLE_CODES:
        return Unavailable(message, retry_after_s=retry_after_s)
    return Rejected(message, code=str(code))
