"""The address at which a vendor delivers a verdict: whose word counts, and how often."""

import io
from collections.abc import AsyncIterator
from typing import Any, Literal

import msgspec
import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from gateway.doors.quality_callback import CallbackAddresses, QualityCallbacks, answer_in
from gateway.ports import QualityAnswer

KEY = b"k" * 32
RESULT = {"session_id": "call-1", "state": 2, "state_desc": "处理成功", "asr_text": "hello"}


class Box:
    """Follows the dispatcher: the first end of a known task counts."""

    def __init__(self) -> None:
        self.known = {("app", "call-1")}
        self.applied: list[QualityAnswer] = []

    async def deliver(
        self, app_id: str, session_id: str, answer: QualityAnswer
    ) -> Literal["applied", "ignored", "unknown"]:
        if (app_id, session_id) not in self.known:
            return "unknown"
        if self.applied or not answer.done:
            return "ignored"
        self.applied.append(answer)
        return "applied"


@pytest.fixture
async def door() -> AsyncIterator[tuple[Box, CallbackAddresses, ClientSession]]:
    box = Box()
    application = web.Application()
    server = TestServer(application, host="127.0.0.1")
    addresses = CallbackAddresses(KEY, "http://gateway.example/base/")
    application.add_routes(QualityCallbacks(addresses, box.deliver).routes())
    async with server, ClientSession(server.make_url("/")) as http:
        yield box, addresses, http


def path(addresses: CallbackAddresses, app_id: str = "app", session_id: str = "call-1") -> str:
    return addresses.url(app_id, session_id).removeprefix("http://gateway.example/base")


async def post(http: ClientSession, where: str, body: Any) -> tuple[int, bytes]:
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    async with http.post(where, data=io.BytesIO(data)) as response:
        return response.status, await response.read()


@pytest.mark.parametrize("body", [RESULT, {"error_code": 0, "error_message": "请求成功", "result": RESULT}])
async def test_a_verdict_counts_once_however_often_it_comes(
    door: tuple[Box, CallbackAddresses, ClientSession], body: Any
) -> None:
    box, addresses, http = door
    answers = [await post(http, path(addresses), body) for _ in range(3)]
    assert [status for status, _ in answers] == [200, 200, 200]
    assert [(one.state, one.result) for one in box.applied] == [(2, RESULT)]


async def test_a_wrong_token_is_answered_like_a_path_that_is_not_there(
    door: tuple[Box, CallbackAddresses, ClientSession],
) -> None:
    box, addresses, http = door
    absent = await post(http, "/v1/qc/nothing", RESULT)
    token = path(addresses).removeprefix("/v1/qc/callback/")
    claims, _, signature = token.partition(".")
    foreign = CallbackAddresses(b"x" * 32, "http://gateway.example/base/")
    forged = ["x", f"{claims}.", f".{signature}", claims, f"{claims}.{signature}x", path(foreign).rpartition("/")[2]]
    forged += [path(addresses, "app", "unknown").rpartition("/")[2], path(addresses, "other").rpartition("/")[2]]
    for one in forged:
        assert await post(http, f"/v1/qc/callback/{one}", {"state": 2}) == absent == (404, b"404: Not Found")
    assert box.applied == []


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_token_wrong_at_any_byte_is_nobodys(position: int, change: int) -> None:
    addresses = CallbackAddresses(KEY, "http://gateway.example")
    token = addresses.url("app", "call-1").rpartition("/")[2]
    at = position % len(token)
    changed = token[:at] + chr(ord(token[at]) ^ change) + token[at + 1 :]
    # base64 has spare bits at its ends, and a decoder that overlooks strange characters; what they say must be the same
    assert addresses.owner(changed) in (None, ("app", "call-1"))
    assert addresses.owner(token) == ("app", "call-1")


@given(st.text(), st.text())
def test_every_name_comes_back_from_its_token(app_id: str, session_id: str) -> None:
    addresses = CallbackAddresses(KEY, "http://gateway.example")
    token = addresses.url(app_id, session_id).rpartition("/")[2]
    assert addresses.owner(token) == (app_id, session_id)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"[" * 100_000,
        {"result": None},
        {"state": "2"},
        {"state": True},
        {**RESULT, "session_id": "another"},
    ],
)
async def test_a_body_that_is_no_verdict_on_this_task_is_refused(
    door: tuple[Box, CallbackAddresses, ClientSession], body: Any
) -> None:
    box, addresses, http = door
    status, told = await post(http, path(addresses), body)
    assert status == 400
    assert msgspec.json.decode(told)["error_code"] == 1
    assert box.applied == []


async def test_a_verdict_larger_than_an_ordinary_request_is_taken(
    door: tuple[Box, CallbackAddresses, ClientSession],
) -> None:
    box, addresses, http = door
    status, _ = await post(http, path(addresses), {**RESULT, "asr_text": "a" * 3_000_000})
    assert status == 200
    assert len(box.applied) == 1


def test_a_known_text_counts_for_more_than_the_number_beside_it() -> None:
    shown = msgspec.json.encode({"state": 0, "state_desc": "处理成功"})
    assert answer_in(shown, "call-1").state == 2
