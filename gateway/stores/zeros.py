"""How SQLite keeps what was said so that deleting it leaves nothing: see `voiceprint_bodies` for why this is needed."""

from __future__ import annotations

_ZEROS = bytes(4096)
"""As many as a page can take of a row: what follows them lies in pages of its own, which are zeroed when freed."""


def behind_zeros(json: bytes) -> bytes:
    """JSON as a column of a row keeps it."""
    return _ZEROS + json


def without_zeros(kept: bytes) -> bytes:
    """The JSON again; rows of earlier versions have no zeros, and JSON begins with none."""
    return kept.lstrip(b"\0")
