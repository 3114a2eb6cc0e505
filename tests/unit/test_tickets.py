"""Tickets and the screen's sessions: what is ours, still good and not spent, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from gateway.credentials import AccessDenied
from gateway.ports import Unavailable
from gateway.screen_sessions import LIFETIME_S, TRUSTED_FOR_S, ScreenSession, ScreenSessions
from gateway.seal import MAX_CHARACTERS, NotSealed, Seal
from gateway.tickets import Purpose, Ticket, Tickets

KEY, OTHER_KEY = bytes(range(32)), bytes(32)


class Claims(Struct, frozen=True):
    text: str
    number: int = 0


class Apps:
    def __init__(self) -> None:
        self.known = {"demo", "other"}

    def secrets(self, app_id: str) -> tuple[str, ...]:
        return ("secret",) if app_id in self.known else ()


class Marks:
    """SpentMarks in memory; fails while `fault` is set."""

    def __init__(self) -> None:
        self.spent: dict[str, int] = {}
        self.fault: Exception | None = None
        self.asked = 0

    async def spend(self, mark: str, until_ms: int) -> bool:
        if self.fault is not None:
            raise self.fault
        fresh = mark not in self.spent
        self.spent.setdefault(mark, until_ms)
        return fresh

    async def is_spent(self, mark: str) -> bool:
        self.asked += 1
        if self.fault is not None:
            raise self.fault
        return mark in self.spent


class Bench:
    """Everything that knows tickets and sessions, with a clock of its own."""

    def __init__(self, key: bytes = KEY) -> None:
        self.now_s = 1_700_000_000.0
        self.apps, self.marks = Apps(), Marks()
        self.tickets = Tickets(key, self.apps, self.marks, lambda: self.now_s)
        self.sessions = ScreenSessions(key, self.apps, self.marks, lambda: self.now_s)


def anything(ticket: Ticket) -> bool:
    return True


def for_purpose(purpose: Purpose) -> Callable[[Ticket], bool]:
    return lambda ticket: ticket.purpose == purpose


# --- seals -------------------------------------------------------------------------------------------------------


@given(st.text(max_size=200), st.integers(-(2**60), 2**60))
def test_what_was_sealed_opens_as_it_was(text: str, number: int) -> None:
    claims = Claims(text, number)
    sealed = Seal(KEY).seal(claims)
    assert Seal(KEY).open(sealed, Claims) == claims
    assert all(letter.isascii() and (letter.isalnum() or letter in "-_.") for letter in sealed)


@given(st.text(max_size=50), st.data())
def test_nothing_that_was_changed_opens(text: str, data: st.DataObject) -> None:
    sealed = Seal(KEY).seal(Claims(text))
    at = data.draw(st.integers(0, len(sealed) - 1))
    letter = data.draw(st.characters(exclude_characters=[sealed[at]]))
    changed = sealed[:at] + letter + sealed[at + 1 :]
    with pytest.raises(NotSealed):
        Seal(KEY).open(changed, Claims)


@given(st.text(max_size=200))
def test_no_other_text_opens(text: str) -> None:
    with pytest.raises(NotSealed):
        Seal(KEY).open(text, Claims)


def test_the_seal_of_another_key_does_not_open_and_a_weak_key_makes_none() -> None:
    with pytest.raises(NotSealed):
        Seal(OTHER_KEY).open(Seal(KEY).seal(Claims("x")), Claims)
    with pytest.raises(NotSealed):
        Seal(KEY).open(Seal(KEY).seal(Claims("x" * MAX_CHARACTERS)), Claims)
    with pytest.raises(ValueError, match="31 bytes"):
        Seal(bytes(31))


def test_claims_of_another_kind_do_not_open() -> None:
    with pytest.raises(NotSealed):
        Seal(KEY).open(Seal(KEY).seal(Claims("x")), Ticket)


# --- tickets -----------------------------------------------------------------------------------------------------


async def test_a_ticket_admits_once_to_what_it_says() -> None:
    bench = Bench()
    text, issued = bench.tickets.issue("demo", "watch", call_id="c1", ttl_s=60)
    assert issued.expires_at_ms == round((bench.now_s + 60) * 1000)
    assert await bench.tickets.take(text, for_purpose("watch")) == issued
    with pytest.raises(AccessDenied, match="used before"):
        await bench.tickets.take(text, anything)


async def test_a_ticket_that_does_not_admit_to_this_stays_good_for_what_it_admits_to() -> None:
    bench = Bench()
    text, _ = bench.tickets.issue("demo", "watch")
    with pytest.raises(AccessDenied, match="does not admit"):
        await bench.tickets.take(text, for_purpose("call"))
    assert (await bench.tickets.take(text, for_purpose("watch"))).app_id == "demo"


async def test_a_ticket_is_good_up_to_its_time_and_no_longer() -> None:
    bench = Bench()
    first, _ = bench.tickets.issue("demo", "call", ttl_s=60)
    second, _ = bench.tickets.issue("demo", "call", ttl_s=60)
    bench.now_s += 59.9
    await bench.tickets.take(first, anything)
    bench.now_s += 0.1
    with pytest.raises(AccessDenied, match="expired"):
        await bench.tickets.take(second, anything)


async def test_a_ticket_of_another_key_or_of_an_app_that_is_gone_admits_to_nothing() -> None:
    bench = Bench()
    foreign, _ = Bench(OTHER_KEY).tickets.issue("demo", "call")
    mine, _ = bench.tickets.issue("other", "call")
    bench.apps.known.remove("other")
    for text in (foreign, mine, "", ".", "x.y"):
        with pytest.raises(AccessDenied):
            await bench.tickets.take(text, anything)


async def test_while_what_was_spent_is_unknown_no_ticket_is_taken() -> None:
    bench = Bench()
    text, _ = bench.tickets.issue("demo", "call")
    bench.marks.fault = Unavailable("down")
    with pytest.raises(Unavailable):
        await bench.tickets.take(text, anything)


def test_no_two_tickets_are_alike() -> None:
    tickets = Bench().tickets
    assert len({tickets.issue("demo", "call")[0] for _ in range(1000)}) == 1000


# --- sessions ----------------------------------------------------------------------------------------------------


async def test_a_session_is_known_by_its_cookie_until_it_expires() -> None:
    bench = Bench()
    cookie, session = bench.sessions.begin("demo")
    assert await bench.sessions.of_cookie(cookie) == session
    bench.now_s += LIFETIME_S - 1
    assert await bench.sessions.of_cookie(cookie) == session
    bench.now_s += 1
    with pytest.raises(AccessDenied, match="expired"):
        await bench.sessions.of_cookie(cookie)


async def test_a_session_that_was_ended_opens_nothing_here_at_once_and_elsewhere_soon() -> None:
    bench = Bench()
    elsewhere = ScreenSessions(KEY, bench.apps, bench.marks, lambda: bench.now_s)
    cookie, session = bench.sessions.begin("demo")
    await bench.sessions.of_cookie(cookie)
    await elsewhere.of_cookie(cookie)
    await bench.sessions.end(session)
    with pytest.raises(AccessDenied, match="ended"):
        await bench.sessions.of_cookie(cookie)
    bench.now_s += TRUSTED_FOR_S
    with pytest.raises(AccessDenied, match="ended"):
        await elsewhere.of_cookie(cookie)


async def test_a_request_beside_the_sign_out_does_not_keep_the_session_open() -> None:
    class Slow(Marks):
        """A request of the same page is answered between the sign-out's beginning and its end."""

        async def spend(self, mark: str, until_ms: int) -> bool:
            await sessions.of_cookie(cookie)
            return await super().spend(mark, until_ms)

    sessions = ScreenSessions(KEY, Apps(), Slow(), lambda: 1_700_000_000.0)
    cookie, session = sessions.begin("demo")
    await sessions.end(session)
    with pytest.raises(AccessDenied, match="was ended"):
        await sessions.of_cookie(cookie)


async def test_a_page_that_asks_for_much_looks_up_little() -> None:
    bench = Bench()
    cookie, _ = bench.sessions.begin("demo")
    for _ in range(100):
        await bench.sessions.of_cookie(cookie)
    assert bench.marks.asked == 1


async def test_an_outage_throws_nobody_out() -> None:
    bench = Bench()
    cookie, session = bench.sessions.begin("demo")
    bench.marks.fault = Unavailable("down")
    assert await bench.sessions.of_cookie(cookie) == session
    with pytest.raises(Unavailable):
        await bench.sessions.end(session)


async def test_a_ticket_is_no_cookie_and_a_cookie_no_ticket() -> None:
    bench = Bench()
    ticket, _ = bench.tickets.issue("demo", "screen")
    cookie, _ = bench.sessions.begin("demo")
    with pytest.raises(AccessDenied):
        await bench.tickets.take(cookie, anything)
    # With one key for both; the server derives two.
    assert isinstance(Seal(KEY).open(cookie, ScreenSession), ScreenSession)
    assert isinstance(Seal(KEY).open(ticket, Ticket), Ticket)


async def test_sessions_of_an_app_that_is_gone_and_forged_ones_open_nothing() -> None:
    bench = Bench()
    mine, _ = bench.sessions.begin("other")
    forged, _ = Bench(OTHER_KEY).sessions.begin("demo")
    bench.apps.known.remove("other")
    for cookie in (mine, forged, "", "x"):
        with pytest.raises(AccessDenied):
            await bench.sessions.of_cookie(cookie)
