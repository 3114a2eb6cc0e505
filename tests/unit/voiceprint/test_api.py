from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from gateway.ports import Unavailable
from protocol.voiceprint import signed_headers
from tests.voiceprint_calls import ORG, Client, get, post, refusal, register, routes_of, signed
from tests.voices import NOW_S, SECRETS, Desk, ShelfFetcher, encoded, hiss, samples_of, voice, wav

LINK = r"http://voices\.example/voiceid/audio/[0-9a-f]{32}\.flac\?expires=1700000060&sig=[\w-]{43}"
POSTS = ("/voiceid/register", "/voiceid/register/v2", "/voiceid/update", "/voiceid/recognize", "/voiceid/recognize/v2")
GETS = (
    "/voiceid/del-spk-name",
    "/voiceid/delete-speakers",
    "/voiceid/delete-all",
    "/voiceid/count",
    "/voiceid/list",
    "/voiceid/voice-url",
)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    desk = Desk(tmp_path, fetcher=ShelfFetcher({"http://files.example/a.wav": wav(voice(1))}), max_bytes=1_000_000)
    await desk.service.start()
    yield desk
    await desk.close()


@pytest.fixture
async def http(desk: Desk) -> AsyncIterator[Client]:
    async with routes_of(desk) as client:
        yield client


async def test_register_answers_success_without_data(http: Client) -> None:
    await register(http, "张明", 1)


async def test_recognise_answers_name_link_and_score_best_first(http: Client) -> None:
    for speaker in range(12):
        await register(http, f"v{speaker}", speaker)
    answer = await post(http, "/voiceid/recognize", wav(voice(3, take=1)))
    assert (answer["code"], answer["msg"], len(answer["data"])) == ("0", "success", 10)
    best = answer["data"][0]
    assert list(best) == ["spk_name", "audio_path", "score", "kind"]
    assert best["spk_name"] == "v3"
    assert 98 < best["score"] <= 100.001
    assert re.fullmatch(LINK, best["audio_path"])
    scores = [hit["score"] for hit in answer["data"]]
    assert scores == sorted(scores, reverse=True)


async def test_recognise_v2_adds_the_tag(http: Client) -> None:
    await register(http, "sunny", 1, tag_id="blue")
    answer = await post(http, "/voiceid/recognize/v2", wav(voice(1)), tag_id="")
    assert [(hit["spk_name"], hit["tag"]) for hit in answer["data"]] == [("sunny", "blue")]


async def test_recognise_with_nobody_enrolled_answers_an_empty_list(http: Client) -> None:
    assert await post(http, "/voiceid/recognize", wav(voice(1))) == {"code": "0", "msg": "success", "data": []}


async def test_count_list_and_voice_url_have_the_documents_shapes(http: Client) -> None:
    for number, name in enumerate(("first", "second", "third")):
        await register(http, name, number)
    assert await get(http, "/voiceid/count", **ORG) == {"code": "0", "msg": "success", "data": {"count": 3}}
    listed = await get(http, "/voiceid/list", **ORG)
    assert [one["spk_name"] for one in listed["data"]] == ["third", "second", "first"]
    assert all(re.fullmatch(LINK, one["audio_path"]) and len(one) == 2 for one in listed["data"])
    paged = await get(http, "/voiceid/list", **ORG, offset=1, limit=1)
    assert [one["spk_name"] for one in paged["data"]] == ["second"]
    for spelling in ("spk_name", "spk-name"):
        found = await get(http, "/voiceid/voice-url", **ORG, **{spelling: "first"})
        assert list(found["data"]) == ["audio_path"]
        assert re.fullmatch(LINK, found["data"]["audio_path"])


@pytest.mark.parametrize(
    ("path", "query", "left"),
    [
        ("/voiceid/del-spk-name", {"spk_name": "a"}, ["c", "b"]),
        ("/voiceid/delete-speakers", {"speaker": ["a", "b"]}, ["c"]),
        ("/voiceid/delete-speakers", {}, []),
        ("/voiceid/delete-all", {}, []),
    ],
)
async def test_each_way_to_delete_leaves_the_others(
    http: Client, path: str, query: dict[str, Any], left: list[str]
) -> None:
    for number, name in enumerate("abc"):
        await register(http, name, number)
    assert await get(http, path, **ORG, **query) == {"code": "0", "msg": "success"}
    assert [one["spk_name"] for one in (await get(http, "/voiceid/list", **ORG))["data"]] == left


async def test_a_head_request_deletes_nothing(http: Client) -> None:
    await register(http, "a", 1)
    async with http.head("/voiceid/delete-all", params=ORG, headers=signed()) as response:
        assert response.status == 405
    assert (await get(http, "/voiceid/count", **ORG))["data"]["count"] == 1


async def test_update_replaces_and_v2_registers(http: Client) -> None:
    answer = await post(http, "/voiceid/register/v2", wav(voice(1)), spk_name="a")
    assert answer == {"code": "0", "msg": "success"}
    answer = await post(http, "/voiceid/update", wav(voice(2)), spk_name="a")
    assert answer == {"code": "0", "msg": "success"}
    hits = (await post(http, "/voiceid/recognize", wav(voice(2))))["data"]
    assert hits[0]["score"] > 99


@pytest.mark.parametrize(
    ("container", "codec"),
    [("wav", "pcm_s16le"), ("flac", "flac"), ("mp3", "libmp3lame"), ("ipod", "aac"), ("ogg", "libopus")],
)
async def test_the_usual_formats_are_recognised(http: Client, container: str, codec: str) -> None:
    for speaker in range(3):
        await register(http, f"v{speaker}", speaker)
    rate_hz = 48000 if codec == "libopus" else 16000
    audio = encoded(voice(1, take=1, rate_hz=rate_hz), container, codec, rate_hz)
    answer = await post(http, "/voiceid/recognize", audio, filename=f"片段.{container}", kind="")
    assert answer["code"] == "0", answer
    assert answer["data"][0]["spk_name"] == "v1"


@pytest.mark.parametrize(("filename", "kind"), [("a.pcm", "audio/*"), ("a.RAW", "audio/*"), ("a", "audio/pcm")])
async def test_pcm_without_header_is_read_when_named_or_typed_so(http: Client, filename: str, kind: str) -> None:
    answer = await post(http, "/voiceid/register", voice(1), spk_name="a", filename=filename, kind=kind)
    assert answer["code"] == "0"


@pytest.mark.parametrize("audio", [b"not audio at all" * 100, voice(1)])
async def test_what_cannot_be_decoded_is_refused_with_its_own_code(http: Client, audio: bytes) -> None:
    code, msg = refusal(await post(http, "/voiceid/register", audio, spk_name="a"))
    assert (code, msg[:18]) == ("10701", "Audio encode error")


async def test_pcm_with_half_a_sample_is_undecodable(http: Client) -> None:
    code, msg = refusal(await post(http, "/voiceid/register", voice(1) + b"x", spk_name="a", filename="a.pcm"))
    assert code == "10701"
    assert "an odd number" in msg


@pytest.mark.parametrize("path", POSTS + GETS)
@pytest.mark.parametrize("how", ["none", "wrong", "stale", "unknown"])
async def test_every_operation_refuses_bad_credentials_alike(http: Client, path: str, how: str) -> None:
    headers = {
        "none": {},
        "wrong": signed_headers("acme", "guess", NOW_S),
        "stale": signed_headers("acme", SECRETS["acme"][0], NOW_S - 301),
        "unknown": signed_headers("nobody", "guess", NOW_S),
    }[how]
    method = "POST" if path in POSTS else "GET"
    async with http.request(method, path, headers=headers) as response:
        assert response.status == 200
        assert await response.json() == {"code": "10105", "msg": "illegal access"}


async def test_credentials_in_the_query_and_an_older_secret_are_accepted(http: Client) -> None:
    old = signed_headers("acme", SECRETS["acme"][1], NOW_S - 299)
    query = {"appid": old["X-App-Key"], "ts": old["X-Timestamp"], "signa": old["X-App-Signature"]}
    async with http.get("/voiceid/count", params={**query, **ORG}) as response:
        assert (await response.json())["code"] == "0"


@pytest.mark.parametrize(
    ("off_s", "code"), [(-301, "10105"), (-299, "0"), (-300, "0"), (300, "0"), (299, "0"), (301, "10105")]
)
@pytest.mark.parametrize("place", ["headers", "query"])
async def test_a_signature_is_good_for_five_minutes_either_way(http: Client, off_s: int, code: str, place: str) -> None:
    made = signed_headers("acme", SECRETS["acme"][0], NOW_S + off_s)
    query = dict(zip(("appid", "ts", "signa"), made.values(), strict=True))
    headers, params = (made, ORG) if place == "headers" else ({}, {**ORG, **query})
    async with http.get("/voiceid/count", params=params, headers=headers) as response:
        assert (await response.json())["code"] == code


@pytest.mark.parametrize("missing", ["org_id", "tag_id", "spk_name"])
@pytest.mark.parametrize("path", ["/voiceid/register", "/voiceid/update"])
async def test_a_missing_field_is_named(http: Client, path: str, missing: str) -> None:
    fields = {"spk_name": "a", **ORG, missing: ""}
    code, msg = refusal(await post(http, path, wav(voice(1)), **fields))
    assert (code, msg) == ("10106", f"invalid parameter: {missing} is missing")


@pytest.mark.parametrize("path", POSTS)
async def test_missing_audio_is_named(http: Client, path: str) -> None:
    code, msg = refusal(await post(http, path, None, spk_name="a"))
    assert code == "10106"
    assert "audio is missing" in msg


@pytest.mark.parametrize(
    ("path", "query", "code"),
    [
        ("/voiceid/del-spk-name", {"tag_id": "tag"}, "10106"),
        ("/voiceid/del-spk-name", {"spk_name": "a"}, "10106"),
        ("/voiceid/del-spk-name", {"spk_name": "nobody", **ORG}, "10107"),
        ("/voiceid/delete-speakers", {"speaker": "", **ORG}, "10107"),
        ("/voiceid/delete-all", {}, "10106"),
        ("/voiceid/list", {}, "10106"),
        ("/voiceid/list", {**ORG, "limit": "ten"}, "10107"),
        ("/voiceid/voice-url", ORG, "10106"),
        ("/voiceid/voice-url", {"spk_name": "nobody", **ORG}, "10107"),
    ],
)
async def test_bad_queries_have_their_codes(http: Client, path: str, query: dict[str, str], code: str) -> None:
    assert refusal(await get(http, path, **query))[0] == code


async def test_a_duplicate_name_is_refused_by_name(http: Client) -> None:
    await register(http, "sunny", 1)
    code, msg = refusal(await post(http, "/voiceid/register", wav(voice(2)), spk_name="sunny"))
    assert code == "10107"
    assert msg.startswith("illegal parameter: spk_name 'sunny' is already registered")


async def test_poor_audio_is_refused_with_its_measurements(http: Client) -> None:
    answer = await post(http, "/voiceid/register", wav(hiss()), spk_name="a")
    assert refusal(answer)[0] == "10107"
    assert "no speech was found" in answer["msg"]
    assert answer["data"]["reason"] == "no_speech"
    assert answer["data"]["measured"]["duration_ms"] == 1000


async def test_an_upload_above_the_limit_is_refused(http: Client) -> None:
    code, msg = refusal(await post(http, "/voiceid/register", bytes(1_100_000), spk_name="a"))
    assert code == "10107"
    assert "larger than 1000000 bytes" in msg


async def test_audio_by_link_in_a_plain_form(http: Client) -> None:
    form = {**ORG, "spk_name": "a", "audio": "http://files.example/a.wav"}
    async with http.post("/voiceid/register", data=form, headers=signed()) as response:
        assert await response.json() == {"code": "0", "msg": "success"}
    assert (await post(http, "/voiceid/recognize", wav(voice(1))))["data"][0]["spk_name"] == "a"


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("ftp://files.example/a.wav", "10109"),
        ("/etc/passwd", "10109"),
        ("http://127.0.0.1/a.wav", "10107"),
        ("https://files.example/down.wav", "16003"),
    ],
)
async def test_links_that_cannot_be_followed_have_their_codes(http: Client, url: str, code: str) -> None:
    assert refusal(await post(http, "/voiceid/register", url, spk_name="a"))[0] == code


async def test_without_a_fetcher_every_host_is_off_the_list(http: Client, desk: Desk) -> None:
    desk.reader._fetcher = None
    answer = await post(http, "/voiceid/register", "http://files.example/a.wav", spk_name="a")
    assert refusal(answer)[0] == "10107"
    assert "fetch list does not allow the host files.example" in answer["msg"]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", b"no boundary"),
        ("multipart/form-data; boundary=x", b"nothing like a part"),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\nnameless\r\n--x--\r\n"),
        ("application/x-www-form-urlencoded", b"org_id=%ff%fe"),
    ],
)
async def test_a_body_that_is_no_form_is_refused(http: Client, kind: str, body: bytes) -> None:
    headers = {**signed(), "Content-Type": kind}
    async with http.post("/voiceid/register", data=body, headers=headers) as response:
        assert response.status == 200
        assert (await response.json())["code"] in ("10106", "10107")


async def test_another_app_sees_nothing(http: Client) -> None:
    await register(http, "sunny", 1)
    assert (await get(http, "/voiceid/count", "rival", **ORG))["data"] == {"count": 0}
    assert (await get(http, "/voiceid/list", "rival", **ORG))["data"] == []
    assert (await get(http, "/voiceid/voice-url", "rival", **ORG, spk_name="sunny"))["code"] == "10107"
    assert (await get(http, "/voiceid/del-spk-name", "rival", **ORG, spk_name="sunny"))["code"] == "10107"
    assert (await get(http, "/voiceid/delete-all", "rival", **ORG))["code"] == "0"
    assert (await post(http, "/voiceid/recognize", wav(voice(1)), app_id="rival"))["data"] == []
    assert (await post(http, "/voiceid/update", wav(voice(2)), app_id="rival", spk_name="sunny"))["code"] == "10107"
    assert (await get(http, "/voiceid/count", **ORG))["data"] == {"count": 1}


async def test_a_dead_model_and_an_unforeseen_failure_have_their_codes(http: Client, desk: Desk) -> None:
    desk.embedder.failure = Unavailable("the engine is gone")
    assert refusal(await post(http, "/voiceid/register", wav(voice(1)), spk_name="a"))[0] == "10700"
    desk.embedder.failure = RuntimeError("a bug")
    assert await post(http, "/voiceid/register", wav(voice(1)), spk_name="a") == {
        "code": "16003",
        "msg": "basic component error",
    }


async def path_of(http: Client, name: str) -> str:
    link = (await get(http, "/voiceid/voice-url", **ORG, spk_name=name))["data"]["audio_path"]
    parts = urlsplit(link)
    return f"{parts.path}?{parts.query}"


async def test_a_link_plays_the_original_without_credentials(http: Client) -> None:
    await register(http, "sunny", 1)
    async with http.get(await path_of(http, "sunny")) as response:
        assert (response.status, response.content_type) == (200, "audio/flac")
        assert np.array_equal(samples_of(await response.read())[:, 0], np.frombuffer(voice(1), "<i2"))


async def test_a_link_ends_with_its_time_its_voice_and_its_signature(http: Client, desk: Desk) -> None:
    await register(http, "sunny", 1)
    path = await path_of(http, "sunny")
    longer = path.replace("expires=1700000060", "expires=1800000000")
    for forged in (longer, path[:-1], path.split("?")[0], path.split("&")[0]):
        async with http.get(forged) as response:
            assert (response.status, (await response.json())["code"]) == (403, "10105")
    desk.now_s += 60
    async with http.get(path) as response:
        assert response.status == 403
    desk.now_s -= 60
    await get(http, "/voiceid/del-spk-name", **ORG, spk_name="sunny")
    async with http.get(path) as response:
        assert response.status == 404
