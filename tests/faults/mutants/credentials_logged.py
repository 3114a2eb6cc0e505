"""Logs what came when it is refused."""

from collections.abc import Mapping

import structlog

from gateway.credentials import AccessDenied, Credentials

_from_headers = Credentials.from_headers


def _logging(self: Credentials, headers: Mapping[str, str], query: Mapping[str, str]) -> str:
    try:
        return _from_headers(self, headers, query)
    except AccessDenied:
        structlog.get_logger().info("access_denied", headers=dict(headers), query=dict(query))
        raise


def break_it() -> None:
    Credentials.from_headers = _logging  # type: ignore[method-assign]
