"""Expects audio in a pause too."""

from gateway.session.session import CallSession


def break_it() -> None:
    CallSession.expects_audio = True  # type: ignore[method-assign, assignment]
