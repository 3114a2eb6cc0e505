"""Logs the tickets it is shown."""

from collections.abc import Callable

import structlog

from gateway.tickets import Ticket, Tickets

read = Tickets.read


def read_and_tell(self: Tickets, text: str, admits: Callable[[Ticket], bool]) -> Ticket:
    structlog.get_logger().info("ticket", text=text)
    return read(self, text, admits)


def break_it() -> None:
    Tickets.read = read_and_tell  # type: ignore[method-assign]
