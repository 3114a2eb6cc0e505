"""What a port may raise: the class says whose fault it was."""

from __future__ import annotations


class PortError(Exception):
    """Base of everything a port may raise; `retryable` says whether the same call may succeed later."""

    retryable = False


class Unavailable(PortError):
    """The other side cannot answer now: down, overloaded, timed out. The caller is not at fault."""

    retryable = True

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Rejected(PortError):
    """The other side refuses this request and will refuse it again. `code` is the other side's own code."""

    def __init__(self, message: str, *, code: str = "") -> None:
        super().__init__(message)
        self.code = code
