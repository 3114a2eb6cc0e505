"""Links to enrolled audio: ours, signed, and good for a while only."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable

AUDIO_PATH = "/voiceid/audio"


class SignedLinks:
    """Makes and checks links. Whoever holds a link may play that audio until it expires; it names no app or voice.

    `key` is secret and the same on every node; `public_url` gives the base of our links when one is made;
    `now` is wall time in seconds.
    """

    def __init__(
        self, key: bytes, *, public_url: Callable[[], str], now: Callable[[], float], lifetime_s: float = 3600
    ) -> None:
        self._key = key
        self._public_url = public_url
        self._now = now
        self._lifetime_s = lifetime_s

    def url(self, print_id: str, clip: int = 0) -> str:
        """A link that plays a clip (from 0) of this voice print for `lifetime_s` from now."""
        expires = str(int(self._now() + self._lifetime_s))
        query = f"expires={expires}&sig={self._signature(print_id, clip, expires)}"
        which = f"clip={clip}&" if clip else ""
        return f"{self._public_url().rstrip('/')}{AUDIO_PATH}/{print_id}.flac?{which}{query}"

    def allows(self, print_id: str, clip: int, expires: str, signature: str) -> bool:
        """Whether a link with these parts is ours and has not expired."""
        expected = self._signature(print_id, clip, expires)
        if not hmac.compare_digest(expected.encode(), signature.encode(errors="replace")):
            return False
        return self._now() < int(expires)

    def _signature(self, print_id: str, clip: int, expires: str) -> str:
        message = f"voiceprint audio\n{print_id}\n{clip}\n{expires}".encode(errors="replace")
        return base64.urlsafe_b64encode(hmac.new(self._key, message, hashlib.sha256).digest()).decode().rstrip("=")
