"""Links that play one passage: ours, signed, and good for a while only."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from urllib.parse import urlencode

from gateway.voiceprint.listening import Stretch

PASSAGE_AUDIO_PATH = "/v1/passages/audio"
_NUMBER = re.compile(r"[0-9]{1,12}", re.ASCII)


class PassageLinks:
    """Makes and checks links. Whoever holds one may play that stretch, and no other, until it expires; it names no app.

    `key` is secret; `public_url` gives the base of our links when one is made; `now` is wall time in seconds.
    """

    def __init__(
        self, key: bytes, *, public_url: Callable[[], str], now: Callable[[], float], lifetime_s: float = 3600
    ) -> None:
        self._key = key
        self._public_url = public_url
        self._now = now
        self._lifetime_s = lifetime_s

    def url(self, source_id: str, passage: Stretch) -> str:
        """A link that plays the passage for `lifetime_s` from now."""
        expires = int(self._now() + self._lifetime_s)
        query = {
            "channel": passage.channel,
            "begin_ms": passage.begin_ms,
            "end_ms": passage.end_ms,
            "expires": expires,
            "sig": self._signature(source_id, passage, expires),
        }
        return f"{self._public_url().rstrip('/')}{PASSAGE_AUDIO_PATH}/{source_id}.wav?{urlencode(query)}"

    def allowed(self, source_id: str, query: Mapping[str, str]) -> Stretch | None:
        """The passage that a link with these parts plays; None when it is not ours or has expired."""
        numbers = [query.get(name, "") for name in ("channel", "begin_ms", "end_ms", "expires")]
        if not all(_NUMBER.fullmatch(number) for number in numbers):
            return None
        channel, begin_ms, end_ms, expires = map(int, numbers)
        passage = Stretch(channel, begin_ms, end_ms)
        expected = self._signature(source_id, passage, expires)
        if not hmac.compare_digest(expected.encode(), query.get("sig", "").encode(errors="replace")):
            return None
        return passage if self._now() < expires else None

    def _signature(self, source_id: str, passage: Stretch, expires: int) -> str:
        parts = (source_id, passage.channel, passage.begin_ms, passage.end_ms, expires)
        message = repr(("passage", *parts)).encode(errors="replace")
        return base64.urlsafe_b64encode(hmac.new(self._key, message, hashlib.sha256).digest()).decode().rstrip("=")
