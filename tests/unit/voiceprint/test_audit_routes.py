from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gateway.ports import Unavailable, VoiceprintAudit
from gateway.stores.voiceprints import SqliteVoiceprints
from gateway.voiceprint.audit_routes import AuditRoutes
from gateway.voiceprint.service import VoiceprintService
from protocol.voiceprint import Deletion, Enrolment, NamedVoice
from tests.voices import Desk, PitchConfirmer, clip, voice


@pytest.fixture
def audited(desk: Desk) -> Desk:
    desk.store = SqliteVoiceprints(desk.database, name_key=b"key")
    desk.service = VoiceprintService(store=desk.store, embedder=desk.embedder, speech=PitchConfirmer())
    return desk


async def ask(desk: Desk, *, app: str = "acme", **query: str) -> tuple[int, Any]:
    def caller(request: web.Request) -> str:
        if request.headers.get("X-Test-App") is None:
            raise web.HTTPUnauthorized
        return request.headers["X-Test-App"]

    application = web.Application()
    application.add_routes(AuditRoutes(desk.store, caller).routes())
    async with TestClient(TestServer(application)) as client:
        headers = {"X-Test-App": app} if app else {}
        async with client.get("/v1/voices/audit", params=query, headers=headers) as response:
            return response.status, await response.json() if response.content_type == "application/json" else None


async def enrolled_and_deleted(desk: Desk) -> list[str]:
    """The print ids of two voices, the second of which was deleted."""
    ids = []
    for name, speaker in (("张明", 1), ("bob", 2)):
        named = NamedVoice("acme", "org", "tag", name)
        await desk.service.register(Enrolment(named, denoise=False), [clip(voice(speaker))], actor="192.0.2.1")
        ids.append((await desk.service.find(named)).print_id)
    await desk.service.delete(Deletion("acme", "org", "tag", ("bob",)), actor="192.0.2.2")
    return ids


async def test_the_audit_tells_who_did_what_and_no_names(audited: Desk) -> None:
    first, second = await enrolled_and_deleted(audited)
    status, answer = await ask(audited)
    assert status == 200
    told = [(one["operation"], one["actor"], one["count"], one["voices"][0]["print_id"]) for one in answer["audit"]]
    assert told == [
        ("delete", "192.0.2.2", 1, second),
        ("enrol", "192.0.2.1", 1, second),
        ("enrol", "192.0.2.1", 1, first),
    ]
    assert "bob" not in str(answer)
    assert "张明" not in str(answer)
    assert answer["audit"][0]["at"].endswith("Z")
    assert (answer["audit"][0]["org_id"], answer["audit"][0]["tag_id"]) == ("org", "tag")


async def test_the_audit_answers_what_became_of_a_name(audited: Desk) -> None:
    await enrolled_and_deleted(audited)
    for name, operations in (("bob", ["delete", "enrol"]), ("张明", ["enrol"]), ("nobody", [])):
        _, answer = await ask(audited, name=name)
        assert [one["operation"] for one in answer["audit"]] == operations


async def test_the_audit_is_the_apps_own(audited: Desk) -> None:
    await enrolled_and_deleted(audited)
    assert await ask(audited, app="rival") == (200, {"audit": []})
    assert await ask(audited, app="rival", name="bob") == (200, {"audit": []})
    assert (await ask(audited, app=""))[0] == 401


async def test_the_audit_can_be_cut_by_time_and_number(audited: Desk) -> None:
    await enrolled_and_deleted(audited)
    assert len((await ask(audited, limit="2"))[1]["audit"]) == 2
    assert (await ask(audited, to="2001-01-01T00:00:00Z"))[1] == {"audit": []}
    assert len((await ask(audited, **{"from": "2001-01-01"}))[1]["audit"]) == 3
    latest = (await ask(audited, limit="1"))[1]["audit"][0]["at"]
    assert (await ask(audited, **{"from": latest}))[1]["audit"][0]["operation"] == "delete"
    assert (await ask(audited, **{"from": "9" * 5000}))[1] == {"audit": []}


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "1001"},
        {"limit": "x"},
        {"limit": "9" * 5000},
        {"from": "yesterday"},
        {"to": "2001-13-01"},
    ],
)
async def test_what_is_no_time_or_number_is_refused(audited: Desk, query: dict[str, str]) -> None:
    status, answer = await ask(audited, **query)
    assert (status, answer["code"]) == (400, "bad_parameter")


async def test_a_store_that_is_away_is_said_to_be(audited: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: object, **__: object) -> list[VoiceprintAudit]:
        raise Unavailable("Redis cannot be reached")

    monkeypatch.setattr(audited.store, "audits", away)
    status, answer = await ask(audited)
    assert (status, answer["code"]) == (503, "unavailable")
