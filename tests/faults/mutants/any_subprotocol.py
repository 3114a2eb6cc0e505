"""Talks to clients that did not ask for our protocol."""

from unittest.mock import patch

from websockets.asyncio.server import serve


def _serve(*arguments: object, **options: object) -> object:
    return serve(*arguments, **{**options, "subprotocols": None, "select_subprotocol": None})  # type: ignore[arg-type]


def break_it() -> None:
    patch("gateway.doors.native.serve", _serve).start()
