"""Takes every call, however many there are."""

from gateway.session.calls import Calls


def _never(*_: object) -> None: ...


def break_it() -> None:
    Calls._refuse_if_full = _never  # type: ignore[method-assign, assignment]
