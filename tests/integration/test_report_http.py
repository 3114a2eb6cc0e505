"""The report of a call over HTTP: what it shows, whom it is shown to, and the recording that it plays."""

import io
import re
import wave
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.app import EarshotServer
from gateway.doors.recording_links import RecordingLinks
from gateway.keys import subkey
from gateway.ports import QualityTask, StoredCategory
from gateway.report.page import policy
from protocol.client import CallClient
from protocol.messages import Ended, Segment, Start
from tests.client import Account, play, until
from tests.integration.hummed import DIALOGUE, RATE_HZ, client_of, eventually, serving
from tests.integration.test_http_side import wav_of

APPS = "demo:secret,other:hidden"
SCRIPT = "<script>alert(1)</script>"
START = Start(rate=RATE_HZ, channels=1, language="en", metadata={"desk": SCRIPT})


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EarshotServer]:
    async with serving(tmp_path / "data", apps=APPS, qc_poll_s=0.05) as one:
        yield one


@pytest.fixture
async def app(server: EarshotServer) -> AsyncIterator[Account]:
    async with client_of(server) as one:
        yield one


async def page(app: Account, path: str, **headers: str) -> tuple[int, str, dict[str, str]]:
    async with app.session.get(app.http + path, headers={**app.headers, **headers}) as response:
        return response.status, await response.text(), dict(response.headers)


def audio_of(text: str, path: str) -> str:
    """Where a page's player finds the recording."""
    (link,) = re.findall(r'<audio [^>]*src="([^"]+)"', text)
    assert isinstance(link, str)
    return path.rpartition("/")[0] + "/" + link.replace("&amp;", "&")


async def test_a_call_has_a_report_with_its_words_hits_and_recording(app: Account) -> None:
    await app.quality.add_rule("demo", StoredCategory(f"Money {SCRIPT}", "", ("refund",)))
    log = await play(app, START, DIALOGUE, speed=0)
    path = f"/v1/calls/{log.call_id}/report"
    status, text, headers = await page(app, path)
    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    csp = headers["Content-Security-Policy"]
    assert csp.startswith("default-src 'none'; style-src 'sha256-")
    assert "script-src" not in csp
    assert "frame-ancestors 'none'" in csp
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "no-store" in headers["Cache-Control"]
    assert log.call_id in text
    assert "I want a <mark>refund</mark>." in text
    assert "alert, confirmed" in text
    assert "Money &lt;script&gt;" in text
    assert SCRIPT not in text

    async with app.session.get(app.http + audio_of(text, path)) as response:  # no credentials
        assert response.status == 200
        whole = await response.read()
    with wave.open(io.BytesIO(whole)) as recording:
        assert recording.readframes(recording.getnframes()) == DIALOGUE


async def test_a_player_can_seek_in_the_recording(app: Account) -> None:
    log = await play(app, START, DIALOGUE, speed=0)
    path = f"/v1/calls/{log.call_id}/report"
    link = app.http + audio_of((await page(app, path))[1], path)
    async with app.session.get(link) as response:
        assert response.headers["Accept-Ranges"] == "bytes"
        whole = await response.read()
    for asked, expected in (
        ("bytes=44-143", whole[44:144]),
        ("bytes=-100", whole[-100:]),
        ("bytes=9000-", whole[9000:]),
    ):
        async with app.session.get(link, headers={"Range": asked}) as response:
            assert response.status == 206
            assert response.headers["Content-Range"].endswith(f"/{len(whole)}")
            assert await response.read() == expected
    async with app.session.get(link, headers={"Range": f"bytes={len(whole)}-"}) as response:
        assert response.status == 416


async def test_a_link_opens_one_recording_until_it_expires(server: EarshotServer, app: Account) -> None:
    log, other = [await play(app, START, DIALOGUE, speed=0) for _ in range(2)]
    path = f"/v1/calls/{log.call_id}/report"
    link = audio_of((await page(app, path))[1], path)
    query = link.partition("?")[2]
    expires = re.findall(r"expires=(\d+)", query)[0]
    wrong = (
        link.replace(expires, str(int(expires) + 1)),
        link.replace(expires, "soon"),
        link[:-1] + ("A" if link[-1] != "A" else "B"),
        link.replace(log.call_id, other.call_id),
        f"/v1/calls/{log.call_id}/recording?sig=",
        f"/v1/calls/../{log.call_id}/recording?{query}",
    )
    for one in wrong:
        async with app.session.get(app.http + one) as response:
            assert response.status in (403, 404), one
    then = RecordingLinks(server_key_of(server), now=lambda: int(expires) - 3601)
    assert f"/v1/calls/{log.call_id}/recording?{then.query(log.call_id)}" != link
    async with app.session.get(f"{app.http}/v1/calls/{log.call_id}/recording?{then.query(log.call_id)}") as response:
        assert response.status == 200
    old = RecordingLinks(server_key_of(server), now=lambda: int(expires) - 7201)
    async with app.session.get(f"{app.http}/v1/calls/{log.call_id}/recording?{old.query(log.call_id)}") as response:
        assert response.status == 403


def server_key_of(server: EarshotServer) -> bytes:
    return subkey(server._key, "recordings")


async def test_the_language_is_the_browsers_or_the_one_asked_for(app: Account) -> None:
    log = await play(app, START, DIALOGUE, speed=0)
    path = f"/v1/calls/{log.call_id}/report"
    for query, accepted, expected in (
        ("", "zh-CN,zh;q=0.9", "zh"),
        ("", "de", "en"),
        ("?lang=zh", "en", "zh"),
        ("?lang=en", "zh", "en"),
    ):
        _, text, headers = await page(app, path + query, **{"Accept-Language": accepted})
        assert headers["Content-Language"] == expected
        assert ("通话报告" in text) == (expected == "zh")


async def test_a_call_that_runs_has_a_report_of_how_it_stands(app: Account) -> None:
    async with CallClient(app.ws, START, app_id=app.app_id, secret=app.secret) as client:
        await client.send_audio(DIALOGUE)
        await until(client, Segment, lambda one: one.state == "closed")
        status, text, headers = await page(app, f"/v1/calls/{client.call_id}/report")
        assert (status, "The call is going on" in text, "<audio" in text) == (200, True, False)
        assert "media-src" not in headers["Content-Security-Policy"]
        await client.hang_up()
        await until(client, Ended)


async def test_a_task_of_other_origin_has_a_report_without_a_recording(
    server: EarshotServer, app: Account, tmp_path: Path
) -> None:
    recording = tmp_path / "one.wav"
    recording.write_bytes(wav_of(DIALOGUE))
    await app.quality.create(QualityTask("a/session", "demo", recording, RATE_HZ, 1, "en", ()))

    async def done() -> bool:
        return (await app.quality.result("demo", "a/session")).done

    await eventually(done)
    status, text, headers = await page(app, "/v1/quality/a%2Fsession/report")
    assert (status, "I want a refund." in text, "<audio" in text) == (200, True, False)
    assert headers["Content-Security-Policy"].startswith(policy(None))
    assert (await page(app, "/v1/quality/nothing/report"))[0] == 404
    async with client_of(server, "other", "hidden") as stranger:
        assert (await page(stranger, "/v1/quality/a%2Fsession/report"))[0] == 404


async def test_reports_want_credentials_and_another_apps_are_as_if_absent(server: EarshotServer, app: Account) -> None:
    log = await play(app, START, DIALOGUE, speed=0)
    for path in (f"/v1/calls/{log.call_id}/report", "/v1/quality/some/report"):
        async with app.session.get(app.http + path) as response:
            assert response.status == 401
            assert response.headers["WWW-Authenticate"] == 'Basic realm="earshot"'
    async with client_of(server, "other", "hidden") as stranger:
        foreign = await page(stranger, f"/v1/calls/{log.call_id}/report")
        absent = await page(stranger, "/v1/calls/nothing/report")
        assert foreign[:2] == (404, absent[1].replace("nothing", log.call_id))
