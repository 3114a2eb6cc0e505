"""Gathers as many fragments of a message as come, at any speed."""

import os
from unittest.mock import patch

from gateway.settings import Settings


def break_it() -> None:
    patch("websockets.asyncio.messages.MAX_FRAGMENTS", 1 << 60).start()
    if "max_messages_per_s" in Settings.__struct_fields__:
        os.environ["EARSHOT_MAX_MESSAGES_PER_S"] = "0"
