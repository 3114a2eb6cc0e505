"""The vendor's public clients, which know nothing of us: their requests as they make them, against a whole server.

The Python client is `requests` with one set of signed headers for its whole run; the Java client is OkHttp, whose
bytes are written out here: file first, each part with its Content-Length, texts without a type.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import io
import json
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from gateway.app import EarshotServer
from tests.integration.hummed import serving
from tests.voices import encoded, samples_of, voice, wav

APP_ID, SECRET = "595f23df", "canary-secret"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EarshotServer]:
    async with serving(tmp_path / "data", apps=f"{APP_ID}:{SECRET}") as one:
        yield one


def signature(ts: str) -> str:
    """As the vendor's document computes it, written out once more: nothing here is to lean on our own code."""
    base = hashlib.md5((APP_ID + ts).encode()).hexdigest()
    return base64.b64encode(hmac.new(SECRET.encode(), base.encode(), hashlib.sha1).digest()).decode()


class PythonClient:
    """Signs once; the org and the tag are the app's id; files keep their own names; answers are read as JSON."""

    def __init__(self, url: str, signed_s_ago: int = 0) -> None:
        ts = str(int(time.time()) - signed_s_ago)
        self.url = url
        self.headers = {"X-App-Key": APP_ID, "X-App-Signature": signature(ts), "X-Timestamp": ts}
        self.scope = {"org_id": APP_ID, "tag_id": APP_ID}

    def _post(self, path: str, filename: str, audio: bytes, **fields: str) -> Any:
        file = io.BytesIO(audio)
        file.name = f"../dataset/{filename}"  # what an opened file has; requests takes its last part
        values = {**self.scope, "denoise_audio": "0", "audio_preprocess": "false", **fields}
        return requests.post(self.url + path, headers=self.headers, files={"audio": file}, data=values).json()

    def _get(self, path: str, **params: str) -> Any:
        return requests.get(self.url + path, headers=self.headers, params={**self.scope, **params}).json()

    def register_voice(self, filename: str, audio: bytes, speaker: str) -> Any:
        return self._post("/voiceid/register", filename, audio, spk_name=speaker)

    def search_voice(self, filename: str, audio: bytes) -> Any:
        return self._post("/voiceid/recognize", filename, audio)

    def list_voices(self, **page: str) -> Any:
        return self._get("/voiceid/list", **page)

    def count_voices(self) -> Any:
        return self._get("/voiceid/count")

    def get_voice_url(self, speaker: str) -> Any:
        return self._get("/voiceid/voice-url", spk_name=speaker)

    def delete_speaker(self, speaker: str) -> Any:
        return self._get("/voiceid/del-spk-name", spk_name=speaker)

    def delete_all_speakers(self) -> Any:
        return self._get("/voiceid/delete-speakers")


async def test_the_python_client_completes_every_call(server: EarshotServer) -> None:
    files = {
        "张明": ("张明_01.wav", wav(voice(1))),
        "jiaozhu": ("777-126732-0004.flac", encoded(voice(2), "flac", "flac")),
        "sunny": ("sunny.m4a", encoded(voice(3), "ipod", "aac")),
        "emma": ("emma.mp3", encoded(voice(4), "mp3", "libmp3lame")),
    }

    def run() -> None:
        client = PythonClient(server.addresses.http, signed_s_ago=290)
        for speaker, (filename, audio) in files.items():
            assert client.register_voice(filename, audio, speaker) == {"code": "0", "msg": "success"}, filename
        assert client.count_voices() == {"code": "0", "msg": "success", "data": {"count": 4}}
        assert [one["spk_name"] for one in client.list_voices()["data"]] == ["emma", "sunny", "jiaozhu", "张明"]
        assert [one["spk_name"] for one in client.list_voices(limit="2", offset="1")["data"]] == ["sunny", "jiaozhu"]
        for number, (speaker, (filename, _)) in enumerate(files.items(), 1):
            found = client.search_voice(f"clip-{filename}.wav", wav(voice(number, take=7)))
            assert (found["code"], found["data"][0]["spk_name"]) == ("0", speaker)
            assert 90 < found["data"][0]["score"] <= 100.001
        again = client.register_voice("张明.wav", wav(voice(9)), "张明")
        assert again["code"] == "10107"
        link = client.get_voice_url("张明")["data"]["audio_path"]
        assert urlsplit(link).netloc == urlsplit(server.addresses.http).netloc
        played = requests.get(link)
        assert samples_of(played.content)[:, 0].astype("<i2").tobytes() == voice(1)
        assert client.delete_speaker("张明") == {"code": "0", "msg": "success"}
        assert client.get_voice_url("张明")["code"] == "10107"
        assert client.delete_all_speakers() == {"code": "0", "msg": "success"}
        assert client.count_voices()["data"] == {"count": 0}

    await asyncio.to_thread(run)


async def test_the_older_python_client_signs_its_query_and_sends_forms_with_a_link(server: EarshotServer) -> None:
    """The document's own words: credentials in the query, `x-www-form-urlencoded`, `spk-name` for voice-url."""

    def run() -> None:
        ts = str(int(time.time()))
        signed = {"appid": APP_ID, "ts": ts, "signa": signature(ts)}
        url = server.addresses.http
        form = {"spk_name": "sunny", "org_id": "abcpen", "tag_id": "tech", "audio": "http://192.168.0.1/a.wav"}
        assert requests.post(f"{url}/voiceid/register", params=signed, data=form).json()["code"] == "10107"
        fields = {name: text for name, text in form.items() if name != "audio"} | {"denoise_audio": "true"}
        for path in ("/voiceid/register/v2", "/voiceid/update"):
            files = {"audio": ("a.wav", wav(voice(1)))}
            done = requests.post(url + path, params=signed, data={**fields, "app_id": "abcpen"}, files=files).json()
            assert done == {"code": "0", "msg": "success"}
        scope = {"org_id": "abcpen", "tag_id": "tech"}
        files = {"audio": ("a.wav", wav(voice(1)))}
        asked = {"org_id": "abcpen", "denoise_enable": "1"}
        found = requests.post(f"{url}/voiceid/recognize/v2", params=signed, data=asked, files=files).json()
        assert [(hit["spk_name"], hit["tag"]) for hit in found["data"]] == [("sunny", "tech")]
        one = requests.get(f"{url}/voiceid/voice-url", params={**signed, **scope, "spk-name": "sunny"}).json()
        assert one["code"] == "0"
        named = requests.get(f"{url}/voiceid/delete-speakers", params={**signed, **scope, "speaker": ["sunny"]}).json()
        assert named == {"code": "0", "msg": "success"}
        assert requests.get(f"{url}/voiceid/delete-all", params={**signed, **scope}).json()["code"] == "0"

    await asyncio.to_thread(run)


# --- Java ---


def okhttp_form(filename: str, audio: bytes, fields: Iterable[tuple[str, str]]) -> tuple[bytes, bytes]:
    """The body of OkHttp's MultipartBody and its boundary, a UUID. Names are UTF-8, unescaped but for quotes."""
    boundary = b"3f2c5e1a-8b0d-4c7e-9a63-5d1f0e7b2c48"
    quoted = filename.replace('"', "%22").encode()
    body = b"--" + boundary + b'\r\nContent-Disposition: form-data; name="audio"; filename="' + quoted + b'"\r\n'
    body += b"Content-Type: audio/*\r\nContent-Length: " + str(len(audio)).encode() + b"\r\n\r\n" + audio + b"\r\n"
    for name, text in fields:
        value = text.encode()
        body += b"--" + boundary + b'\r\nContent-Disposition: form-data; name="' + name.encode() + b'"\r\n'
        body += b"Content-Length: " + str(len(value)).encode() + b"\r\n\r\n" + value + b"\r\n"
    return body + b"--" + boundary + b"--\r\n", boundary


async def okhttp(server: EarshotServer, method: str, path: str, body: bytes = b"", boundary: bytes = b"") -> Any:
    """One request in OkHttp's bytes, signed anew; the answer's JSON."""
    parts = urlsplit(server.addresses.http)
    ts = str(int(time.time()))
    head = [
        f"{method} {path} HTTP/1.1",
        f"X-App-Key: {APP_ID}",
        f"X-App-Signature: {signature(ts)}",
        f"X-Timestamp: {ts}",
        *(
            (f"Content-Type: multipart/form-data; boundary={boundary.decode()}", f"Content-Length: {len(body)}")
            if body
            else ()
        ),
        f"Host: {parts.netloc}",
        "Connection: Keep-Alive",
        "Accept-Encoding: gzip",
        "User-Agent: okhttp/4.9.3",
    ]
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write("\r\n".join([*head, "", ""]).encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        assert answer.startswith("http/1.1 200"), answer
        length = int(answer.split("content-length: ")[1].split("\r\n")[0])
        return json.loads(await reader.readexactly(length))
    finally:
        writer.close()
        await writer.wait_closed()


async def test_the_java_client_completes_every_call(server: EarshotServer) -> None:
    scope = [("org_id", "组织"), ("tag_id", "tag")]
    rest = [("denoise_audio", "0"), ("audio_preprocess", "false")]
    for number, name in enumerate(("张明", "O\u2019Neill \u201cSunny\u201d"), 1):
        form = okhttp_form(f'{name} "1".wav', wav(voice(number)), [("spk_name", name), *scope, *rest])
        assert await okhttp(server, "POST", "/voiceid/register", *form) == {"code": "0", "msg": "success"}
    form = okhttp_form("clip.wav", wav(voice(1, take=3)), [*scope, *rest])
    found = await okhttp(server, "POST", "/voiceid/recognize", *form)
    assert (found["code"], found["data"][0]["spk_name"]) == ("0", "张明")
    # Its addresses are put together from the bare texts; OkHttp escapes what is not ASCII.
    query = "org_id=%E7%BB%84%E7%BB%87&tag_id=tag"
    assert await okhttp(server, "GET", f"/voiceid/delete-speakers?{query}") == {"code": "0", "msg": "success"}
    assert (await okhttp(server, "GET", f"/voiceid/count?{query}"))["data"] == {"count": 0}
