"""An answer of the voiceprint API as it travels."""

from __future__ import annotations

import msgspec
from aiohttp import web

from protocol.voiceprint import SCORE_SCALE_HEADER, Code


def answer(code: Code, msg: str, data: object = None, *, status: int = 200) -> web.Response:
    """`{"code", "msg"}` and, where there is something to say, `data`."""
    body: dict[str, object] = {"code": code, "msg": msg}
    if data is not None:
        body["data"] = data
    headers = {SCORE_SCALE_HEADER: "percent"}
    return web.Response(body=msgspec.json.encode(body), content_type="application/json", headers=headers, status=status)
