"""How many files and sockets this process may hold open."""

from __future__ import annotations

import resource


def raise_open_files() -> int:
    """Raise the soft limit to the hard one, and say what it is: the usual 1024 is too few for 1,000 calls."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
