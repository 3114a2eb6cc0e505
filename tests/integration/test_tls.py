"""TLS on both listeners, and a certificate that changes while the server runs."""

import asyncio
import shutil
import signal
import ssl
import subprocess
from pathlib import Path

import aiohttp
import pytest

from gateway.app import EarshotServer
from gateway.doors.tls import BadCertificate
from gateway.settings import Settings
from protocol.messages import Ended, Start
from tests.client import account, play
from tests.earshot_process import HUMMED, EarshotProcess
from tests.integration.hummed import RATE_HZ, eventually, humming

OPENSSL = shutil.which("openssl")
needs_openssl = pytest.mark.skipif(OPENSSL is None, reason="makes certificates with the openssl command")


def certify(folder: Path, name: str) -> ssl.SSLContext:
    """Write cert.pem and key.pem, self-signed for 127.0.0.1; the context of a client that trusts it alone."""
    assert OPENSSL is not None
    certificate, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            *(OPENSSL, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return ssl.create_default_context(cafile=str(certificate))


@needs_openssl
async def test_both_listeners_speak_tls_and_take_a_new_certificate_on_sighup(tmp_path: Path) -> None:
    first = certify(tmp_path, "first")
    environment = {
        "EARSHOT_APPS": "demo:secret",
        "EARSHOT_TLS_CERT": str(tmp_path / "cert.pem"),
        "EARSHOT_TLS_KEY": str(tmp_path / "key.pem"),
    }
    with EarshotProcess(tmp_path / "data", environment, module=HUMMED) as server:
        assert server.http.startswith("https://")
        assert server.ws.startswith("wss://")
        await both_listeners_answer(server, first)

        second = certify(tmp_path, "second")
        server.signal(signal.SIGHUP)
        await eventually(lambda: accepts(server, second))
        await both_listeners_answer(server, second)
        assert not await accepts(server, first)

        (tmp_path / "cert.pem").write_text("no certificate")
        server.signal(signal.SIGHUP)

        async def complained() -> bool:
            return "certificate_not_reloaded" in server.log

        await eventually(complained)
        await both_listeners_answer(server, second)
        assert await asyncio.to_thread(server.stop) == 0


async def both_listeners_answer(server: EarshotProcess, trust: ssl.SSLContext) -> None:
    start = Start(rate=RATE_HZ, channels=1)
    async with account(server.http, server.ws, "demo", "secret") as app:
        log = await play(app, start, humming((0, 200)), speed=0, tls=trust)
        assert log.one(Ended).reason == "hangup"
        async with app.session.get(f"{server.http}/v1/calls/{log.call_id}", headers=app.headers, ssl=trust) as told:
            assert told.status == 200


async def accepts(server: EarshotProcess, trust: ssl.SSLContext) -> bool:
    """Whether the server shows a certificate that `trust` trusts."""
    async with aiohttp.ClientSession() as session:
        try:
            async with session.get(f"{server.http}/healthz", ssl=trust) as response:
                return response.status == 200
        except aiohttp.ClientConnectorCertificateError:
            return False


def test_a_certificate_that_cannot_be_read_ends_the_start_with_its_name(tmp_path: Path, models_free: None) -> None:
    (tmp_path / "cert.pem").write_text("no certificate")
    settings = Settings(
        data=str(tmp_path / "data"), tls_cert=str(tmp_path / "cert.pem"), tls_key=str(tmp_path / "key.pem")
    )
    with pytest.raises(BadCertificate, match=r"tls_cert .*cert\.pem, tls_key .*key\.pem: "):
        EarshotServer(settings)
