"""A voice found in a call and in a file: through the routes of a whole server, whose models are stand-ins."""

from __future__ import annotations

import io
import wave
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import msgspec
import pytest

from gateway.app import EarshotServer
from protocol.messages import Start
from tests.client import Account, CallLog, play
from tests.integration.hummed import RATE_HZ, client_of, eventually, serving
from tests.voices import voice, wav

APPS = "demo:secret,other:secret"
START = Start(rate=RATE_HZ, channels=1, language="en")


def line(speaker: int, ms: int, take: int = 0) -> bytes:
    return voice(speaker, take=take, seconds=ms / 1000, rate_hz=RATE_HZ)


def pause(ms: int) -> bytes:
    return bytes(2 * RATE_HZ * ms // 1000)


TALK = pause(400) + line(3, 3500) + pause(2500) + line(5, 2000) + pause(1500) + line(3, 2400, take=1) + pause(1000)
"""Somebody speaks, somebody else, and the first again."""
LOW = wav(line(3, 4000, take=2), RATE_HZ)


async def asked(app: Account, path: str) -> dict[str, Any]:
    status, body = await app.get(path)
    assert status == 200, body
    answer: dict[str, Any] = msgspec.json.decode(body)
    return answer


async def sent(app: Account, path: str, audio: bytes, **fields: str) -> tuple[int, dict[str, Any]]:
    form = aiohttp.FormData(fields)
    form.add_field("audio", audio, filename="talk.wav")
    async with app.session.post(app.http + path, data=form, headers=app.headers) as response:
        return response.status, msgspec.json.decode(await response.read())


async def indexed_call(server: EarshotServer, app: Account) -> CallLog:
    log = await play(app, START, TALK, speed=0)

    async def found() -> bool:
        return len(server.passages) > 0

    await eventually(found)
    return log


async def indexed_file(app: Account, audio: bytes, **fields: str) -> dict[str, Any]:
    status, answer = await sent(app, "/v1/passages/files", audio, **fields)
    assert status == 202

    async def done() -> dict[str, Any] | None:
        file = await asked(app, f"/v1/passages/files/{answer['file_id']}")
        return file if file["state"] != "waiting" else None

    file = await eventually(done)
    assert file is not None
    return file


def pcm_of(audio: bytes) -> bytes:
    with wave.open(io.BytesIO(audio)) as file:
        pcm: bytes = file.readframes(file.getnframes())
    return pcm


def files_with(folder: Path, content: bytes) -> list[Path]:
    return [one for one in folder.rglob("*") if one.is_file() and content in one.read_bytes()]


async def played(url: str, **headers: str) -> tuple[int, bytes]:
    async with aiohttp.ClientSession() as nobody, nobody.get(url, headers=headers) as response:
        return response.status, await response.read()


async def test_a_voice_is_found_in_a_call_and_its_link_plays_exactly_that_stretch(tmp_path: Path) -> None:
    async with serving(tmp_path, apps=APPS) as server, client_of(server) as app, client_of(server, "other") as other:
        log = await indexed_call(server, app)
        await app.voices.register("demo", "demo", "demo", "Low", LOW)
        answer = await asked(app, "/v1/voices/Low/passages?min_score=90")
        first, second = sorted(answer["passages"], key=lambda one: one["begin_ms"])
        assert (first["call_id"], first["channel"]) == (log.call_id, 0)
        assert (first["begin_ms"], first["end_ms"]) == (pytest.approx(400, abs=350), pytest.approx(3900, abs=700))
        assert second["begin_ms"] == pytest.approx(9900, abs=350)
        assert {one["score"] > 90 for one in answer["passages"]} == {True}

        status, recording = await app.get(f"/v1/calls/{log.call_id}/recording")
        assert status == 200
        begin, end = (2 * RATE_HZ * first[edge] // 1000 for edge in ("begin_ms", "end_ms"))
        status, passage = await played(first["audio"])
        assert (status, pcm_of(passage)) == (200, pcm_of(recording)[begin:end])
        status, part = await played(first["audio"], Range="bytes=44-143")
        assert (status, part) == (206, passage[44:144])

        # Another app has no such voice, and with its own finds nothing.
        assert (await other.get("/v1/voices/Low/passages?org_id=demo&tag_id=demo"))[0] == 404
        await other.voices.register("other", "other", "other", "Low", LOW)
        assert (await asked(other, "/v1/voices/Low/passages"))["passages"] == []


async def test_a_link_that_was_changed_or_has_expired_plays_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path, apps=APPS) as server, client_of(server) as app:
        await indexed_call(server, app)
        _, answer = await sent(app, "/v1/passages/search", LOW, min_score="90", limit="1")
        (passage,) = answer["passages"]
        url = passage["audio"]
        longer = url.replace(f"end_ms={passage['end_ms']}", f"end_ms={passage['end_ms'] + 1}")
        for changed in (longer, url.replace("channel=0", "channel=1"), url[:-2], url.split("?")[0]):
            assert (await played(changed))[0] == 403
        expires = int(parse_qs(urlsplit(url).query)["expires"][0])
        assert (await played(url.replace(f"expires={expires}", f"expires={expires + 1}")))[0] == 403
        monkeypatch.setattr("gateway.assembly.passages.time", lambda: expires - 1)
        assert (await played(url))[0] == 200


async def test_a_deleted_calls_passages_are_gone_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path, apps=APPS, qc_poll_s=0.05) as server, client_of(server) as app:
        log = await indexed_call(server, app)
        _, answer = await sent(app, "/v1/passages/search", LOW, min_score="90", limit="1")
        path = f"/v1/calls/{log.call_id}"

        async def gone() -> bool:
            return (await app.send("DELETE", path))[0] == 204

        await eventually(gone)  # not while voice QC or the journal still has it
        assert len(server.passages) == 0
        assert (await played(answer["passages"][0]["audio"]))[0] == 404


async def test_a_file_is_listened_to_listed_found_and_deleted_with_nothing_left_of_it(tmp_path: Path) -> None:
    silence = bytes(2 * 16000)
    talk = wav(silence + voice(3, seconds=3) + silence + silence + voice(4, seconds=3) + silence)
    async with serving(tmp_path, apps=APPS) as server, client_of(server) as app, client_of(server, "other") as other:
        file = await indexed_file(app, talk, name="board meeting.wav")
        assert (file["state"], file["passages"], file["file"]) == ("indexed", 2, "board meeting.wav")
        assert (await asked(app, "/v1/passages/files"))["files"] == [file]
        assert (await asked(other, "/v1/passages/files"))["files"] == []

        _, answer = await sent(app, "/v1/passages/search", wav(voice(4, take=2, seconds=2)), limit="1")
        (passage,) = answer["passages"]
        assert (passage["file_id"], passage["file"]) == (file["file_id"], "board meeting.wav")
        assert passage["begin_ms"] == pytest.approx(6000, abs=200)
        status, audio = await played(passage["audio"])
        whole = pcm_of(talk)
        assert (status, pcm_of(audio)) == (200, whole[32 * passage["begin_ms"] : 32 * passage["end_ms"]])
        _, foreign = await sent(other, "/v1/passages/search", wav(voice(4, take=2, seconds=2)))
        assert foreign["passages"] == []

        path = f"/v1/passages/files/{file['file_id']}"
        assert (await other.get(path))[0] == 404
        assert (await other.send("DELETE", path))[0] == 404
        assert (await app.send("DELETE", path))[0] == 204
        assert (await app.get(path))[0] == 404
        assert (await played(passage["audio"]))[0] == 404
        _, after = await sent(app, "/v1/passages/search", wav(voice(4, take=2, seconds=2)))
        assert after["passages"] == []
        assert list((tmp_path / "passages").iterdir()) == []
        assert files_with(tmp_path, file["file_id"].encode()) == []


async def test_passages_are_found_after_a_restart_and_only_in_the_time_asked_for(tmp_path: Path) -> None:
    query = LOW
    async with serving(tmp_path, apps=APPS) as server, client_of(server) as app:
        log = await indexed_call(server, app)
    async with serving(tmp_path, apps=APPS) as server, client_of(server) as app:
        _, answer = await sent(app, "/v1/passages/search", query, min_score="90")
        assert [one["call_id"] for one in answer["passages"]] == [log.call_id] * 2
        at_ms = max(one["at_ms"] for one in answer["passages"])
        _, late = await sent(app, "/v1/passages/search", query, **{"from": str(at_ms), "min_score": "90"})
        assert [one["at_ms"] for one in late["passages"]] == [at_ms]
        _, early = await sent(app, "/v1/passages/search", query, to="2020-01-01T00:00:00Z")
        assert early["passages"] == []


async def test_what_holds_no_speech_or_too_little_is_not_indexed(tmp_path: Path) -> None:
    quiet = bytes(2 * 16000)
    async with serving(tmp_path, apps=APPS) as server, client_of(server) as app:
        file = await indexed_file(app, wav(quiet + voice(3, seconds=0.6) + quiet + quiet))
        assert (file["state"], file["passages"]) == ("indexed", 0)
        status, answer = await sent(app, "/v1/passages/files", b"not audio at all")
        assert (status, answer["code"]) == (400, "bad_audio")


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=x", "min_score=101", "min_score=nan", "from=yesterday", "to=12345678901234567890"]
)
async def test_a_bad_parameter_is_named(tmp_path: Path, query: str) -> None:
    async with serving(tmp_path, apps=APPS) as server, client_of(server) as app:
        status, body = await app.get(f"/v1/voices/Low/passages?{query}")
        assert (status, msgspec.json.decode(body)["code"]) == (400, "bad_parameter")
        assert query.split("=")[0].encode() in body
