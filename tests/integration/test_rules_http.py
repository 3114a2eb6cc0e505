"""`/v1/rules`, on a whole server."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
import pytest

from gateway.ports import StoredCategory
from gateway.stores.calls import CallRecords
from gateway.stores.sqlite import DiskFailed
from tests.client import Account, play
from tests.integration.hummed import DIALOGUE, client_of, eventually, humming, serving
from tests.integration.test_vendors import START


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[Account]:
    async with (
        serving(tmp_path / "data", apps="demo:secret,other:secret") as server,
        client_of(server) as one,
    ):
        yield one


async def ask(app: Account, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
    status, answer = await app.send(method, path, body, **headers)
    return status, msgspec.json.decode(answer)


async def test_a_category_is_put_listed_replaced_and_deleted(app: Account) -> None:
    contents = ["refund&&!solved", {"expression": "customer:lawyer", "first_s": 30.0}]
    body = {"contents": contents, "description": "what goes wrong"}
    assert await ask(app, "PUT", "/v1/rules/com%2Fplaints", body) == (200, {"version": 1})
    await app.quality.add_rule("demo", StoredCategory("Money back", "", ("money",)))
    _, listed = await ask(app, "GET", "/v1/rules")
    assert listed == {
        "version": 2,
        "categories": [
            {"category": "com/plaints", **body, "shadow": False},
            {"category": "Money back", "description": "", "contents": ["money"], "shadow": False},
        ],
    }
    # A category in shadow is one whose contents all are.
    await ask(app, "PUT", "/v1/rules/com%2Fplaints", {"contents": ["refund", contents[1]], "shadow": True})
    _, listed = await ask(app, "GET", "/v1/rules")
    assert listed["categories"][0]["shadow"] is True
    assert listed["categories"][0]["contents"] == [
        {"expression": "refund", "shadow": True},
        {"expression": "customer:lawyer", "first_s": 30.0, "shadow": True},
    ]
    total, _ = await app.quality.rules("demo", "com/plaints")
    assert total == 1
    assert await ask(app, "DELETE", "/v1/rules/com%2Fplaints") == (200, {"version": 4})
    status, refusal = await ask(app, "DELETE", "/v1/rules/com%2Fplaints")
    assert (status, refusal["code"]) == (404, "unknown_category")


async def test_a_rule_that_is_not_well_formed_is_refused_with_every_fault_and_its_caret(app: Account) -> None:
    contents = ["refund&&", "fine", {"expression": "a||b", "order": True}, 7]
    status, refusal = await ask(app, "PUT", "/v1/rules/c", {"contents": contents})
    assert (status, refusal["code"]) == (400, "bad_rule")
    assert [(one["category"], one["index"], one["position"]) for one in refusal["faults"]] == [
        ("c", 0, 8),
        ("c", 2, 0),
        ("c", 3, None),
    ]
    assert refusal["faults"][0]["expected"] == 'a keyword, "!" or "("'
    assert refusal["faults"][0]["caret"] == "refund&&\n        ^"
    assert (await ask(app, "GET", "/v1/rules"))[1] == {"version": 0, "categories": []}


@pytest.mark.parametrize(
    "body", [{}, {"contents": []}, {"contents": "refund"}, {"contents": ["a"], "colour": "red"}, {"category": "x"}]
)
async def test_what_is_no_category_is_refused(app: Account, body: dict[str, Any]) -> None:
    status, refusal = await ask(app, "PUT", "/v1/rules/c", body)
    assert (status, refusal["code"]) == (400, "bad_rule")


async def test_a_change_may_name_the_version_that_it_is_made_to(app: Account) -> None:
    assert (await ask(app, "PUT", "/v1/rules/c", {"contents": ["a"]}, **{"If-Match": '"0"'}))[0] == 200
    for method in ("PUT", "DELETE"):
        status, refusal = await ask(app, method, "/v1/rules/c", {"contents": ["b"]}, **{"If-Match": '"0"'})
        assert (status, refusal["code"]) == (412, "rules_moved")
    assert (await ask(app, "DELETE", "/v1/rules/c", **{"If-Match": '"1"'}))[0] == 200
    assert (await ask(app, "DELETE", "/v1/rules/c", **{"If-Match": "new"}))[0] == 400


async def test_the_rules_of_another_app_are_as_if_absent(tmp_path: Path) -> None:
    async with (
        serving(tmp_path / "data", apps="demo:secret,other:secret") as server,
        client_of(server) as app,
        client_of(server, "other") as other,
        client_of(server, "demo", "wrong") as stranger,
    ):
        await ask(app, "PUT", "/v1/rules/c", {"contents": ["a"]})
        assert (await ask(other, "GET", "/v1/rules"))[1] == {"version": 0, "categories": []}
        assert (await ask(other, "DELETE", "/v1/rules/c"))[0] == 404
        for method in ("GET", "POST"):
            path = "/v1/rules" if method == "GET" else "/v1/rules/try"
            assert (await ask(stranger, method, path, {} if method == "POST" else None))[0] == 401
        assert len((await ask(app, "GET", "/v1/rules"))[1]["categories"]) == 1


# --- dry run ---


async def tried(app: Account, body: dict[str, Any]) -> list[dict[str, Any]]:
    status, answer = await app.send("POST", "/v1/rules/try", body)
    assert status == 200, answer
    return [msgspec.json.decode(line) for line in answer.splitlines()]


async def test_a_rule_is_tried_on_stored_calls_beside_what_voice_qc_said_of_them(app: Account) -> None:
    await app.quality.add_rule("demo", StoredCategory("Money back", "", ("refund",)))
    with_refund = await play(app, START, DIALOGUE, speed=0)
    without = await play(app, START, humming((0, 400), (100, 1500), (0, 1000)), speed=0)
    called, totals = {}, {}
    for line in await tried(app, {"category": "Money back", "contents": ["refund&&help", {"expression": "help"}]}):
        if "totals" in line:
            totals = line
        else:
            called[line["call_id"]] = line
    assert totals["totals"] == {"texts": 0, "texts_fired": 0, "calls": 2, "fired": 2, "qc_hit": 1, "both": 1}
    assert totals["complete"] is True
    one, other = called[with_refund.call_id], called[without.call_id]
    assert [hit["rule"] for hit in one["hits"]] == ["refund&&help", "help"]
    assert one["qc"] == {"hit": True, "rules": ["refund"], "keywords": ["refund"]}
    assert [alert["status"] for alert in one["alerts"]] == ["confirmed"]
    assert ([hit["rule"] for hit in other["hits"]], other["qc"]) == (
        ["help"],
        {"hit": False, "rules": [], "keywords": []},
    )
    evidence = one["hits"][0]["evidence"]
    assert {word["keyword"]: word["text"] for word in evidence} == {
        "help": "How can I help you?",
        "refund": "I want a refund.",
    }
    assert all(word["segment_id"] and word["end_ms"] > word["begin_ms"] for word in evidence)
    # Nothing was put into force.
    assert len((await ask(app, "GET", "/v1/rules"))[1]["categories"]) == 1

    (named, unknown, _) = await tried(app, {"contents": ["refund"], "calls": [with_refund.call_id, "nobody"]})
    assert (named["fires"], unknown) == (True, {"call_id": "nobody", "error": "unknown_call"})
    (newest, end) = await tried(app, {"category": "Money back", "limit": 1})
    assert (newest["call_id"], newest["fires"], end["last_call_id"]) == (without.call_id, False, without.call_id)
    (older, _) = await tried(app, {"category": "Money back", "limit": 5, "before": end["last_call_id"]})
    assert (older["call_id"], older["fires"]) == (with_refund.call_id, True)
    (nothing,) = await tried(app, {"category": "Money back", "limit": 5, "since_ms": 2**52})
    assert nothing["totals"]["calls"] == 0


async def test_a_rule_is_tried_on_sentences_each_alone(app: Account) -> None:
    lines = await tried(app, {"contents": ["refund&&!solved"], "text": ["a refund", "a refund, solved", "solved"]})
    assert [line["fires"] for line in lines[:3]] == [True, False, False]
    assert lines[0]["hits"][0]["evidence"] == [
        {"text": "a refund", "begin": 2, "end": 8, "keyword": "refund", "match": "exact"}
    ]
    assert lines[3]["totals"]["texts_fired"] == 1


async def test_by_sound_as_live_calls_do_unless_asked_otherwise(app: Account) -> None:
    by_sound, by_letter = [
        (await tried(app, {"contents": ["代款"], "text": ["我要贷款"], **how}))[0]["fires"]
        for how in ({}, {"pinyin": False})
    ]
    assert (by_sound, by_letter) == (True, False)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "bad_rule"),
        ({"contents": ["("]}, 400, "bad_rule"),
        ({"contents": ["a"], "limit": 100_000}, 400, "bad_message"),
        ({"contents": ["a"], "colour": 1}, 400, "bad_message"),
        ({"category": "nothing of this name"}, 404, "unknown_category"),
    ],
)
async def test_a_trial_that_cannot_be_is_refused(app: Account, body: dict[str, Any], status: int, code: str) -> None:
    answered, refusal = await ask(app, "POST", "/v1/rules/try", body)
    assert (answered, refusal["code"]) == (status, code)


# --- track record ---


async def test_each_rule_has_a_track_record_against_voice_qc(app: Account) -> None:
    await app.quality.add_rule("demo", StoredCategory("Money back", "", ("refund", "help")))
    await ask(app, "PUT", "/v1/rules/Quiet", {"contents": ["refund"], "shadow": True})
    for _ in range(2):
        await play(app, START, DIALOGUE, speed=0)

    async def told() -> Any:
        _, record = await ask(app, "GET", "/v1/rules/record")
        return record["rules"] if sum(one["confirmed"] for one in record["rules"]) == 4 else None

    helped, refund, quiet = await eventually(told)
    assert (helped["rule"], refund["rule"], quiet["category"]) == ("help", "refund", "Quiet")
    for rule in (helped, refund):
        assert (rule["calls"], rule["alerts"], rule["confirmed"], rule["missed"]) == (2, 2, 2, 0)
        assert (rule["precision"], rule["recall"]) == (1.0, 1.0)
        assert None not in (rule["lead_p50_ms"], rule["hangup_lead_p50_ms"])
    assert (quiet["shadow"], quiet["alerts"], quiet["precision"], quiet["lead_p50_ms"]) == (2, 0, None, None)
    _, none = await ask(app, "GET", f"/v1/rules/record?since_ms={10**14}")
    assert none["rules"] == []
    assert (await ask(app, "GET", "/v1/rules/record?since_ms=yesterday"))[0] == 400


async def test_a_trial_that_ends_early_says_so_in_its_last_line(app: Account) -> None:
    await play(app, START, humming((0, 400), (100, 1500), (0, 1000)), speed=0)

    async def failing(*_: object, **__: object) -> None:
        raise DiskFailed(5, "disk I/O error")

    with patch.object(CallRecords, "page", failing):
        lines = await tried(app, {"contents": ["help"], "text": ["help"], "limit": 3})
    assert [lines[0]["fires"], lines[-1]["code"], lines[-1]["complete"]] == [True, "unavailable", False]


async def test_more_trials_than_two_at_a_time_are_told_to_come_again(app: Account) -> None:
    running, may_end = asyncio.Semaphore(0), asyncio.Event()

    async def waiting(*_: object, **__: object) -> list[object]:
        running.release()
        await may_end.wait()
        return []

    with patch.object(CallRecords, "page", waiting):
        async with asyncio.TaskGroup() as group:
            two = [group.create_task(tried(app, {"contents": ["a"]})) for _ in range(2)]
            for _ in two:
                await running.acquire()
            status, refusal = await ask(app, "POST", "/v1/rules/try", {"contents": ["a"]})
            may_end.set()
    assert (status, refusal["code"]) == (429, "busy")
    assert all(one.result()[-1]["complete"] for one in two)
