"""One voice enrolled from several recordings, at once or one after another."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from gateway.ports import Prints, VoiceprintRow
from protocol.voiceprint import MAX_CLIPS, NamedVoice
from tests.voiceprint_calls import ORG, Client, get, post, routes_of
from tests.voices import Desk, clip, hiss, samples_of, voice, wav

A = NamedVoice("acme", "org", "tag", "a")


@pytest.fixture
async def http(desk: Desk) -> AsyncIterator[Client]:
    async with routes_of(desk) as client:
        yield client


async def paths_of(http: Client, name: str) -> list[str]:
    data = (await get(http, "/voiceid/voice-url", **ORG, spk_name=name))["data"]
    links = data.get("audio_paths", [data["audio_path"]])
    assert links[0] == data["audio_path"]
    return [f"{urlsplit(link).path}?{urlsplit(link).query}" for link in links]


async def heard(http: Client, path: str) -> bytes:
    async with http.get(path) as response:
        assert response.status == 200
        return samples_of(await response.read())[:, 0].astype("<i2").tobytes()


async def test_several_audio_parts_enrol_one_voice_each_with_its_print_and_its_link(http: Client, desk: Desk) -> None:
    takes = [voice(1, take=take) for take in range(3)]
    answer = await post(http, "/voiceid/register", [wav(take) for take in takes], spk_name="a")
    assert answer == {"code": "0", "msg": "success"}
    assert (await get(http, "/voiceid/count", **ORG))["data"] == {"count": 1}
    assert {len(prints.vectors) for prints in (await desk.service.find(A)).prints} == {3}
    assert [await heard(http, path) for path in await paths_of(http, "a")] == takes
    hits = (await post(http, "/voiceid/recognize", wav(voice(1, take=9))))["data"]
    assert [hit["spk_name"] for hit in hits] == ["a"]


async def test_an_update_may_add_to_what_there_is_or_replace_it(http: Client) -> None:
    await post(http, "/voiceid/register", wav(voice(1)), spk_name="a")
    for take in (1, 2):
        answer = await post(http, "/voiceid/update", wav(voice(1, take=take)), spk_name="a", mode="add")
        assert answer == {"code": "0", "msg": "success"}
    assert [await heard(http, path) for path in await paths_of(http, "a")] == [voice(1, take=take) for take in range(3)]
    for mode in ("replace", ""):
        assert (await post(http, "/voiceid/update", wav(voice(2)), spk_name="a", mode=mode))["code"] == "0"
        assert [await heard(http, path) for path in await paths_of(http, "a")] == [voice(2)]
    assert (await post(http, "/voiceid/update", wav(voice(2)), spk_name="a", mode="merge"))["code"] == "10107"


async def test_one_poor_recording_refuses_all_and_is_named(http: Client) -> None:
    answer = await post(http, "/voiceid/register", [wav(voice(1)), wav(hiss())], spk_name="a")
    assert answer["code"] == "10107"
    assert answer["msg"].startswith("illegal parameter: audio 2 of 2: no speech was found")
    assert (answer["data"]["audio"], answer["data"]["reason"]) == (2, "no_speech")
    broken = await post(http, "/voiceid/register", [b"letters", wav(voice(1))], spk_name="a")
    assert broken["code"] == "10701"
    assert "audio 1 of 2: " in broken["msg"]
    assert (await get(http, "/voiceid/count", **ORG))["data"] == {"count": 0}


async def test_a_voice_has_so_many_recordings_and_no_more(http: Client, desk: Desk) -> None:
    takes = [wav(voice(1, seconds=0.3)) for _ in range(MAX_CLIPS)]
    refused = await post(http, "/voiceid/register", [*takes, takes[0]], spk_name="a")
    assert refused["code"] == "10107"
    assert "audio occurs 21 times" in refused["msg"]
    assert (await post(http, "/voiceid/register", takes, spk_name="a"))["code"] == "0"
    more = await post(http, "/voiceid/update", takes[0], spk_name="a", mode="add")
    assert more["code"] == "10107"
    assert "these would be 21" in more["msg"]
    assert len((await desk.service.find(A)).prints[0].vectors) == MAX_CLIPS


async def test_one_recording_is_recognised_at_a_time(http: Client) -> None:
    answer = await post(http, "/voiceid/recognize", [wav(voice(1)), wav(voice(2))])
    assert answer["code"] == "10107"
    assert "one recording can be recognised" in answer["msg"]


async def test_nothing_is_added_to_a_voice_of_another_model(http: Client, desk: Desk) -> None:
    foreign = Prints("another-model", np.ones((1, 8), np.float32))
    await desk.store.add(VoiceprintRow("0" * 32, "acme", "org", "tag", "a", (foreign,)), [b"flac"])
    answer = await post(http, "/voiceid/update", wav(voice(1)), spk_name="a", mode="add")
    assert answer["code"] == "10107"
    assert "enrolled with another model" in answer["msg"]
    assert (await post(http, "/voiceid/update", wav(voice(1)), spk_name="a"))["code"] == "0"


async def test_a_voice_that_is_added_to_keeps_its_place_and_its_former_links_end(http: Client, desk: Desk) -> None:
    for name in "ab":
        await post(http, "/voiceid/register", wav(voice(1)), spk_name=name)
    [former] = await paths_of(http, "a")
    await post(http, "/voiceid/update", wav(voice(1, take=1)), spk_name="a", mode="add")
    async with http.get(former) as response:
        assert response.status == 404
    listed: list[Any] = (await get(http, "/voiceid/list", **ORG))["data"]
    assert [one["spk_name"] for one in listed] == ["b", "a"]
    assert clip(voice(1)).channels == 1
