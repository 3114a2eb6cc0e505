"""What the HTTP side's own routes answer: JSON, and errors as `{"code", "message"}`."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web


def json_answer(content: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(content), status=status, content_type="application/json")


def refused(kind: type[web.HTTPException], code: str, message: str, **more: str) -> web.HTTPException:
    """An error's answer, to be raised."""
    text = msgspec.json.encode({"code": code, "message": message, **more}).decode()
    return kind(text=text, content_type="application/json")
