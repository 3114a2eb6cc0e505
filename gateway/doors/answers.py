"""What the HTTP side's own routes answer: JSON, and errors as `{"code", "message"}`."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from gateway.credentials import DENIED

SCREEN_HEADER = "X-Earshot-Screen"
"""No form and no image of another site can send it: with it, a request is the screen's own."""


def json_answer(content: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(content), status=status, content_type="application/json")


def access_denied(request: web.Request) -> web.HTTPException:
    """The one answer to credentials that are missing or wrong, to be raised."""
    refusal = refused(web.HTTPUnauthorized, "access_denied", DENIED)
    if SCREEN_HEADER not in request.headers:  # a browser would ask its user for name and password
        refusal.headers["WWW-Authenticate"] = 'Basic realm="earshot"'
    return refusal


def refused(kind: type[web.HTTPException], code: str, message: str, **more: str) -> web.HTTPException:
    """An error's answer, to be raised."""
    text = msgspec.json.encode({"code": code, "message": message, **more}).decode()
    return kind(text=text, content_type="application/json")
