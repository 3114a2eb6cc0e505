"""Wall clocks that jump and run fast, for a process of its own (libfaketime)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

LIBRARIES = (
    Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"),
    Path("/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1"),
)


def _library() -> str:
    for library in LIBRARIES:
        if library.exists():
            return str(library)
    pytest.skip("libfaketime is not installed")


@dataclass
class WallClock:
    """A server's wall clock, wrong by as much as the test says; its monotonic clock stays right."""

    file: Path

    def __post_init__(self) -> None:
        self.jump(0)

    def jump(self, offset_s: int) -> None:
        """From now on, be off by so much; servers see it at once."""
        part = self.file.with_suffix(".part")
        part.write_text(f"{offset_s:+d}\n")
        part.replace(self.file)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": _library(),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }


def fast_clock(times: int) -> dict[str, str]:
    """The environment of a server all of whose clocks run so many times as fast."""
    return {"LD_PRELOAD": _library(), "FAKETIME": f"+0 x{times}"}
