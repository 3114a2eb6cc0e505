"""The `access_token` of voice QC: minted for an app's id and secret, verified without a look-up."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable

import msgspec

from gateway.credentials import AppDirectory, Credentials
from protocol.quality import TOKEN_LIFETIME_S, ErrorCode, QualityFault

_VERSION = "24"
"""What the vendor's tokens begin with."""


class _Claims(msgspec.Struct, frozen=True):
    app_id: str
    expires_s: int


class AccessTokens:
    """`24.<claims>.<signature>`, both parts base64url; HMAC-SHA256 by a key that all nodes share.

    A token proves its app until it expires, even if the app's secret is changed, but not once the app is gone.
    """

    def __init__(self, key: bytes, credentials: Credentials, apps: AppDirectory, now: Callable[[], float]) -> None:
        """`now` is wall time in s. Raises ValueError for a key of fewer than 32 bytes."""
        if len(key) < 32:
            raise ValueError(f"the key of access tokens has {len(key)} bytes, expected at least 32")
        self._key = key
        self._credentials = credentials
        self._apps = apps
        self._now = now

    def mint(self, client_id: str, client_secret: str) -> str:
        """A token for the app `client_id`, good for 30 days. Raises AccessDenied."""
        app_id = self._credentials.check_secret(client_id, client_secret)
        claims = _encoded(msgspec.json.encode(_Claims(app_id, int(self._now()) + TOKEN_LIFETIME_S)))
        return f"{_VERSION}.{claims}.{self._signature(claims)}"

    def verify(self, token: str) -> str:
        """The app id that `token` proves. Raises QualityFault: 110 for any token not ours, 111 for an expired one."""
        version, _, rest = token.partition(".")
        body, _, signature = rest.partition(".")
        if version != _VERSION or not hmac.compare_digest(signature.encode(), self._signature(body).encode()):
            raise QualityFault(ErrorCode.TOKEN_INVALID)
        try:
            claims = msgspec.json.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)), type=_Claims)
        except (binascii.Error, msgspec.DecodeError) as fault:
            raise QualityFault(ErrorCode.TOKEN_INVALID) from fault
        if claims.expires_s <= self._now():
            raise QualityFault(ErrorCode.TOKEN_EXPIRED)
        if not self._apps.secrets(claims.app_id):
            raise QualityFault(ErrorCode.TOKEN_INVALID)
        return claims.app_id

    def _signature(self, claims: str) -> str:
        return _encoded(hmac.new(self._key, f"{_VERSION}.{claims}".encode(), hashlib.sha256).digest())


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
