"""Rows 13 to 16: who may come in, and how many."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import aiohttp
import pytest

from gateway.keys import server_key, subkey
from gateway.seal import Seal
from gateway.tickets import issue
from protocol.codec import SUBPROTOCOL
from protocol.errors import CODES
from protocol.voiceprint import sign
from tests.faults.ledger import Ledger
from tests.faults.raw import OFFER, Answer, Headers, signed, started_call, upgrade
from tests.faults.servers import APP_ID, SECRET, Serve
from tests.faults.witness import unharmed_call

# --- row 13 ------------------------------------------------------------------------------------------------------


async def check_origins(serve: Serve, mutant: str = "") -> int:
    server = serve(mutant=mutant)
    host = urlsplit(server.ws).netloc
    foreign = (
        "http://evil.example",
        "null",
        "",
        f"http://{host}.evil.example",
        f"http://evil.example/{host}",
        f"http://{host}@evil.example",
        f"http://evil.example@{host}",
        f"http://{host}0",
        f"http://{host}, http://evil.example",
        "http://127.0.0.1",
        "http://[::1",
        "file://",
    )
    for origin in foreign:
        async with await upgrade(server.ws, (*signed(), *OFFER, ("Origin", origin))) as wire:
            assert wire.answer.status == 403, f"{origin!r}: {wire.answer}"
            assert b'"foreign_origin"' in wire.answer.body
    async with await upgrade(
        server.ws, (*signed(), *OFFER, ("Origin", "http://a"), ("Origin", f"http://{host}"))
    ) as two:
        assert two.answer.status == 400
    for good in ((), (("Origin", f"http://{host}"),)):
        async with await upgrade(server.ws, (*signed(), *OFFER, *good)) as wire:
            assert wire.answer.status == 101, "no browser sends none, and our own pages are welcome"
            await wire.start()
    return len(foreign) + 1


@pytest.mark.row(13)
async def test_pages_of_other_origins_open_no_call(serve: Serve, ledger: Ledger) -> None:
    ledger.add(row=13, fault="Origin: foreign, null, ours with something added", tried=await check_origins(serve))


@pytest.mark.full
@pytest.mark.row(13)
async def test_the_check_sees_a_server_that_ignores_origins(serve: Serve) -> None:
    with pytest.raises(AssertionError, match=r"http://evil\.example"):
        await check_origins(serve, "no_origin_check")


# --- row 14 ------------------------------------------------------------------------------------------------------


async def check_subprotocols(serve: Serve, mutant: str = "") -> int:
    server = serve(mutant=mutant)
    name = "Sec-WebSocket-Protocol"
    odd: tuple[Headers, ...] = (
        (),
        ((name, "chat"),),
        ((name, SUBPROTOCOL.upper()),),
        ((name, f'"{SUBPROTOCOL}"'),),
        ((name, f"{SUBPROTOCOL}.1"),),
        ((name, ""),),
        ((name, ",,,"),),
        ((name, f"{SUBPROTOCOL};q=1"),),
        ((name, ", ".join(f"chat{number}" for number in range(500))),),
    )
    for offered in odd:
        async with await upgrade(server.ws, (*signed(), *offered)) as wire:
            assert wire.answer.status == 400, f"{offered}: {wire.answer}"
    several: tuple[Headers, ...] = (
        ((name, f"chat, {SUBPROTOCOL}, chat2"),),
        ((name, "chat"), (name, SUBPROTOCOL)),
    )
    for offered in several:
        async with await upgrade(server.ws, (*signed(), *offered)) as wire:
            assert wire.answer.status == 101, f"{offered}: {wire.answer}"
            assert wire.answer.headers["sec-websocket-protocol"] == SUBPROTOCOL
            await wire.start()
    assert "Traceback" not in server.log
    return len(odd) + len(several)


@pytest.mark.row(14)
async def test_only_a_client_that_offers_our_subprotocol_gets_a_socket(serve: Serve, ledger: Ledger) -> None:
    ledger.add(row=14, fault="no, other, misspelt and many subprotocols", tried=await check_subprotocols(serve))


@pytest.mark.row(14)
async def test_the_check_sees_a_server_that_takes_any_subprotocol(serve: Serve) -> None:
    with pytest.raises(AssertionError, match=r"\(\)"):
        await check_subprotocols(serve, "any_subprotocol")


# --- row 15 ------------------------------------------------------------------------------------------------------

SECRETS = {APP_ID: "canary-4f1d", "other": "canary-77aa"}
"""Nothing that starts with `canary` may come into a log, nor what was made from it."""


def credentials(app_id: str, ts: object, signa: str) -> Iterator[tuple[str, Headers]]:
    """The same credentials in each place where they may stand: the query to add, and the headers."""
    yield "", (("X-App-Key", app_id), ("X-Timestamp", str(ts)), ("X-App-Signature", signa))
    yield "?" + urlencode({"appid": app_id, "ts": ts, "signa": signa}), ()


def basic(text: str) -> tuple[str, Headers]:
    return "", (("Authorization", f"Basic {base64.b64encode(text.encode()).decode()}"),)


def all_that_are_wrong() -> Iterator[tuple[str, Headers]]:
    now = int(time.time())
    good = sign(APP_ID, str(now), SECRETS[APP_ID])
    yield "", ()
    for app_id, ts, signa in (
        (APP_ID, now, sign(APP_ID, str(now), "canary-wrong")),
        (APP_ID, now, good[:-2] + ("A" if good[-2] != "A" else "B") + "="),
        (APP_ID, now, good.lower()),
        (APP_ID, now, ""),
        (APP_ID, "", good),
        (APP_ID, "soon", good),
        (APP_ID, now - 1, good),  # used again with another time
        ("other", now, good),  # used again by another app
        ("nobody", now, sign("nobody", str(now), "canary-wrong")),
        (APP_ID, now - 310, sign(APP_ID, str(now - 310), SECRETS[APP_ID])),
        (APP_ID, now + 310, sign(APP_ID, str(now + 310), SECRETS[APP_ID])),
    ):
        yield from credentials(app_id, ts, signa)
    yield basic(f"{APP_ID}:canary-wrong")
    yield basic(f"{APP_ID}:{SECRETS['other']}")
    yield basic("nobody:canary-wrong")
    yield basic("canary-alone")
    yield basic("")
    yield "", (("Authorization", "Basic canary-%%%"),)
    yield "", (("Authorization", "Bearer canary-bearer"),)
    yield "?ticket=canary-ticket", ()


def all_that_are_right() -> Iterator[tuple[str, Headers]]:
    now = int(time.time())
    yield from credentials(APP_ID, now, sign(APP_ID, str(now), SECRETS[APP_ID]))
    yield basic(f"{APP_ID}:{SECRETS[APP_ID]}")


async def check_credentials(serve: Serve, mutant: str = "") -> int:
    apps = ",".join(f"{app_id}:{secret}" for app_id, secret in SECRETS.items())
    server = serve(mutant=mutant, environment={"EARSHOT_APPS": apps, "EARSHOT_LOG_LEVEL": "debug"})
    wrong, right = list(all_that_are_wrong()), list(all_that_are_right())
    socket_answers: set[tuple[object, ...]] = set()
    http_answers: set[tuple[object, ...]] = set()
    async with aiohttp.ClientSession() as http:
        for query, headers in (*wrong, *right):
            async with await upgrade(server.ws, (*headers, *OFFER), target="/v1/calls" + query) as wire:
                if (query, headers) in right:
                    assert wire.answer.status == 101
                    await wire.start()
                else:
                    socket_answers.add(without_date(wire.answer))
            # The query is encoded already, which aiohttp must not do again.
            async with http.get(f"{server.http}/v1/calls{quote(query, safe='?&=%')}", headers=dict(headers)) as answer:
                if (query, headers) in right:
                    assert answer.status == 200
                else:
                    seen = {name.lower(): value for name, value in answer.headers.items()}
                    http_answers.add(without_date(Answer(answer.status, seen, await answer.read())))
    assert len(socket_answers) == len(http_answers) == 1, "an answer tells what was wrong"
    assert {answer[0] for answer in socket_answers | http_answers} == {401}
    server.stop()
    for secret in secrets_in(*wrong, *right):
        assert secret not in server.log, f"{secret} is in the log"
    return 2 * len(wrong)


def without_date(answer: Answer) -> tuple[object, ...]:
    kept = sorted((name, value) for name, value in answer.headers.items() if name != "date")
    return answer.status, tuple(kept), answer.body


def secrets_in(*given: tuple[str, Headers]) -> Iterator[str]:
    yield "canary"
    for query, headers in given:
        yield from (value for name, value in headers if name == "X-App-Signature" and value)
        yield from (value.split()[1] for name, value in headers if name == "Authorization" and " " in value.strip())
        yield from parse_qs(query[1:]).get("signa", ())


@pytest.mark.row(15)
async def test_all_bad_credentials_get_one_answer_and_none_are_logged(serve: Serve, ledger: Ledger) -> None:
    tried = await check_credentials(serve)
    ledger.add(row=15, fault="credentials in each place: bad, expired, used again", tried=tried)


@pytest.mark.full
@pytest.mark.row(15)
@pytest.mark.parametrize(
    ("mutant", "sees"), [("credentials_logged", "is in the log"), ("refusals_explained", "tells what was wrong")]
)
async def test_the_check_sees_a_server_that_talks_about_credentials(serve: Serve, mutant: str, sees: str) -> None:
    with pytest.raises(AssertionError, match=sees):
        await check_credentials(serve, mutant)


async def check_tickets(serve: Serve, mutant: str = "") -> int:
    """A ticket that is changed, expired, of another server, for something else or used before, and the cookie."""
    server = serve(mutant=mutant, environment={"EARSHOT_LOG_LEVEL": "debug"})
    seal = Seal(subkey(server_key(server.data), "tickets"))
    used, _ = issue(seal, time.time(), APP_ID, "screen")
    async with await upgrade(server.ws, OFFER, target=f"/v1/calls?ticket={used}") as wire:
        assert wire.answer.status == 101
    whole, _ = issue(seal, time.time(), APP_ID, "screen")
    spoilt = [whole[:at] + ("A" if whole[at] != "A" else "B") + whole[at + 1 :] for at in range(0, len(whole), 7)]
    bad = [
        "",
        used,
        *spoilt,
        whole[:-1],
        whole + "A",
        issue(seal, time.time() - 61, APP_ID, "screen")[0],
        issue(seal, time.time(), "nobody", "screen")[0],
        issue(seal, time.time(), APP_ID, "watch", call_id="c1")[0],
        issue(Seal(bytes(32)), time.time(), APP_ID, "screen")[0],
    ]
    socket_answers: set[tuple[object, ...]] = set()
    http_answers: set[tuple[object, ...]] = set()
    async with aiohttp.ClientSession() as http:
        for ticket in bad:
            async with await upgrade(server.ws, OFFER, target=f"/v1/calls?ticket={ticket}") as wire:
                socket_answers.add(without_date(wire.answer))
            for headers in ({}, {"Cookie": f"earshot_session={ticket}"}):
                query = "" if headers else f"?ticket={ticket}"
                async with http.get(f"{server.http}/v1/calls{query}", headers=headers) as answer:
                    seen = {name.lower(): value for name, value in answer.headers.items()}
                    http_answers.add(without_date(Answer(answer.status, seen, await answer.read())))
        assert len(socket_answers) == len(http_answers) == 1, "an answer tells what was wrong"
        assert {answer[0] for answer in socket_answers | http_answers} == {401}
        async with http.get(f"{server.http}/v1/calls?ticket={whole}") as answer:
            assert answer.status == 200, "what was tried in its likeness has not spent it"
        async with http.post(f"{server.http}/v1/session", json={"app_id": APP_ID, "secret": SECRET}) as answer:
            cookie = answer.cookies["earshot_session"].value
    server.stop()
    printed = [line for line in server.log.splitlines() if "/screen/#ticket=" not in line]
    for secret in (*(one for one in bad if len(one) > 20), whole, cookie):
        assert not any(secret in line for line in printed), f"{secret} is in the log"
    return 3 * len(bad)


@pytest.mark.row(35)
async def test_a_ticket_is_good_once_and_unchanged_and_stands_in_no_log(serve: Serve, ledger: Ledger) -> None:
    tried = await check_tickets(serve)
    ledger.add(row=35, fault="a ticket changed, expired, used again, of another server", tried=tried)


@pytest.mark.full
@pytest.mark.row(35)
@pytest.mark.parametrize(
    ("mutant", "sees"), [("tickets_never_spent", "tells what was wrong"), ("tickets_logged", "is in the log")]
)
async def test_the_check_sees_a_server_that_is_careless_with_tickets(serve: Serve, mutant: str, sees: str) -> None:
    with pytest.raises(AssertionError, match=sees):
        await check_tickets(serve, mutant)


# --- row 16 ------------------------------------------------------------------------------------------------------


async def check_one_call_too_many(
    serve: Serve, mutant: str = "", *, setting: str = "EARSHOT_MAX_CALLS", code: str = "overloaded"
) -> int:
    server = serve(mutant=mutant, environment={setting: "3"})
    rounds = 5
    async with unharmed_call(server), started_call(server.ws) as third:
        for _ in range(rounds):
            async with started_call(server.ws) as last:
                async with await upgrade(server.ws) as refused:
                    await refused.tell(type="start")
                    assert await refused.ends() == CODES[code].close, "one call too many was not refused"
                    [error] = refused.texts
                    assert (error["code"], error["retryable"]) == (code, True)
                    assert error["retry_after_ms"]
                await last.tell(type="hangup", wait_qc_ms=0)
                await last.until("ended")
                # The next round begins at once: who has read `ended` finds the slot free.
        await third.tell(type="ping", id="still here")
        await third.until("pong", id="still here")
    return rounds


@pytest.mark.row(16)
async def test_one_call_too_many_is_refused_and_a_slot_is_free_with_its_calls_end(serve: Serve, ledger: Ledger) -> None:
    ledger.add(row=16, fault="one call more than max_calls", tried=await check_one_call_too_many(serve))


@pytest.mark.row(16)
async def test_an_app_has_its_own_limit_of_calls(serve: Serve, ledger: Ledger) -> None:
    tried = await check_one_call_too_many(serve, setting="EARSHOT_MAX_CALLS_PER_APP", code="too_many_calls")
    ledger.add(row=16, fault="one call more than max_calls_per_app (10800)", tried=tried)


@pytest.mark.full
@pytest.mark.row(16)
@pytest.mark.parametrize(
    ("mutant", "sees"), [("no_call_limit", "was not refused"), ("slots_kept", "closed 1013 before started")]
)
async def test_the_check_sees_a_server_that_cannot_count_its_calls(serve: Serve, mutant: str, sees: str) -> None:
    with pytest.raises(AssertionError, match=sees):
        await check_one_call_too_many(serve, mutant)
