"""The audio links as players use them: whole, in ranges, without a body; and never without our signature."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from gateway.ports import Unavailable
from tests.voiceprint_calls import ORG, Client, get, post, routes_of
from tests.voices import NOW_S, Desk, voice, wav


@pytest.fixture
async def http(desk: Desk) -> AsyncIterator[Client]:
    async with routes_of(desk) as client:
        await post(client, "/voiceid/register", [wav(voice(1)), wav(voice(1, take=1))], spk_name="a")
        yield client


@pytest.fixture
async def path(http: Client) -> str:
    return (await paths(http))[0]


async def paths(http: Client) -> list[str]:
    links = (await get(http, "/voiceid/voice-url", **ORG, spk_name="a"))["data"]["audio_paths"]
    return [f"{urlsplit(link).path}?{urlsplit(link).query}" for link in links]


async def test_a_link_plays_in_the_browser_and_says_that_it_takes_ranges(http: Client, path: str) -> None:
    async with http.get(path) as response:
        whole = await response.read()
        assert response.status == 200
        assert response.headers["Content-Type"] == "audio/flac"
        assert response.headers["Accept-Ranges"] == "bytes"
        assert response.headers["Content-Disposition"].startswith("inline")
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cache-Control"] == "private, no-store"
    async with http.head(path) as response:
        assert (response.status, await response.read()) == (200, b"")
        assert int(response.headers["Content-Length"]) == len(whole)


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [
        ("bytes=0-9", 206, (0, 10)),
        ("bytes=10-", 206, (10, None)),
        ("bytes=-10", 206, (-10, None)),
        ("bytes=0-", 206, (0, None)),
        ("bytes=5-99999999", 206, (5, None)),
        ("bytes=-99999999", 206, (0, None)),
        ("bytes=99999999-", 416, None),
        ("bytes=-0", 416, None),
        ("bytes=9-5", 200, (0, None)),
        ("bytes=0-4,10-14", 200, (0, None)),
        ("bytes=-", 200, (0, None)),
        ("bytes=٣-٥", 200, (0, None)),
        ("samples=0-9", 200, (0, None)),
        ("bytes=" + "9" * 5000 + "-", 200, (0, None)),
    ],
)
async def test_a_range_is_answered_as_http_says(
    http: Client, path: str, asked: str, status: int, part: tuple[int, int | None] | None
) -> None:
    async with http.get(path) as response:
        whole = await response.read()
    async with http.get(path, headers={"Range": asked}) as response:
        body = await response.read()
        assert response.status == status
        if part is None:
            assert (body, response.headers["Content-Range"]) == (b"", f"bytes */{len(whole)}")
            return
        assert body == whole[part[0] : part[1]]
        if status == 206:
            first = whole.index(body) if len(body) > 100 else part[0] % len(whole)
            assert response.headers["Content-Range"] == f"bytes {first}-{first + len(body) - 1}/{len(whole)}"


async def test_a_range_of_audio_that_is_another_by_now_gets_the_whole(http: Client, path: str) -> None:
    async with http.get(path) as response:
        etag = response.headers["ETag"]
    for condition, status in ((etag, 206), ('"another"', 200)):
        async with http.get(path, headers={"Range": "bytes=0-9", "If-Range": condition}) as response:
            assert response.status == status


async def test_a_link_is_good_for_its_own_clip_only(http: Client) -> None:
    first, second = await paths(http)
    assert "clip=" not in first
    assert "clip=1&" in second
    for forged in (
        second.replace("clip=1&", ""),
        second.replace("clip=1", "clip=0"),
        second.replace("clip=1", "clip=x"),
        second.replace("clip=1", "clip=-1"),
        second.replace("clip=1", "clip=1e0"),
        first + "&clip=1",
        first.replace("?", "?clip=1&"),
    ):
        async with http.get(forged) as response:
            assert response.status == 403, forged
    async with http.get(first + "&clip=0") as response:
        assert response.status == 200, "the same clip in other words"


async def test_a_signature_that_is_wrong_at_any_byte_opens_nothing(http: Client, path: str) -> None:
    head, _, signature = path.rpartition("=")
    for at, letter in enumerate(signature):
        forged = signature[:at] + ("A" if letter != "A" else "B") + signature[at + 1 :]
        async with http.get(f"{head}={forged}") as response:
            assert response.status == 403, (at, forged)


@pytest.mark.parametrize("expires", ["", "soon", "-1", "9" * 400, "1e99", "٣"])
async def test_an_expiry_that_we_did_not_write_opens_nothing(http: Client, path: str, expires: str) -> None:
    async with http.get(path.replace(f"expires={int(NOW_S + 60)}", f"expires={expires}")) as response:
        assert response.status == 403


async def test_a_database_that_cannot_be_reached_is_503(
    http: Client, path: str, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unreachable(print_id: str, clip: int = 0) -> bytes | None:
        raise Unavailable("the disk is gone")

    monkeypatch.setattr(desk.store, "audio", unreachable)
    async with http.get(path) as response:
        assert (response.status, (await response.json())["code"]) == (503, "16003")
