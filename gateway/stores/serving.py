"""Where the server of a data folder listens, for commands on the same machine."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

_NAME = "serving.json"


class Serving(msgspec.Struct, frozen=True):
    http: str
    ws: str
    pid: int


def note_addresses(data: Path, http: str, ws: str) -> None:
    """Write the addresses down, whole or not at all."""
    part = data / (_NAME + ".part")
    part.write_bytes(msgspec.json.encode(Serving(http, ws, os.getpid())))
    part.replace(data / _NAME)


def withdraw_addresses(data: Path) -> None:
    (data / _NAME).unlink(missing_ok=True)


def served_at(data: Path) -> Serving | None:
    """Where the server listens; None when none says so, or the one that did is gone: killed, it left its note."""
    try:
        serving = msgspec.json.decode((data / _NAME).read_bytes(), type=Serving)
        os.kill(serving.pid, 0)
    except (FileNotFoundError, ProcessLookupError):
        return None
    except PermissionError:
        pass  # it runs, as another user
    return serving
