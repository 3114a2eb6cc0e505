"""Tells clients that come back that it has more than it has."""

from unittest.mock import patch

from protocol.messages import Resumed


def _more(*, samples: int, **rest: int) -> Resumed:
    return Resumed(samples=samples + 80, **rest)  # type: ignore[arg-type]


def break_it() -> None:
    patch("protocol.messages.Resumed", _more).start()
