"""Short texts that only we can have written: claims with a signature, fit for a URL, a header or a cookie."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import TypeVar

import msgspec

T = TypeVar("T")
MAX_CHARACTERS = 2048
"""Nothing that we seal is longer."""


class NotSealed(Exception):
    """The text is not one of ours, or was changed."""


class Seal:
    """`<claims>.<signature>`, both base64url; HMAC-SHA256."""

    def __init__(self, key: bytes) -> None:
        """`key` is secret, for one purpose alone, and the same in every process that is to open what was sealed."""
        if len(key) < 32:
            raise ValueError(f"the key of a seal has {len(key)} bytes, expected at least 32")
        self._key = key

    def seal(self, claims: msgspec.Struct) -> str:
        body = _encoded(msgspec.json.encode(claims))
        return f"{body}.{self._signature(body)}"

    def open(self, text: str, kind: type[T]) -> T:
        """The claims of a text that we sealed. Raises NotSealed."""
        body, _, signature = text[: MAX_CHARACTERS + 1].partition(".")
        if len(text) > MAX_CHARACTERS or not hmac.compare_digest(
            signature.encode(errors="replace"), self._signature(body).encode()
        ):
            raise NotSealed
        try:
            return msgspec.json.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)), type=kind)
        except (binascii.Error, msgspec.DecodeError) as fault:
            raise NotSealed from fault

    def _signature(self, body: str) -> str:
        return _encoded(hmac.new(self._key, body.encode(errors="replace"), hashlib.sha256).digest())


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
