"""Tickets, the screen's session and origins, at a whole server: who gets in, once, and that nobody else does."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from gateway.app import EarshotServer
from gateway.doors.proving import COOKIE
from gateway.doors.screen_access import WRONG_AT_ONCE
from gateway.screen_sessions import LIFETIME_S
from protocol.codec import SUBPROTOCOL
from protocol.quality import RULE_PATH
from protocol.voiceprint import Code
from protocol.voiceprint import Path as VoicePath
from tests.integration.hummed import client_of, serving

APPS = "demo:secret,other:geheim"
SCREEN = {"X-Earshot-Screen": "1"}
Answer = tuple[int, dict[str, Any]]


class Browser:
    """A browser at the server's pages: keeps cookies, and knows no secret but those it is told."""

    def __init__(self, server: EarshotServer, session: aiohttp.ClientSession) -> None:
        self.server = server
        self.session = session

    async def ask(self, method: str, path: str, body: object = None, *, headers: Mapping[str, str] = SCREEN) -> Answer:
        data = None if body is None else msgspec.json.encode(body)
        typed = {"Content-Type": "application/json"} if data is not None else {}
        url = self.server.addresses.http + path
        async with self.session.request(method, url, data=data, headers={**typed, **headers}) as response:
            text = await response.read()
            return response.status, msgspec.json.decode(text) if text.startswith(b"{") else {}

    async def sign_in(self, app_id: str = "demo", secret: str = "secret") -> dict[str, Any]:
        status, told = await self.ask("POST", "/v1/session", {"app_id": app_id, "secret": secret})
        assert status == 200
        return told

    async def ticket(self, purpose: str, **wanted: object) -> str:
        status, told = await self.ask("POST", "/v1/tickets", {"purpose": purpose, **wanted})
        assert status == 201
        return str(told["ticket"])


@asynccontextmanager
async def browser_at(server: EarshotServer) -> AsyncIterator[Browser]:
    # Cookies of bare addresses are kept: the server is at 127.0.0.1.
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        yield Browser(server, session)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EarshotServer]:
    async with serving(tmp_path, apps=APPS) as one:
        yield one


@pytest.fixture
async def browser(server: EarshotServer) -> AsyncIterator[Browser]:
    async with browser_at(server) as one:
        yield one


@asynccontextmanager
async def socket(
    url: str, *, origin: str | None = None, subprotocol: str = SUBPROTOCOL
) -> AsyncIterator[ClientConnection]:
    async with connect(
        url,
        subprotocols=[Subprotocol(subprotocol)],
        compression=None,
        proxy=None,
        origin=origin,  # type: ignore[arg-type]
    ) as one:
        yield one


async def refusal(url: str, **options: Any) -> tuple[int, str]:
    with pytest.raises(InvalidStatus) as refused:
        async with socket(url, **options):
            pass
    response = refused.value.response
    return response.status_code, msgspec.json.decode(response.body or b"{}").get("code", "")


# --- sessions ----------------------------------------------------------------------------------------------------


async def test_a_browser_signs_in_with_a_secret_and_is_told_where_the_sockets_are(browser: Browser) -> None:
    assert (await browser.ask("GET", "/v1/session"))[0] == 401
    told = await browser.sign_in()
    port = browser.server.addresses.ws.rpartition(":")[2].partition("/")[0]
    assert told["app_id"] == "demo"
    assert told["watch_url"] == f"ws://127.0.0.1:{port}/v1/watch"
    assert told["call_url"] == f"ws://127.0.0.1:{port}/v1/calls"
    assert abs(told["expires_at_ms"] / 1000 - time.time() - LIFETIME_S) < 60
    assert await browser.ask("GET", "/v1/session") == (200, told)


async def test_the_cookie_is_out_of_the_page_s_reach(browser: Browser) -> None:
    async with browser.session.post(
        browser.server.addresses.http + "/v1/session", json={"app_id": "demo", "secret": "secret"}
    ) as response:
        [cookie] = response.headers.getall("Set-Cookie")
        assert response.headers["Cache-Control"] == "no-store"
    assert re.match(rf"{COOKIE}=[\w.-]+; HttpOnly; Max-Age={LIFETIME_S}; Path=/; SameSite=Strict$", cookie)


async def test_a_session_begins_with_a_screen_s_ticket_once(server: EarshotServer, browser: Browser) -> None:
    async with client_of(server) as account:
        _, body = await account.send("POST", "/v1/tickets", {"purpose": "screen"})
    ticket = msgspec.json.decode(body)["ticket"]
    status, told = await browser.ask("POST", "/v1/session", {"ticket": ticket})
    assert (status, told["app_id"]) == (200, "demo")
    async with browser_at(server) as thief:
        assert (await thief.ask("POST", "/v1/session", {"ticket": ticket}))[0] == 401


async def test_signing_out_ends_the_session_for_every_copy_of_its_cookie(browser: Browser) -> None:
    await browser.sign_in()
    [cookie] = [one.value for one in browser.session.cookie_jar if one.key == COOKIE]
    assert (await browser.ask("DELETE", "/v1/session"))[0] == 204
    assert not [one for one in browser.session.cookie_jar if one.key == COOKIE]
    stolen = {**SCREEN, "Cookie": f"{COOKIE}={cookie}"}
    assert (await browser.ask("GET", "/v1/session", headers=stolen))[0] == 401
    assert (await browser.ask("GET", "/v1/calls", headers=stolen))[0] == 401
    assert (await browser.ask("DELETE", "/v1/session"))[0] == 401


async def test_wrong_secrets_are_refused_and_soon_made_to_wait_but_nobody_else_is(browser: Browser) -> None:
    for _ in range(WRONG_AT_ONCE):
        status, told = await browser.ask("POST", "/v1/session", {"app_id": "demo", "secret": "wrong"})
        assert (status, told["code"]) == (401, "access_denied")
    for secret in ("wrong", "secret"):
        status, told = await browser.ask("POST", "/v1/session", {"app_id": "demo", "secret": secret})
        assert (status, told["code"]) == (429, "too_many_attempts")
    await browser.sign_in("other", "geheim")


@pytest.mark.parametrize(
    "body",
    [{}, {"app_id": "demo"}, {"ticket": "x.y"}, {"app_id": "nobody", "secret": "secret"}, {"ticket": "\ud800"[:0]}],
)
async def test_whoever_proves_nothing_gets_one_answer(browser: Browser, body: dict[str, str]) -> None:
    expected = await browser.ask("POST", "/v1/session", {"app_id": "demo", "secret": "wrong"})
    assert await browser.ask("POST", "/v1/session", body) == expected


async def test_only_json_signs_in(browser: Browser) -> None:
    url = browser.server.addresses.http + "/v1/session"
    for form in ({"data": {"app_id": "demo", "secret": "secret"}}, {"data": b'{"app_id":"demo","secret":"secret"}'}):
        async with browser.session.post(url, **form) as response:
            assert response.status == 415
    for broken in (b"{", b"[]", b'{"app_id":1}', b'{"more":""}'):
        async with browser.session.post(url, data=broken, headers={"Content-Type": "application/json"}) as response:
            assert response.status == 400


# --- the cookie on every route -----------------------------------------------------------------------------------


async def test_the_cookie_opens_every_api_to_the_screen(browser: Browser) -> None:
    await browser.sign_in()
    for method, path, body in (
        ("GET", "/v1/calls", None),
        ("GET", "/v1/rules", None),
        ("GET", "/v1/usage", None),
        ("POST", "/v1/tickets", {"purpose": "watch"}),
    ):
        status, told = await browser.ask(method, path, body)
        assert status in (200, 201), (path, told)
    org = "org_id=demo&tag_id=agents"
    for path, good in (
        (f"{VoicePath.COUNT.value}?{org}", ("code", Code.SUCCESS.value)),
        (f"{RULE_PATH}?", ("error_code", 0)),
    ):
        name, value = good
        assert (await browser.ask("GET", path))[1][name] == value, path
        # Some of the vendors' GETs delete: an image of another site must not be able to.
        assert (await browser.ask("GET", path, headers={}))[1][name] != value, path


async def test_without_the_header_the_cookie_opens_only_what_reading_ours_needs(browser: Browser) -> None:
    await browser.sign_in()
    assert (await browser.ask("GET", "/v1/calls", headers={}))[0] == 200
    for method, path in (("POST", "/v1/tickets"), ("DELETE", "/v1/session"), ("DELETE", "/v1/calls/nothing")):
        assert (await browser.ask(method, path, headers={}))[0] == 401, path


@pytest.mark.parametrize(
    ("site", "status"), [("same-origin", 200), ("none", 200), ("same-site", 401), ("cross-site", 401)]
)
async def test_a_page_of_another_site_cannot_use_the_cookie(browser: Browser, site: str, status: int) -> None:
    await browser.sign_in()
    assert (await browser.ask("GET", "/v1/calls", headers={**SCREEN, "Sec-Fetch-Site": site}))[0] == status


async def test_credentials_in_headers_win_over_the_cookie(browser: Browser) -> None:
    await browser.sign_in()
    wrong = {**SCREEN, "Authorization": "Basic ZGVtbzp3cm9uZw=="}
    assert (await browser.ask("GET", "/v1/calls", headers=wrong))[0] == 401


# --- tickets -----------------------------------------------------------------------------------------------------


async def test_tickets_of_every_purpose_open_what_they_are_for_once_and_nothing_else(browser: Browser) -> None:
    await browser.sign_in()
    ws = browser.server.addresses.ws
    for purpose, opens in (("call", True), ("screen", True), ("watch", False)):
        url = f"{ws}?ticket={await browser.ticket(purpose)}"
        if opens:
            async with socket(url) as one:
                await one.send('{"type":"start","rate":8000}')
                assert '"started"' in str(await one.recv())
        assert await refusal(url) == (401, "access_denied")


async def test_a_ticket_that_was_sent_away_for_its_origin_is_still_good(browser: Browser) -> None:
    await browser.sign_in()
    url = f"{browser.server.addresses.ws}?ticket={await browser.ticket('call')}"
    assert await refusal(url, origin="https://evil.example") == (403, "foreign_origin")
    assert await refusal(url, subprotocol="chat") == (400, "bad_subprotocol")
    async with socket(url, origin=browser.server.addresses.http):
        pass


async def test_a_ticket_for_one_call_resumes_that_call_and_starts_none(browser: Browser) -> None:
    await browser.sign_in()
    ws = browser.server.addresses.ws
    async with socket(f"{ws}?ticket={await browser.ticket('call')}") as one:
        await one.send('{"type":"start","rate":8000}')
        started = msgspec.json.decode(await one.recv())
    resume = {"type": "resume", "last_seq": 1, **{key: started[key] for key in ("call_id", "resume_token")}}
    for message, wanted in (
        ({"type": "start"}, "unexpected_message"),
        ({**resume, "call_id": "another"}, "unknown_call"),
        (resume, "resumed"),
    ):
        ticket = await browser.ticket("call", call_id=started["call_id"])
        async with socket(f"{ws}?ticket={ticket}") as one:
            await one.send(msgspec.json.encode(message), text=True)
            answer = msgspec.json.decode(await one.recv())
            assert wanted in (answer["type"], answer.get("code"))


async def test_tickets_prove_http_requests_as_far_as_they_go(server: EarshotServer, browser: Browser) -> None:
    await browser.sign_in()
    for purpose, more, path, status in (
        ("screen", {}, "/v1/usage", 200),
        ("screen", {}, "/v1/calls/nothing", 404),
        ("watch", {}, "/v1/calls", 200),
        ("watch", {}, "/v1/calls/nothing", 404),
        ("watch", {}, "/v1/usage", 401),
        ("watch", {"call_id": "c1"}, "/v1/calls/c1", 404),
        ("watch", {"call_id": "c1"}, "/v1/calls/c1/levels", 404),
        ("watch", {"call_id": "c1"}, "/v1/calls/c12", 401),
        ("watch", {"call_id": "c1"}, "/v1/calls", 401),
        ("watch", {"agent": "Anna"}, "/v1/calls", 401),
        ("call", {}, "/v1/calls", 401),
    ):
        ticket = await browser.ticket(purpose, **more)
        async with browser_at(server) as stranger:
            assert (await stranger.ask("GET", f"{path}?ticket={ticket}"))[0] == status, (purpose, more, path)
            assert (await stranger.ask("GET", f"{path}?ticket={ticket}"))[0] == (401 if status != 401 else status)
    ticket = await browser.ticket("watch", call_id="c1")
    async with browser_at(server) as stranger:
        assert (await stranger.ask("DELETE", f"/v1/calls/c1?ticket={ticket}"))[0] == 401


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"purpose": "everything"},
        {"purpose": "watch", "ttl_s": 601},
        {"purpose": "watch", "ttl_s": 0},
        {"purpose": "watch", "call_id": "c1", "agent": "Anna"},
        {"purpose": "call", "agent": "Anna"},
        {"purpose": "screen", "call_id": "c1"},
        {"purpose": "watch", "call_id": "no id"},
        {"purpose": "watch", "app_id": "other"},
    ],
)
async def test_a_ticket_that_makes_no_sense_is_not_given_out(browser: Browser, wanted: dict[str, Any]) -> None:
    await browser.sign_in()
    status, told = await browser.ask("POST", "/v1/tickets", wanted)
    assert (status, told["code"]) == (400, "bad_parameter")


async def test_a_spent_ticket_stays_spent_after_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path, apps=APPS) as server, browser_at(server) as browser:
        await browser.sign_in()
        spent, unspent = await browser.ticket("screen"), await browser.ticket("screen")
        assert (await browser.ask("GET", f"/v1/calls?ticket={spent}"))[0] == 200
    async with serving(tmp_path, apps=APPS) as server, browser_at(server) as browser:
        assert (await browser.ask("GET", f"/v1/calls?ticket={spent}"))[0] == 401
        assert (await browser.ask("GET", f"/v1/calls?ticket={unspent}"))[0] == 200


async def test_of_many_who_show_a_ticket_together_one_gets_in(browser: Browser) -> None:
    await browser.sign_in()
    ticket = await browser.ticket("screen")
    async with browser_at(browser.server) as crowd:
        answers = await asyncio.gather(*(crowd.ask("GET", f"/v1/calls?ticket={ticket}") for _ in range(20)))
    assert sorted(status for status, _ in answers) == [200, *[401] * 19]


# --- origins and addresses ---------------------------------------------------------------------------------------


async def test_pages_of_named_origins_and_of_our_own_open_sockets_and_no_others(tmp_path: Path) -> None:
    settings = {"apps": APPS, "origins": "https://crm.example.com", "public_url": "https://earshot.example.com"}
    async with serving(tmp_path, **settings) as server, browser_at(server) as browser:
        http_port = server.addresses.http.rpartition(":")[2]
        told = await browser.sign_in()
        for origin, welcome in (
            ("https://crm.example.com", True),
            ("https://earshot.example.com", True),
            (f"http://127.0.0.1:{http_port}", True),
            (f"http://localhost:{http_port}", True),
            ("https://crm.example.com.evil.example", False),
            ("http://crm.example.com", False),
            ("null", False),
        ):
            url = f"{told['call_url']}?ticket={await browser.ticket('call')}"
            if welcome:
                async with socket(url, origin=origin):
                    pass
            else:
                assert await refusal(url, origin=origin) == (403, "foreign_origin")


async def test_behind_a_proxy_the_page_is_told_the_public_address(tmp_path: Path) -> None:
    settings = {"apps": APPS, "public_url": "https://pub.example", "public_ws_url": "wss://pub.example/live/"}
    async with serving(tmp_path, **settings) as server, browser_at(server) as browser:
        told = await browser.sign_in()
        assert told["watch_url"] == "wss://pub.example/live/v1/watch"
        url = server.addresses.http + "/v1/session"
        body = {"app_id": "demo", "secret": "secret"}
        async with browser.session.post(url, json=body, headers={"Host": "pub.example"}) as response:
            assert "Secure" in response.headers["Set-Cookie"]
