"""Takes messages of any size, deflated ones too."""

from unittest.mock import patch

from websockets.asyncio.server import serve


def _serve(*arguments: object, **options: object) -> object:
    return serve(*arguments, **{**options, "max_size": None, "compression": "deflate"})  # type: ignore[arg-type]


def break_it() -> None:
    patch("gateway.doors.native.serve", _serve).start()
