"""Takes a ticket as often as it is shown."""

from gateway.tickets import Ticket, Tickets


async def take_it_again(self: Tickets, ticket: Ticket) -> None:
    pass


def break_it() -> None:
    Tickets.spend = take_it_again  # type: ignore[method-assign]
