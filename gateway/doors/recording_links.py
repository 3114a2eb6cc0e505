"""Links to recordings of calls: ours, signed, and good for a while only."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable

LIFETIME_S = 3600.0


class RecordingLinks:
    """Whoever holds a link may hear that recording until it expires; it names no app, and opens nothing else."""

    def __init__(self, key: bytes, *, now: Callable[[], float], lifetime_s: float = LIFETIME_S) -> None:
        """`key` is secret, and for nothing but these links; `now` is wall time in seconds."""
        self._key = key
        self._now = now
        self._lifetime_s = lifetime_s

    def query(self, call_id: str) -> str:
        """What to put behind the `?` of the recording's path."""
        expires = str(int(self._now() + self._lifetime_s))
        return f"expires={expires}&sig={self._signature(call_id, expires)}"

    def allows(self, call_id: str, expires: str, signature: str) -> bool:
        """Whether a link with these parts is ours and has not expired."""
        expected = self._signature(call_id, expires)
        if not hmac.compare_digest(expected.encode(), signature.encode(errors="replace")):
            return False
        return self._now() < int(expires)

    def _signature(self, call_id: str, expires: str) -> str:
        message = f"call recording\n{call_id}\n{expires}".encode(errors="replace")
        return base64.urlsafe_b64encode(hmac.new(self._key, message, hashlib.sha256).digest()).decode().rstrip("=")
