"""What belongs to another app is as if absent, on every route that the OpenAPI document has; and hostile names."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from protocol import voiceprint_openapi as openapi
from protocol.voiceprint import MAX_NAME_CHARS
from tests.voiceprint_calls import ORG, Client, get, post, register, routes_of, signed
from tests.voices import NOW_S, Desk, voice, wav

ROUTES = [(method, path) for path, item in openapi.document()["paths"].items() for method in item]
OF_THE_OTHER = {"org_id": "org", "tag_id": "tag", "spk_name": "sunny", "spk-name": "sunny", "speaker": "sunny"}
"""Everything that names the voice of acme."""
FORGED_LINK = {"expires": str(int(NOW_S + 60)), "sig": "A" * 43, "clip": "0"}


@pytest.fixture
async def http(desk: Desk) -> AsyncIterator[Client]:
    async with routes_of(desk) as client:
        yield client


async def asked(http: Client, method: str, path: str, fields: dict[str, str]) -> tuple[int, Any]:
    """What the rival is answered, having filled in each field that the document gives the route."""
    operation = openapi.document()["paths"][path][method]
    if method == "post":
        [(_, form), _] = operation["requestBody"]["content"].items()
        known = {name: text for name, text in fields.items() if name in form["schema"]["properties"]}
        return 200, await post(http, path, wav(voice(1)), app_id="rival", **{"org_id": "", "tag_id": "", **known})
    names = {one["name"] for one in operation.get("parameters", ())}
    query = {name: text for name, text in (fields | FORGED_LINK).items() if name in names}
    async with http.get(path.format(**fields), params=query, headers=signed("rival")) as response:
        return response.status, json.loads(await response.read())


async def everything(http: Client) -> Any:
    """What acme sees of its own."""
    listed = (await get(http, "/voiceid/list", **ORG))["data"]
    hits = (await post(http, "/voiceid/recognize/v2", wav(voice(1))))["data"]
    async with http.get(listed[0]["audio_path"].removeprefix("http://voices.example")) as response:
        return listed, hits, response.status, await response.read()


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_another_app_s_voice_is_as_if_absent_and_unharmed_on_every_route(
    http: Client, desk: Desk, method: str, path: str
) -> None:
    """The rival asks by acme's org, tag, name and print; a rival who asks for what nobody has hears the same."""
    await register(http, "sunny", 1)
    before = await everything(http)
    print_id = Path(urlsplit(before[0][0]["audio_path"]).path).stem
    foreign = await asked(http, method, path, {**OF_THE_OTHER, "print_id": print_id})
    if path in ("/voiceid/register", "/voiceid/register/v2"):  # it made a voice of its own, beside acme's
        assert foreign[1]["code"] == "0"
        assert (await get(http, "/voiceid/count", "rival", **ORG))["data"] == {"count": 1}
    assert await everything(http) == before
    await get(http, "/voiceid/delete-all", **ORG)
    await get(http, "/voiceid/delete-all", "rival", **ORG)
    absent = await asked(http, method, path, {**OF_THE_OTHER, "print_id": "0" * 32})
    assert foreign == absent


async def test_a_link_of_one_voice_does_not_open_another(http: Client) -> None:
    for name, speaker in (("a", 1), ("b", 2)):
        await register(http, name, speaker)
    links = [
        urlsplit((await get(http, "/voiceid/voice-url", **ORG, spk_name=name))["data"]["audio_path"]) for name in "ab"
    ]
    async with http.get(f"{links[1].path}?{links[0].query}") as response:
        assert response.status == 403


# --- names ---

HOSTILE = [
    "../../../../etc/passwd",
    "..\\..\\windows",
    "/etc/passwd",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "a/../b",
    ".",
    "..",
    "~root",
    "CON",
    "a\u202egpj.exe",
    "\u2066hidden\u2069",
    "<script>alert(1)</script>",
    "'; DROP TABLE voiceprints; --",
    '"quoted" \\ name',
    "{0}{print_id}%s%n$(id)`id`",
    "张明🎤",
    "e\u0301",
    "\u00e9",
    "x" * MAX_NAME_CHARS,
]
REFUSED = ["nul\x00byte", "line\nbreak", "tab\tbed", "\x7f", "x" * (MAX_NAME_CHARS + 1), "x" * 7_000]


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*")}


@pytest.mark.parametrize("field", ["spk_name", "org_id", "tag_id"])
async def test_a_hostile_name_is_a_name_and_never_a_path(http: Client, tmp_path: Path, field: str) -> None:
    files = names_in(tmp_path)
    for name in HOSTILE:
        fields = {"org_id": "org", "tag_id": "tag", "spk_name": "sunny", field: name}
        scope = {key: text for key, text in fields.items() if key != "spk_name"}
        assert (await post(http, "/voiceid/register", wav(voice(1)), **fields)) == {"code": "0", "msg": "success"}, name
        [listed] = (await get(http, "/voiceid/list", **scope))["data"]
        assert listed["spk_name"] == fields["spk_name"]
        assert name not in listed["audio_path"] or len(name) < 3, "a link names nobody"
        [hit] = (await post(http, "/voiceid/recognize/v2", wav(voice(1)), **scope))["data"]
        assert (hit["spk_name"], hit["tag"]) == (fields["spk_name"], fields["tag_id"])
        found = await get(http, "/voiceid/voice-url", **fields)
        async with http.get(found["data"]["audio_path"].removeprefix("http://voices.example")) as response:
            assert response.status == 200
            assert response.headers["Content-Disposition"] == 'inline; filename="voice.flac"'
        assert (await get(http, "/voiceid/delete-speakers", **scope, speaker=fields["spk_name"]))["code"] == "0"
    assert names_in(tmp_path) == files, "no name became a file"


@pytest.mark.parametrize("field", ["spk_name", "org_id", "tag_id"])
@pytest.mark.parametrize("name", REFUSED, ids=["NUL", "newline", "tab", "DEL", "129", "7 kB"])
async def test_control_characters_and_endless_names_are_refused_by_field(http: Client, field: str, name: str) -> None:
    fields = {"org_id": "org", "tag_id": "tag", "spk_name": "sunny", field: name}
    for answer in (
        await post(http, "/voiceid/register", wav(voice(1)), **fields),
        await get(http, "/voiceid/del-spk-name", **fields),
    ):
        assert answer["code"] == "10107"
        assert field in answer["msg"]
        assert name not in answer["msg"], "what is refused is not echoed"


@pytest.mark.parametrize("offset", ["-1", "1e3", "0x10", "٣", "9" * 5000, str(2**31), " 5 5", "null"])
async def test_numbers_out_of_range_are_refused_by_field(http: Client, offset: str) -> None:
    answer = await get(http, "/voiceid/list", **ORG, offset=offset)
    assert answer["code"] == "10107"
    assert "offset" in answer["msg"]
    assert len(answer["msg"]) < 200
