"""API 1, the voiceprint service: how a request is signed."""

from __future__ import annotations

import base64
import hashlib
import hmac


def sign(app_id: str, ts: str, secret: str) -> str:
    """The `signa` of a request: base64(HMAC-SHA1(secret, hex(MD5(app_id + ts)))), as the API document gives it."""
    digest = hashlib.md5((app_id + ts).encode(), usedforsecurity=False).hexdigest()
    return base64.b64encode(hmac.new(secret.encode(), digest.encode(), hashlib.sha1).digest()).decode()
