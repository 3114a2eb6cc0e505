"""The HTTP side under pressure: peers that hold connections, a full disk, too many requests of one app."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from gateway.doors.http_guard import GuardedSite, HttpLimits, guard_requests
from gateway.telemetry import Metrics
from protocol.quality import CREATE_PATH
from protocol.voiceprint import signed_headers
from tests.integration.hummed import client_of, eventually, humming, serving
from tests.voices import wav

PATIENCE_S = 20


async def is_cut(reader: asyncio.StreamReader) -> bool:
    """Read to the end; whether the peer said nothing before it."""
    try:
        return not await reader.read()
    except ConnectionResetError:
        return True


@asynccontextmanager
async def guarded(limits: HttpLimits, metrics: Metrics | None = None) -> AsyncIterator[int]:
    """The port of a small application behind the guard: `/` answers at once, `/echo` its body."""

    async def hello(_: web.Request) -> web.Response:
        return web.Response(text="hello")

    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    application = web.Application(middlewares=[guard_requests])
    application.add_routes([web.get("/", hello), web.post("/echo", echo)])
    runner = web.AppRunner(application, keepalive_timeout=limits.idle_timeout_s, access_log=None)
    await runner.setup()
    await GuardedSite(runner, "127.0.0.1", 0, None, limits, metrics or Metrics()).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n"


async def test_fifty_peers_that_drip_their_headers_are_cut_and_others_are_served() -> None:
    metrics = Metrics()
    async with asyncio.timeout(PATIENCE_S), guarded(HttpLimits(head_timeout_s=0.3), metrics) as port:
        drippers = [await asyncio.open_connection("127.0.0.1", port) for _ in range(50)]
        for _, writer in drippers:
            writer.write(HEAD)
        async with aiohttp.ClientSession() as client, client.get(f"http://127.0.0.1:{port}/") as answer:
            assert await answer.text() == "hello"
        assert all([await is_cut(reader) for reader, _ in drippers])
        for _, writer in drippers:
            writer.close()
    assert metrics.refused.labels("slow_head")._value.get() == 50


async def test_a_second_request_of_a_connection_may_not_drip_either() -> None:
    async with asyncio.timeout(PATIENCE_S), guarded(HttpLimits(head_timeout_s=0.3)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEAD + b"\r\n")
        assert b"200 OK" in await reader.readuntil(b"hello")
        writer.write(HEAD)
        assert await is_cut(reader)
        writer.close()


async def test_an_idle_connection_may_be_used_again_after_the_time_for_a_head() -> None:
    async with asyncio.timeout(PATIENCE_S), guarded(HttpLimits(head_timeout_s=0.1)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(HEAD + b"\r\n")
            assert b"200 OK" in await reader.readuntil(b"hello")
            await asyncio.sleep(0.3)  # longer than a head may take; nothing must happen, so nothing can be awaited
        writer.close()


async def test_an_idle_connection_is_closed_in_the_end() -> None:
    async with asyncio.timeout(PATIENCE_S), guarded(HttpLimits(idle_timeout_s=0.1)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEAD + b"\r\n")
        assert b"200 OK" in await reader.readuntil(b"hello")
        assert await is_cut(reader)
        writer.close()


async def test_a_body_that_drips_is_cut_and_one_that_flows_is_not() -> None:
    limits = HttpLimits(body_window_s=0.2, min_body_bytes_per_s=100)
    metrics = Metrics()
    async with asyncio.timeout(PATIENCE_S), guarded(limits, metrics) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n1234")
        assert await is_cut(reader)
        writer.close()
        assert metrics.refused.labels("slow_body")._value.get() == 1

        async def flowing() -> AsyncIterator[bytes]:
            for _ in range(10):
                yield bytes(1000)
                await asyncio.sleep(0.05)

        url = f"http://127.0.0.1:{port}/echo"
        async with aiohttp.ClientSession() as client, client.post(url, data=flowing()) as answer:
            assert await answer.read() == bytes(10_000)


async def test_of_too_many_idle_connections_the_oldest_go() -> None:
    async with asyncio.timeout(PATIENCE_S), guarded(HttpLimits(max_strangers=3)) as port:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(10)]
        assert all([await is_cut(reader) for reader, _ in idle[:7]])
        async with aiohttp.ClientSession() as client, client.get(f"http://127.0.0.1:{port}/") as answer:
            assert answer.status == 200
        for _, writer in idle:
            writer.close()


# --- the whole server ------------------------------------------------------------------------------------------------


async def test_a_full_disk_refuses_uploads_voices_and_calls_with_their_own_codes(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, apps="demo:secret", disk_low_mb=1 << 40) as server,
        client_of(server) as account,
        aiohttp.ClientSession(headers=signed_headers("demo", "secret", time.time())) as client,
    ):
        http = server.addresses.http
        async with client.get(f"{http}/readyz") as answer:
            assert answer.status == 503
            assert "low-water mark" in (await answer.json())["status"]
        async with client.get(f"{http}/metrics") as answer:
            assert "earshot_disk_free_bytes" in await answer.text()
        form = aiohttp.FormData({"org_id": "demo", "tag_id": "t", "spk_name": "Anna"})
        form.add_field("audio", wav(humming((100, 3000)), 8000), filename="a.wav")
        async with client.post(f"{http}/voiceid/register", data=form) as answer:
            registered = await answer.json()
            assert registered["code"] == "16003"
            assert "low-water mark" in registered["msg"]
        token_url = URL(f"{http}/oauth/2.0/token").with_query(
            grant_type="client_credentials", client_id="demo", client_secret="secret"
        )
        async with client.get(token_url) as answer:
            token = (await answer.json())["access_token"]
        speech = base64.b64encode(wav(humming((100, 1000)), 8000)).decode()
        order = {"session_id": "s", "speech_data": speech, "pid": 80006}
        async with client.post(URL(f"{http}{CREATE_PATH}").with_query(access_token=token), json=order) as answer:
            created = await answer.json()
            assert created["error_code"] == 2
            assert "low-water mark" in created["error_message"]
            assert answer.headers["Retry-After"] == "60"
        async with client.get(server.addresses.ws.replace("ws://", "http://"), headers=UPGRADE) as answer:
            assert (answer.status, (await answer.json())["code"]) == (503, "overloaded")
        assert account.app_id == "demo"


UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
    "Sec-WebSocket-Protocol": "earshot.v1",
}


async def test_one_request_more_than_an_app_may_have_under_way_is_refused_with_10800(tmp_path: Path) -> None:
    async with serving(tmp_path, apps="demo:secret,other:secret", max_requests_per_app=1) as server:
        url = URL(server.addresses.http)
        signed = signed_headers("demo", "secret", time.time())
        head = "".join(f"{name}: {value}\r\n" for name, value in signed.items())
        assert url.host is not None
        _, writer = await asyncio.open_connection(url.host, url.port)
        # The first request has begun, and its body is still on the way.
        writer.write(
            f"POST /voiceid/recognize HTTP/1.1\r\nHost: x\r\n{head}"
            "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 50\r\n\r\norg_id".encode()
        )

        async def code(app_id: str) -> str:
            headers = signed_headers(app_id, "secret", time.time())
            async with (
                aiohttp.ClientSession(headers=headers) as client,
                client.get(url / "voiceid/count", params={"org_id": "demo"}) as answer,
            ):
                return str((await answer.json())["code"])

        async def refused() -> bool:
            return await code("demo") == "10800"

        async def welcome() -> bool:
            return await code("demo") == "0"

        await eventually(refused)
        assert await code("other") == "0"
        writer.close()
        await eventually(welcome)


@pytest.mark.parametrize("name", ["http", "ws"])
async def test_both_listeners_of_the_server_cut_peers_that_send_nothing(tmp_path: Path, name: str) -> None:
    async with asyncio.timeout(PATIENCE_S), serving(tmp_path, handshake_timeout_s=0.2) as server:
        url = URL(getattr(server.addresses, name))
        assert url.host is not None
        reader, writer = await asyncio.open_connection(url.host, url.port)
        assert await is_cut(reader)
        writer.close()
