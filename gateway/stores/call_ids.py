"""Call ids at the border of the stores: what may become a file name, and nothing else."""

from __future__ import annotations

import re

_SAFE = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


def checked_call_id(call_id: str) -> str:
    """`call_id` itself, if it is safe as a file name. Raises ValueError: the caller let a foreign string through."""
    if not _SAFE.fullmatch(call_id):
        raise ValueError(f"call id {call_id[:80]!r} is not 1 to 64 letters, digits, '_' or '-'")
    return call_id
