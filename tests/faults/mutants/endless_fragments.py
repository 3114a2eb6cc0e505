"""Gathers as many fragments of a message as come."""

from unittest.mock import patch


def break_it() -> None:
    patch("websockets.asyncio.messages.MAX_FRAGMENTS", 1 << 60).start()
