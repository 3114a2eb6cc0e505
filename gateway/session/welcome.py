"""What a client is given when its call begins, and shows when it comes back."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping

from gateway.call.events import Accepted


class Welcome:
    """Needs no memory of calls: any process with the same key knows the tokens of all."""

    def __init__(self, token_key: bytes, resume_window_s: float, limits: Mapping[str, int]) -> None:
        self._token_key = token_key
        self._resume_window_s = resume_window_s
        self._limits = limits

    def of_call(self, call_id: str) -> Accepted:
        return Accepted(self._token(call_id), self._resume_window_s, dict(self._limits))

    def was_given(self, call_id: str, resume_token: str) -> bool:
        """Whether this is the call's token. Takes as long for a wrong one."""
        return hmac.compare_digest(self._token(call_id).encode(), resume_token.encode())

    def _token(self, call_id: str) -> str:
        digest = hmac.new(self._token_key, b"resume/" + call_id.encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")
