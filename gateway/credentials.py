"""Who is calling: the signed headers of the voiceprint API, HTTP Basic, and nothing else.

An app (tenant) has an id and one or more live secrets, so that a secret can be rotated without a dropped call.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable, Mapping
from typing import Protocol

from protocol.voiceprint import sign


class AccessDenied(Exception):
    """The caller did not prove who it is. The reason is for our log; callers all get the same answer."""


class AppDirectory(Protocol):
    def secrets(self, app_id: str) -> tuple[str, ...]:
        """The app's live secrets; empty when there is no such app."""


class Credentials:
    """Checks credentials in constant time, within the clock skew that a setting allows (`now` is wall time in s)."""

    def __init__(self, apps: AppDirectory, *, skew_s: float, now: Callable[[], float]) -> None:
        self._apps = apps
        self._skew_s = skew_s
        self._now = now

    def from_headers(self, headers: Mapping[str, str], query: Mapping[str, str]) -> str:
        """The app id proved by a request's headers or query (`X-App-Key`/`appid` and their like, or Basic).

        `headers` must look names up whatever their case. Raises AccessDenied.
        """
        authorization = headers.get("Authorization", "")
        if authorization[:6].lower() == "basic ":
            return self.check_basic(authorization[6:])
        app_id = headers.get("X-App-Key") or query.get("appid") or ""
        ts = headers.get("X-Timestamp") or query.get("ts") or ""
        signa = headers.get("X-App-Signature") or query.get("signa") or ""
        return self.check_signature(app_id, ts, signa)

    def check_signature(self, app_id: str, ts: str, signa: str) -> str:
        """The app id, if `signa` signs a `ts` (Unix seconds) within the skew. Raises AccessDenied."""
        if not (app_id and ts and signa):
            raise AccessDenied("no credentials")
        if not (ts.isascii() and ts.isdigit() and len(ts) <= 12):
            raise AccessDenied("timestamp is not in Unix seconds")
        if abs(self._now() - int(ts)) > self._skew_s:
            raise AccessDenied("timestamp is outside the accepted skew")
        return self._match(app_id, [sign(app_id, ts, secret) for secret in self._apps.secrets(app_id)], signa)

    def check_basic(self, encoded: str) -> str:
        """The app id of HTTP Basic `appid:secret`. Raises AccessDenied."""
        try:
            app_id, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise AccessDenied("the Basic credentials are not base64 of UTF-8") from None
        return self.check_secret(app_id, secret)

    def check_secret(self, app_id: str, secret: str) -> str:
        """The app id, if `secret` is one of its live secrets. Raises AccessDenied."""
        return self._match(app_id, list(self._apps.secrets(app_id)), secret)

    def _match(self, app_id: str, expected: list[str], given: str) -> str:
        # Compare against every live secret, and against a decoy where there is none, so that time tells nothing.
        matches = [hmac.compare_digest(one.encode(), given.encode()) for one in expected or ["\0"]]
        if not (expected and any(matches)):
            raise AccessDenied("unknown app or wrong secret")
        return app_id
