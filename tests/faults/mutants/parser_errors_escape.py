"""Decodes a client's messages without expecting them to be wrong."""

from unittest.mock import patch

import msgspec

from protocol.messages import ClientMessage


def break_it() -> None:
    decode = msgspec.json.Decoder(ClientMessage).decode
    for door in ("native", "conversation"):
        patch(f"gateway.doors.{door}.decode_client", decode).start()
