"""Who is calling: the signed headers of the voiceprint API, HTTP Basic, or what a ticket or a session has proved.

An app (tenant) has an id and one or more live secrets, so that a secret can be rotated without a dropped call.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable, Mapping
from typing import Protocol

from aiohttp import web

from protocol.voiceprint import sign


class AccessDenied(Exception):
    """The caller did not prove who it is. The reason is for our log; callers all get the same answer."""


DENIED = (
    "signed headers (X-App-Key, X-Timestamp, X-App-Signature), HTTP Basic, a ticket or the screen's session are "
    "missing or wrong"
)
"""What callers are told, whatever was wrong."""
PROVEN_APP = web.RequestKey("proven_app", str)
"""Under this key an HTTP request bears the app that its ticket or session proved."""


def proven_app(request: web.Request) -> str:
    """The app that a request's ticket or session proved before it came here; empty if neither did."""
    app_id: str = request.get(PROVEN_APP, "")
    return app_id


class AppDirectory(Protocol):
    def secrets(self, app_id: str) -> tuple[str, ...]:
        """The app's live secrets; empty when there is no such app."""


class Credentials:
    """Checks credentials in constant time, within the clock skew that a setting allows (`now` is wall time in s)."""

    def __init__(self, apps: AppDirectory, *, skew_s: float, now: Callable[[], float]) -> None:
        self._apps = apps
        self._skew_s = skew_s
        self._now = now

    def of_request(self, request: web.Request) -> str:
        """The app id that an HTTP request proves, in whichever way. Raises AccessDenied."""
        return proven_app(request) or self.from_headers(request.headers, request.query)

    def from_headers(self, headers: Mapping[str, str], query: Mapping[str, str]) -> str:
        """The app id proved by a request's headers or query (`X-App-Key`/`appid` and their like, or Basic).

        `headers` must look names up whatever their case. Raises AccessDenied.
        """
        authorization = headers.get("Authorization", "")
        if authorization[:6].lower() == "basic ":
            return self.check_basic(authorization[6:])
        app_id = headers.get("X-App-Key") or query.get("appid") or ""
        ts = headers.get("X-Timestamp") or query.get("ts") or ""
        # A `+` that a client left unescaped in its query arrives as a space, which no signature has.
        signa = headers.get("X-App-Signature") or (query.get("signa") or "").replace(" ", "+")
        return self.check_signature(app_id, ts, signa)

    def check_signature(self, app_id: str, ts: str, signa: str) -> str:
        """The app id, if `signa` signs a `ts` (Unix seconds) within the skew. Raises AccessDenied."""
        if not (app_id and ts and signa):
            raise AccessDenied("no credentials")
        if not (ts.isascii() and ts.isdigit() and len(ts) <= 12):
            raise AccessDenied("timestamp is not in Unix seconds")
        if abs(self._now() - int(ts)) > self._skew_s:
            raise AccessDenied("timestamp is outside the accepted skew")
        return self._match(app_id, signa, lambda secret: sign(app_id, ts, secret))

    def check_basic(self, encoded: str) -> str:
        """The app id of HTTP Basic `appid:secret`. Raises AccessDenied."""
        try:
            app_id, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
        except ValueError:
            raise AccessDenied("the Basic credentials are not base64 of UTF-8") from None
        return self.check_secret(app_id, secret)

    def check_secret(self, app_id: str, secret: str) -> str:
        """The app id, if `secret` is one of its live secrets. Raises AccessDenied."""
        return self._match(app_id, secret, lambda live: live)

    def _match(self, app_id: str, given: str, expected: Callable[[str], str]) -> str:
        if not (_encodes(app_id) and _encodes(given)):
            raise AccessDenied("the credentials are not UTF-8")
        secrets = self._apps.secrets(app_id)
        # Work with every live secret, and with a decoy where there is none, so that time tells nothing.
        matches = [
            hmac.compare_digest(expected(secret).encode(), given.encode()) for secret in secrets or (_DECOY_SECRET,)
        ]
        if not (secrets and any(matches)):
            raise AccessDenied("unknown app or wrong secret")
        return app_id


_DECOY_SECRET = "0123456789abcdef0123456789abcdef"  # noqa: S105 - it opens nothing


def _encodes(text: str) -> bool:
    """Whether a header's text is UTF-8: bytes that were not came as lone surrogates."""
    return not any("\ud800" <= char <= "\udfff" for char in text)
