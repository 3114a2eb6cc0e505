"""Gathers as many fragments of a message as come, at any speed."""

import os
from unittest.mock import patch


def break_it() -> None:
    patch("websockets.asyncio.messages.MAX_FRAGMENTS", 1 << 60).start()
    os.environ["EARSHOT_MAX_MESSAGES_PER_S"] = "0"
