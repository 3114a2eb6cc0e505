"""Faults told to the client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gateway.call.states import IllegalEvent
from gateway.session.session import CallSession
from protocol.errors import ProtocolError
from protocol.messages import Error


def error_message(fault: ProtocolError, *, call_id: str = "", retry_after_ms: int = 0) -> Error:
    """A fault as the message that tells the client."""
    return Error(
        call_id=call_id,
        code=fault.code,
        message=fault.message,
        retryable=fault.entry.retryable,
        retry_after_ms=retry_after_ms,
    )


def complain(session: CallSession, code: str, text: str) -> None:
    """Tell a call's client of a fault that ends nothing."""
    session.whisper(error_message(ProtocolError(code, text), call_id=session.call_id))


@contextmanager
def complaining(session: CallSession) -> Iterator[None]:
    """Tell the client of a fault that only its message is guilty of; one that closes the socket is raised."""
    try:
        yield
    except IllegalEvent as fault:
        complain(session, "unexpected_message", str(fault))
    except ProtocolError as fault:
        if fault.entry.close is not None:
            raise
        complain(session, fault.code, fault.message)
