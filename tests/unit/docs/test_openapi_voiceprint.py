"""The voiceprint service's OpenAPI document: up to date, valid, whole, and kept to by the server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis import APIOperation, Case
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from docs import generate
from gateway.voiceprint.api import VoiceprintRoutes
from gateway.voiceprint.quality_gate import Reason
from protocol import voiceprint_openapi as openapi
from protocol.voiceprint import Code
from protocol.voiceprint import Path as ApiPath
from protocol.voiceprint_operations import ALWAYS, OPERATIONS
from tests.voiceprint_calls import Client, get, post, routes_of, signed
from tests.voices import Desk, voice, wav

DOCUMENT = openapi.document()
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]


@pytest.fixture
async def http(tmp_path: Path) -> Any:
    desk = Desk(tmp_path)
    await desk.service.start()
    async with routes_of(desk) as client:
        yield client
    await desk.close()


def test_the_committed_document_is_what_the_tables_say() -> None:
    committed = (generate.HERE / "openapi-voiceprint.json").read_text("utf-8")
    assert committed == openapi.text(), "stale: run `python -m docs.generate`"


def test_the_tables_of_the_page_are_what_the_code_says() -> None:
    page = (generate.HERE / "voiceprint.md").read_text("utf-8")
    assert generate.filled(page, generate.VOICEPRINT_BLOCKS) == page, "stale: run `python -m docs.generate`"
    assert all(f"`{path}`" in page for path in ApiPath)
    assert all(f"`{name}` (" in page for name in ("sync_wait_s", "clock_skew_s"))


def test_the_document_is_valid_openapi() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()


async def test_the_server_serves_it_to_anybody(http: Client) -> None:
    async with http.get(openapi.PATH) as response:
        assert (response.status, response.content_type) == (200, "application/json")
        assert await response.json() == DOCUMENT


async def test_every_route_is_in_the_document_and_every_operation_has_a_route(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    served = VoiceprintRoutes(desk.service, desk.reader, desk.credentials, desk.links).routes()
    routes = {(route.method, route.path) for route in served}
    assert routes == {(method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item}
    assert {one.path for one in OPERATIONS} == set(ApiPath)
    await desk.close()


def test_every_code_and_reason_stands_in_the_document() -> None:
    assert set(DOCUMENT["x-codes"]) == {code.value for code in Code}
    assert set(ALWAYS) | {code for one in OPERATIONS for code in one.codes} == set(Code)
    reasons = DOCUMENT["components"]["schemas"]["Refusal"]["properties"]["reason"]["enum"]
    assert set(reasons) == {reason.value for reason in Reason}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.path.value)
async def test_what_is_required_is_asked_for_and_what_is_not_is_not(http: Client, operation: Any) -> None:
    """Each field that the table calls required is missed by name; without all the others the request is understood."""
    whole = {"org_id": "org", "tag_id": "tag", "spk_name": "a"}
    required = {field.name for field in operation.fields if field.required}

    async def ask(fields: dict[str, str], audio: bytes | None) -> Any:
        if operation.method == "GET":
            return await get(http, operation.path, **fields)
        return await post(http, operation.path, audio, **{name: fields.get(name, "") for name in whole})

    audio = wav(voice(1))
    for missing in required:
        fields = {name: text for name, text in whole.items() if name in required and name != missing}
        answer = await ask(fields, None if missing == "audio" else audio)
        assert (answer["code"], missing in answer["msg"]) == ("10106", True), (missing, answer)
    answer = await ask({name: text for name, text in whole.items() if name in required}, audio)
    assert answer["code"] in ("0", "10107"), answer


# --- what schemathesis makes of the document, against a server on loopback ---


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server in a thread of its own: schemathesis calls it without a loop."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def begin() -> tuple[Desk, TestServer]:
        desk = Desk(tmp_path_factory.mktemp("desk"))
        await desk.service.start()
        app = web.Application()
        app.add_routes(VoiceprintRoutes(desk.service, desk.reader, desk.credentials, desk.links).routes())
        server = TestServer(app)
        await server.start_server()
        return desk, server

    async def end(desk: Desk, server: TestServer) -> None:
        await server.close()
        await desk.close()

    parts = asyncio.run_coroutine_threadsafe(begin(), loop).result()
    yield str(parts[1].make_url("")).rstrip("/")
    asyncio.run_coroutine_threadsafe(end(*parts), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def operations() -> list[APIOperation[Any, Any, Any, Any]]:
    return [found.ok() for found in SCHEMA.get_all_operations() if isinstance(found, Ok)]


@pytest.mark.parametrize("operation", operations(), ids=lambda one: one.path)
def test_whatever_is_asked_the_answer_is_as_the_document_says(
    url: str, operation: APIOperation[Any, Any, Any, Any]
) -> None:
    audio = wav(voice(1, seconds=0.3))

    @settings(
        max_examples=15,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(), credible=st.integers(0, 9), audible=st.booleans())
    def check(case: Case[Any], credible: int, audible: bool) -> None:
        if audible and isinstance(case.body, dict) and case.media_type == "multipart/form-data":
            case.body["audio"] = audio  # type: ignore[assignment]
        for name in ("appid", "ts", "signa"):
            case.query.pop(name, None)
        response = case.call(base_url=url, headers=signed() if credible else {})
        case.validate_response(response, checks=CHECKS)

    check()


def test_the_check_sees_an_answer_that_the_document_does_not_know(url: str) -> None:
    """With a document that forgets a code, the same check fails: it does look."""
    poorer = openapi.document()
    answers = poorer["paths"]["/voiceid/count"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    answers["oneOf"][1]["properties"]["code"]["enum"].remove(Code.ILLEGAL_ACCESS.value)
    operation = schemathesis.openapi.from_dict(poorer)["/voiceid/count"]["GET"]
    case = operation.Case(query={"org_id": "org"})
    with pytest.raises(FailureGroup):
        case.validate_response(case.call(base_url=url), checks=CHECKS)
