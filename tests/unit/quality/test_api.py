"""The API over HTTP: exact answers, every error, and a client as third parties write them."""

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.ports import NO_HEADERS, FetchedFile, Rejected
from protocol.quality import CREATE_PATH, RESULT_PATH, RULE_PATH, TOKEN_PATH
from tests.quality_world import (
    APP,
    OTHER_APP,
    OTHER_SECRET,
    SECRET,
    TWO_PARTIES,
    QualityWorld,
    encoded,
    hummed,
    recording,
    wav,
)

RULE = {
    "category": "类别1",
    "description": "类别1的描述",
    "contents": ["贷款", "会议||例会", "(会议||例会) && (缺货||退款)"],
}
DONE = {"error_code": 0, "error_message": "请求成功"}


class Caller:
    """Asks with the token in the JSON body, as the document has it."""

    def __init__(self, http: aiohttp.ClientSession, base_url: str, token: str) -> None:
        self.http, self.base_url, self.token = http, base_url, token

    async def ask(self, method: str, path: str, **fields: Any) -> dict[str, Any]:
        return await self.raw(method, path, json={"access_token": self.token} | fields)

    async def raw(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        async with self.http.request(method, self.base_url + path, **options) as response:
            assert response.status == 200
            assert response.headers["Content-Type"] == "application/json; charset=utf-8"
            answer: dict[str, Any] = await response.json()
            return answer

    async def create(self, data: bytes = TWO_PARTIES, session_id: str = "s", **fields: Any) -> dict[str, Any]:
        body = {"session_id": session_id, "pid": 80006, "speech_data": encoded(data), "access_token": self.token}
        return await self.raw("POST", CREATE_PATH, data=io.BytesIO(json.dumps(body | fields).encode()))


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def base_url(world: QualityWorld) -> AsyncIterator[str]:
    async with world.serving() as url:
        yield url


@pytest.fixture
def caller(world: QualityWorld, http: aiohttp.ClientSession, base_url: str) -> Caller:
    return Caller(http, base_url, world.tokens.mint(APP, SECRET))


async def test_the_answers_to_creation_and_query_have_the_documents_shape(caller: Caller, world: QualityWorld) -> None:
    assert await caller.ask("POST", RULE_PATH, category="退款", description="", contents=["缺货&&退款"]) == DONE
    created = await caller.create(
        enable_detection=True, enable_detection_detail=True, is_split_channel=True, role_num=2, sample_rate=8000
    )
    assert created == DONE | {"result": {"session_id": "s"}}
    await world.worker.work_until_idle()
    answer = await caller.ask("GET", RESULT_PATH, session_id="s")
    result = answer.pop("result")
    assert answer == DONE
    asr_result = result.pop("asr_result")
    hit = {"content": "缺货&&退款", "hit": True, "keyword": ["退款", "缺货"]}
    category = {"category": "退款", "keyword": ["退款", "缺货"], "detail": [hit]}
    assert result == {
        "push_status_desc": "未设置回调",
        "session_id": "s",
        "state": 2,
        "state_desc": "处理成功",
        "asr_text": "你好，这里是客服。 我要退款，现在缺货。",
        "call_duration": 6,
        "silence_duration": 2,
        "pass_detection": "failed",
        "detection_result": [category],
        "detection_detail": {
            "hit": True,
            "keyword": ["退款", "缺货"],
            "detail": [
                {"text": "你好，这里是客服。", "hit": False, "detail": []},
                {"text": "我要退款，现在缺货。", "hit": True, "detail": [category | {"hit": True}]},
            ],
        },
        "rules_version": 1,
    }
    assert [one["sentence"] for one in asr_result] == ["你好，这里是客服。", "我要退款，现在缺货。"]
    whole = {"speaker_id", "begin_time", "end_time", "voice_speed", "voice_power", "begin_ms", "end_ms"}
    for one in asr_result:
        assert set(one) == whole | {"sentence"}
        assert all(type(one[name]) is int for name in whole)


async def test_a_client_as_third_parties_write_it_completes_a_task(
    world: QualityWorld, http: aiohttp.ClientSession, base_url: str
) -> None:
    """Token by GET; token in the query string; headerless PCM; polls until the text of success."""
    query = {"grant_type": "client_credentials", "client_id": APP, "client_secret": SECRET}
    async with http.get(base_url + TOKEN_PATH, params=query) as response:
        granted = await response.json()
    assert granted["expires_in"] == 2592000
    token = {"access_token": granted["access_token"]}
    body = {
        "session_id": "test20240220",
        "speech_data": base64.encodebytes(hummed(130, 2000, 16000).tobytes()).decode(),
        "sample_rate": 16000,
        "pid": 80006,
    }
    async with http.post(base_url + CREATE_PATH, params=token, data=json.dumps(body)) as response:
        assert (await response.json())["error_code"] == 0
    seen: list[str] = []
    while True:
        query = token | {"session_id": "test20240220"}
        async with http.get(base_url + RESULT_PATH, params=query) as response:
            result = (await response.json())["result"]
        seen.append(result["state_desc"])
        if result["state_desc"] == "处理成功":
            break
        assert result["state_desc"] in ("任务已提交，排队等待中", "执行中")
        await world.worker.work_until_idle()
    assert seen == ["任务已提交，排队等待中", "处理成功"]
    assert result["asr_text"] == "我要退款，现在缺货。"
    assert result["call_duration"] == 2
    assert result["pass_detection"] == "success"
    assert result["detection_result"] == []


async def test_a_token_is_taken_from_query_body_or_bearer(caller: Caller) -> None:
    token = caller.token
    assert (await caller.raw("GET", RULE_PATH, params={"access_token": token}))["error_code"] == 0
    assert (await caller.raw("GET", RULE_PATH, json={"access_token": token}))["error_code"] == 0
    bearer = {"Authorization": f"Bearer {token}"}
    assert (await caller.raw("GET", RULE_PATH, headers=bearer))["error_code"] == 0


@pytest.mark.parametrize("path", [CREATE_PATH, RESULT_PATH, RULE_PATH])
async def test_without_a_good_token_every_operation_answers_110_and_an_expired_one_111(
    caller: Caller, world: QualityWorld, path: str
) -> None:
    method = "POST" if path == CREATE_PATH else "GET"
    for options in ({}, {"json": {"access_token": 5}}, {"params": {"access_token": "24.abc.def"}}):
        assert (await caller.raw(method, path, **options))["error_code"] == 110
    world.clock.seconds += 2_592_001
    answer = await caller.ask(method, path)
    assert answer["error_code"] == 111
    assert answer["error_message"].startswith("Access token expired")


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({"grant_type": "client_credentials", "client_id": APP, "client_secret": "wrong"}, 401, "invalid_client"),
        ({"grant_type": "client_credentials", "client_id": APP}, 400, "invalid_request"),
        ({"grant_type": "password", "client_id": APP, "client_secret": SECRET}, 400, "unsupported_grant_type"),
        ({}, 400, "unsupported_grant_type"),
    ],
)
async def test_a_refused_grant_answers_as_oauth_does(
    http: aiohttp.ClientSession, base_url: str, form: dict[str, str], status: int, error: str
) -> None:
    async with http.post(base_url + TOKEN_PATH, data=form) as response:
        assert response.status == status
        answer = await response.json()
    assert answer["error"] == error
    assert answer["error_description"]


async def test_a_grant_may_be_asked_in_a_form_a_json_body_or_the_query(
    http: aiohttp.ClientSession, base_url: str
) -> None:
    grant = {"grant_type": "client_credentials", "client_id": APP, "client_secret": SECRET}
    for options in ({"data": grant}, {"json": grant}, {"params": grant}):
        async with http.post(base_url + TOKEN_PATH, **options) as response:  # type: ignore[arg-type]
            assert (await response.json()).keys() == {"access_token", "expires_in"}


@pytest.mark.parametrize(
    ("fields", "code", "named"),
    [
        ({"role_num": 3}, 336102, "role_num"),
        ({"sample_rate": 44100}, 336102, "sample_rate"),
        ({"speech_data": "", "speech_url": "https://example.com/a.wav"}, 336103, "speech_url"),
        ({"pid": 8953, "role_num": 2}, 336102, "role_num"),
        ({"pid": 8953, "is_split_channel": True}, 336102, "is_split_channel"),
        ({"pid": 7}, 336102, "pid"),
        ({"speech_data": ""}, 336101, "speech_data or speech_url"),
        ({"session_id": ""}, 336101, "session_id"),
        ({"speech_data": "not base64!"}, 336102, "speech_data"),
        ({"speech_data": "AAA"}, 336102, "speech_data"),
        ({"speech_data": encoded(b"a letter, not a call")}, 336110, "it is text"),
        ({"speech_data": encoded(b"\x89PNG\r\n\x1a\n" + bytes(99))}, 336110, "PNG"),
        ({"speech_data": encoded(b"\0\1\2")}, 336110, "16-bit"),
    ],
)
async def test_a_task_that_cannot_be_taken_says_which_field_is_at_fault(
    caller: Caller, fields: dict[str, Any], code: int, named: str
) -> None:
    answer = await caller.create(**fields)
    assert answer.keys() == {"error_code", "error_message"}
    assert answer["error_code"] == code
    assert named in answer["error_message"]
    assert (await caller.ask("GET", RESULT_PATH, session_id="s"))["error_code"] == 336120


@pytest.mark.parametrize("fields", [{"pid": 8953}, {"role_num": 2}])
async def test_two_speakers_in_one_channel_are_told_apart_in_the_order_in_which_they_speak(
    caller: Caller, world: QualityWorld, fields: dict[str, Any]
) -> None:
    talk = wav(recording([(130, 3000), (0, 700), (100, 3000), (0, 700), (130, 3000), (0, 700), (100, 3000)]))
    assert await caller.create(speech_data=encoded(talk), **fields) == DONE | {"result": {"session_id": "s"}}
    await world.worker.work_until_idle()
    result = (await caller.ask("GET", RESULT_PATH, session_id="s"))["result"]
    customer, agent = "我要退款，现在缺货。", "你好，这里是客服。"
    said = [(one["speaker_id"], one["sentence"]) for one in result["asr_result"]]
    assert said == [(0, customer), (1, agent), (0, customer), (1, agent)]
    assert result["asr_text"] == f"{customer} {agent} {customer} {agent}"
    assert all("speaker_name" not in one for one in result["asr_result"])


async def test_without_the_optional_fields_the_documents_defaults_hold(caller: Caller, world: QualityWorld) -> None:
    """16,000 samples are two seconds at the default of 8 kHz; no rule is asked; no details are given."""
    await caller.ask("POST", RULE_PATH, category="退款", description="", contents=["退款"])
    pcm = encoded(hummed(130, 2000).tobytes())
    await caller.create(speech_data=pcm)
    await caller.create(session_id="wide", speech_data=pcm, sample_rate=16000)
    await caller.create(session_id="asked", speech_data=pcm, enable_detection=True)
    await world.worker.work_until_idle()
    plain, wide, asked = [
        (await caller.ask("GET", RESULT_PATH, session_id=one))["result"] for one in ("s", "wide", "asked")
    ]
    assert (plain["call_duration"], wide["call_duration"]) == (2, 1)
    for one in (plain, wide):
        assert (one["pass_detection"], one["detection_result"], one["detection_detail"]) == ("success", [], {})
    assert (asked["pass_detection"], asked["detection_detail"]) == ("failed", {})
    assert asked["detection_result"] == [{"category": "退款", "keyword": ["退款"]}], "all categories, and no details"
    assert {one["speaker_id"] for one in plain["asr_result"]} == {0}


async def test_categories_choose_the_rules_and_unknown_ones_are_named(caller: Caller, world: QualityWorld) -> None:
    await caller.ask("POST", RULE_PATH, category="退款", description="", contents=["退款"])
    await caller.ask("POST", RULE_PATH, category="逾期", description="", contents=["!逾期"])
    await caller.create(categories=["逾期", "没有"], enable_detection=True)
    await world.worker.work_until_idle()
    result = (await caller.ask("GET", RESULT_PATH, session_id="s"))["result"]
    assert result["detection_result"] == [{"category": "逾期", "keyword": []}], "negatives alone hit with no keyword"
    assert (result["pass_detection"], result["unknown_categories"]) == ("failed", ["没有"])


@pytest.mark.parametrize("where", ["query", "body", "bearer"])
async def test_every_operation_takes_its_token_anywhere(caller: Caller, where: str) -> None:
    async def ask(method: str, path: str, **fields: Any) -> int:
        token = {"access_token": caller.token}
        options: dict[str, Any] = {"json": fields | (token if where == "body" else {})}
        if where == "query":
            options["params"] = token
        elif where == "bearer":
            options["headers"] = {"Authorization": f"bearer {caller.token}"}
        return int((await caller.raw(method, path, **options))["error_code"])

    pcm = encoded(hummed(130, 400).tobytes())
    assert await ask("POST", CREATE_PATH, session_id="s", pid=80006, speech_data=pcm) == 0
    assert await ask("GET", RESULT_PATH, session_id="s") == 0
    for method in ("POST", "PUT", "GET", "DELETE"):
        assert await ask(method, RULE_PATH, **RULE) == 0


async def test_fields_in_the_body_win_over_those_in_the_query(caller: Caller) -> None:
    await caller.create(session_id="of the body")
    query = {"access_token": caller.token, "session_id": "of the query"}
    answer = await caller.raw("GET", RESULT_PATH, params=query, json={"session_id": "of the body"})
    assert answer["result"]["session_id"] == "of the body"


async def test_speech_data_wins_over_a_url(caller: Caller) -> None:
    assert await caller.create(speech_url="https://example.com/a.wav") == DONE | {"result": {"session_id": "s"}}


async def test_a_broken_file_fails_its_task_with_the_reason(caller: Caller, world: QualityWorld) -> None:
    await caller.create(b"RIFF and then nonsense")
    await world.worker.work_until_idle()
    result = (await caller.ask("GET", RESULT_PATH, session_id="s"))["result"]
    assert result["state"] not in (0, 1, 2)
    assert "not a WAV file" in result["state_desc"]


async def test_a_callback_asked_for_is_reported_as_still_to_be_pushed(caller: Caller) -> None:
    await caller.create(callback_url="https://example.com/done")
    assert (await caller.ask("GET", RESULT_PATH, session_id="s"))["result"]["push_status_desc"] == "等待推送"


async def test_anothers_task_and_rules_are_as_good_as_absent(
    caller: Caller, world: QualityWorld, http: aiohttp.ClientSession, base_url: str
) -> None:
    await caller.create()
    await caller.ask("POST", RULE_PATH, **RULE)
    other = Caller(http, base_url, world.tokens.mint(OTHER_APP, OTHER_SECRET))
    assert (await other.ask("GET", RESULT_PATH, session_id="s"))["error_code"] == 336120
    assert (await other.ask("GET", RULE_PATH))["results"] == {"total": 0, "rule": []}
    assert (await other.ask("DELETE", RULE_PATH, category="类别1"))["error_code"] == 336131


async def test_too_large_audio_is_refused_before_and_after_decoding(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    world = QualityWorld(tmp_path, max_audio_bytes=100_000)
    async with world.serving() as url:
        caller = Caller(http, url, world.tokens.mint(APP, SECRET))
        assert (await caller.create(bytes(100_002)))["error_code"] == 336111
        assert (await caller.create(bytes(2_000_000)))["error_code"] == 336111
        assert (await caller.create(bytes(100_000)))["error_code"] == 0
    world.close()


@pytest.mark.parametrize("body", [b"{", b"[1]", b'"text"', b"\xff\xfe{}", b"[" * 100_000])
async def test_a_body_that_is_no_json_object_is_refused(caller: Caller, body: bytes) -> None:
    answer = await caller.raw("POST", RULE_PATH, params={"access_token": caller.token}, data=body)
    assert answer["error_code"] == 336100


@pytest.mark.parametrize(("method", "path"), [("PUT", CREATE_PATH), ("GET", CREATE_PATH), ("PATCH", RULE_PATH)])
async def test_a_method_that_a_path_does_not_have_answers_3(caller: Caller, method: str, path: str) -> None:
    answer = await caller.ask(method, path)
    assert answer["error_code"] == 3
    assert method in answer["error_message"]


async def test_rules_are_added_listed_modified_and_deleted(caller: Caller) -> None:
    assert await caller.ask("POST", RULE_PATH, **RULE) == DONE
    assert await caller.ask("GET", RULE_PATH) == DONE | {"results": {"total": 1, "rule": [RULE]}}
    changed = RULE | {"description": "新的", "contents": ["!逾期"]}
    assert await caller.ask("PUT", RULE_PATH, **changed) == DONE
    assert (await caller.ask("GET", RULE_PATH))["results"]["rule"] == [changed]
    assert await caller.ask("DELETE", RULE_PATH, category="类别1") == DONE
    assert (await caller.ask("GET", RULE_PATH))["results"] == {"total": 0, "rule": []}


async def test_the_rule_list_is_searched_by_part_of_the_category_and_paged(caller: Caller) -> None:
    for number in range(12):
        await caller.ask("POST", RULE_PATH, **RULE | {"category": f"类别{number}"})
    await caller.ask("POST", RULE_PATH, **RULE | {"category": "50%_off"})
    first = (await caller.ask("GET", RULE_PATH))["results"]
    assert (first["total"], len(first["rule"])) == (13, 10)
    second = (await caller.raw("GET", RULE_PATH, params={"access_token": caller.token, "page_no": "2"}))["results"]
    assert [one["category"] for one in second["rule"]] == ["类别10", "类别11", "50%_off"]
    found = (await caller.ask("GET", RULE_PATH, category="别1", page_no=1, page_size=2))["results"]
    assert (found["total"], [one["category"] for one in found["rule"]]) == (3, ["类别1", "类别10"])
    assert (await caller.ask("GET", RULE_PATH, category="%_"))["results"]["total"] == 1
    assert (await caller.ask("GET", RULE_PATH, category="%类"))["results"]["total"] == 0


@pytest.mark.parametrize(
    ("method", "fields", "code", "named"),
    [
        ("POST", RULE, 336130, "类别1"),
        ("PUT", RULE | {"category": "类别2"}, 336131, "类别2"),
        ("DELETE", {"category": "类别2"}, 336131, "类别2"),
        ("DELETE", {}, 336101, "category"),
        ("POST", RULE | {"category": "类别2", "contents": ["贷款", "(会议||"]}, 336132, "contents[1]"),
        ("POST", RULE | {"category": "类别2", "contents": [" "]}, 336132, "contents[0]"),
        ("PUT", RULE | {"contents": ["a&b&&"]}, 336132, "contents[0]"),
        ("POST", RULE | {"category": "类别2", "contents": []}, 336101, "contents"),
        ("GET", {"page_no": 0}, 336102, "page_no"),
        ("GET", {"page_size": -1}, 336102, "page_size"),
    ],
)
async def test_a_wrong_change_of_rules_is_named_and_changes_nothing(
    caller: Caller, world: QualityWorld, method: str, fields: dict[str, Any], code: int, named: str
) -> None:
    await caller.ask("POST", RULE_PATH, **RULE)
    before = await world.rulebook.rules(APP)
    answer = await caller.ask(method, RULE_PATH, **fields)
    assert answer["error_code"] == code
    assert named in answer["error_message"]
    assert await world.rulebook.rules(APP) == before


async def test_the_version_of_the_rules_grows_with_each_change(caller: Caller, world: QualityWorld) -> None:
    versions = [(await world.rulebook.rules(APP))[0]]
    for method, fields in (("POST", RULE), ("PUT", RULE), ("DELETE", {"category": "类别1"}), ("POST", RULE)):
        await caller.ask(method, RULE_PATH, **fields)
        versions.append((await world.rulebook.rules(APP))[0])
    assert versions == [0, 1, 2, 3, 4]


async def test_a_fault_of_ours_answers_1_and_tells_nothing_of_the_inside(
    caller: Caller, world: QualityWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError("the inside")

    monkeypatch.setattr(world.service, "status", broken)
    answer = await caller.ask("GET", RESULT_PATH, session_id="s")
    assert answer["error_code"] == 1
    assert "inside" not in answer["error_message"]


async def test_a_full_disk_answers_2_and_leaves_no_task(
    caller: Caller, world: QualityWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(_: bytes) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(world.folder, "keep", full)
    assert (await caller.create())["error_code"] == 2
    assert await world.tasks.claim("w") is None


async def test_a_database_that_does_not_answer_is_answered_with_2_and_when_to_come_back(
    caller: Caller, world: QualityWorld
) -> None:
    await world.database.run(lambda db: db.execute("ALTER TABLE quality_rules RENAME TO elsewhere"))
    token = {"access_token": caller.token}
    async with caller.http.get(caller.base_url + RULE_PATH, params=token) as response:
        assert response.headers["Retry-After"] == "5"
        assert (await response.json())["error_code"] == 2


class _Shelf:
    """Follows the Fetcher port over a fixed set of URLs."""

    async def fetch(self, url: str, *, max_bytes: int) -> FetchedFile:
        if url != "https://example.com/call.wav":
            raise Rejected("there is nothing at this address", code="404")
        return FetchedFile(wav(recording([(200, 2000)])), "call.wav", "audio/wav")

    async def post_json(self, url: str, body: bytes, headers: Mapping[str, str] = NO_HEADERS) -> None:
        raise Rejected("nobody is called from here")


async def test_with_a_fetcher_a_url_is_taken_in_place_of_data(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    world = QualityWorld(tmp_path, fetcher=_Shelf())
    async with world.serving() as url:
        caller = Caller(http, url, world.tokens.mint(APP, SECRET))
        missing = await caller.create(speech_data="", speech_url="https://example.com/none.wav")
        assert missing["error_code"] == 336110
        assert (await caller.create(speech_data="", speech_url="https://example.com/call.wav"))["error_code"] == 0
        await world.worker.work_until_idle()
        assert (await caller.ask("GET", RESULT_PATH, session_id="s"))["result"]["asr_text"] == "会议开始。"
    world.close()


async def test_two_apps_may_use_the_same_session_at_once(
    caller: Caller, world: QualityWorld, http: aiohttp.ClientSession, base_url: str
) -> None:
    other = Caller(http, base_url, world.tokens.mint(OTHER_APP, OTHER_SECRET))
    await asyncio.gather(caller.create(), other.create(wav(recording([(200, 2000)]))))
    await world.worker.work_until_idle()
    mine = (await caller.ask("GET", RESULT_PATH, session_id="s"))["result"]["asr_text"]
    theirs = (await other.ask("GET", RESULT_PATH, session_id="s"))["result"]["asr_text"]
    assert mine != theirs == "会议开始。"
