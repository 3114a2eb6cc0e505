"""Audio as it comes, through the decoder that a server uses: every promised format, and media made to do harm."""

from __future__ import annotations

import io
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.engines.decode import AvDecoder, decoder_pool
from gateway.voiceprint.clip import MAX_KEPT_BYTES
from protocol.voiceprint import MAX_AUDIO_S
from tests.voiceprint_calls import ORG, Client, get, post, routes_of
from tests.voices import Desk, samples_of, voice, wav

MIB = 2**20


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    pool = decoder_pool()
    await pool.start()
    decoder = AvDecoder(pool, tmp_path / "spool")
    decoder.prepare()
    desk = Desk(tmp_path, decoder=decoder, max_bytes=64 * MIB)
    await desk.service.start()
    yield desk
    await desk.close()
    await pool.stop()
    assert not spooled(tmp_path), "a decoded file was left behind"


def spooled(folder: Path) -> list[Path]:
    return list((folder / "spool").iterdir())


@pytest.fixture
async def http(desk: Desk) -> AsyncIterator[Client]:
    async with routes_of(desk) as client:
        yield client


def media(
    container: str, codec: str, samples: NDArray[np.int16], rate_hz: int, *, film: bool = False, options: str = ""
) -> bytes:
    """Samples of shape (n, channels) as a file; as a `film`, with pictures before the sound."""
    file = io.BytesIO()
    layout = {1: "mono", 2: "stereo", 8: "7.1"}[samples.shape[1]]
    with av.open(file, "w", format=container) as out:
        if film:
            pictures = out.add_stream("mpeg4", rate=10)
            pictures.width = pictures.height = 32
            pictures.pix_fmt = "yuv420p"
        stream = out.add_stream(codec, rate=rate_hz, layout=layout, options={"compression_level": options or "0"})
        if film:
            black = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            out.mux([*pictures.encode(black), *pictures.encode(None)])
        resampler = av.AudioResampler(format=stream.format.name, layout=layout, frame_size=stream.frame_size or 4096)
        for begin in range(0, len(samples), 2**20):
            part = samples[begin : begin + 2**20].reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(part, format="s16", layout=layout)
            frame.sample_rate = rate_hz
            out.mux([packet for one in resampler.resample(frame) for packet in stream.encode(one)])
        out.mux([packet for one in resampler.resample(None) for packet in stream.encode(one)])
        out.mux(stream.encode(None))
    return file.getvalue()


def spoken(speaker: int, rate_hz: int, channels: int = 1, *, take: int = 0) -> NDArray[np.int16]:
    mono = np.frombuffer(voice(speaker, rate_hz=rate_hz, take=take, seconds=1.5), "<i2")
    return np.repeat(mono[:, None], channels, axis=1)


@pytest.mark.parametrize(
    ("name", "container", "codec", "rate_hz", "channels", "film"),
    [
        ("a.wav", "wav", "pcm_s16le", 8000, 1, False),
        ("a.wav", "wav", "pcm_s24le", 44100, 2, False),
        ("a.wav", "wav", "pcm_mulaw", 8000, 1, False),
        ("a.wav", "wav", "pcm_f32le", 48000, 2, False),
        ("a.flac", "flac", "flac", 96000, 2, False),
        ("a.mp3", "mp3", "libmp3lame", 22050, 1, False),
        ("a.m4a", "ipod", "aac", 44100, 2, False),
        ("a.aac", "adts", "aac", 16000, 1, False),
        ("a.opus", "ogg", "libopus", 48000, 1, False),
        ("a.webm", "webm", "libopus", 48000, 2, False),
        ("a.mp4", "mp4", "aac", 48000, 2, True),
        ("a.mkv", "matroska", "aac", 16000, 1, True),
        ("a", "mp3", "libmp3lame", 16000, 1, False),
        ("wrong.wav", "flac", "flac", 16000, 1, False),
    ],
)
async def test_every_promised_format_rate_and_channel_count_is_heard(
    http: Client, name: str, container: str, codec: str, rate_hz: int, channels: int, film: bool
) -> None:
    for speaker in range(3):
        answer = await post(http, "/voiceid/register", wav(voice(speaker)), spk_name=f"v{speaker}")
        assert answer["code"] == "0"
    audio = media(container, codec, spoken(1, rate_hz, channels, take=1), rate_hz, film=film)
    found = await post(http, "/voiceid/recognize", audio, filename=name, kind="application/octet-stream")
    assert (found["code"], found["data"][0]["spk_name"]) == ("0", "v1"), found
    assert (await post(http, "/voiceid/register", audio, filename=name, spk_name="kept"))["code"] == "0"
    link = (await get(http, "/voiceid/voice-url", **ORG, spk_name="kept"))["data"]["audio_path"]
    async with http.get(link.removeprefix("http://voices.example")) as response:
        kept = samples_of(await response.read())
    assert kept.shape[1] == channels, "the original is kept, at its own rate and channels"
    assert len(kept) == pytest.approx(1.5 * rate_hz, rel=0.1)


@pytest.mark.parametrize(("ms", "code"), [(199, "10107"), (200, "0")])
async def test_the_shortest_recording_that_is_taken_has_a_fifth_of_a_second(http: Client, ms: int, code: str) -> None:
    answer = await post(http, "/voiceid/register", wav(voice(1)[: 2 * 16 * ms]), spk_name="a")
    assert answer["code"] == code
    if code != "0":
        assert answer["data"] == {"reason": "too_short", "measured": answer["data"]["measured"]}
        assert answer["data"]["measured"]["duration_ms"] == 199


async def test_what_lies_past_five_minutes_does_not_count_and_is_not_kept(http: Client, desk: Desk) -> None:
    quiet = np.zeros((8000 * MAX_AUDIO_S, 1), np.int16)
    late = np.concatenate([quiet, spoken(1, 8000)])
    for audio in (wav(late.tobytes(), 8000), media("flac", "flac", late, 8000)):
        answer = await post(http, "/voiceid/register", audio, spk_name="late")
        assert answer["data"]["reason"] == "silence"
    early = np.concatenate([spoken(1, 8000), quiet, spoken(2, 8000)])
    assert (await post(http, "/voiceid/register", media("flac", "flac", early, 8000), spk_name="early"))["code"] == "0"
    assert desk.embedder.heard_ms == [MAX_AUDIO_S * 1000]


QUIET = np.frombuffer(voice(1), "<i2") // 200
CLIPPED = np.clip(np.frombuffer(voice(1), "<i2").astype(int) * 20, -32768, 32767)
POOR = {
    "silence": bytes(32000),
    "too_quiet": QUIET.astype("<i2").tobytes(),
    "clipped": CLIPPED.astype("<i2").tobytes(),
    "too_short": voice(1, seconds=0.1),
    "no_speech": (np.random.default_rng(9).standard_normal(16000) * 4000).astype("<i2").tobytes(),
}


async def test_poor_audio_is_refused_with_reason_and_measurements_and_nothing_is_stored(
    http: Client, desk: Desk
) -> None:
    await post(http, "/voiceid/register", wav(voice(3)), spk_name="there")
    before = desk.database.run_blocking(lambda connection: "".join(connection.iterdump()))
    for reason, pcm in POOR.items():
        for path in ("/voiceid/register", "/voiceid/update", "/voiceid/recognize"):
            answer = await post(http, path, wav(pcm), spk_name="a" if path.endswith("register") else "there")
            assert (answer["code"], answer["data"]["reason"]) == ("10107", reason)
            measured = answer["data"]["measured"]
            assert {"duration_ms", "level_dbfs", "peak_dbfs", "clipped_share"} <= set(measured)
            assert any(character.isdigit() for character in answer["msg"]), "the text has the value too"
    assert desk.database.run_blocking(lambda connection: "".join(connection.iterdump())) == before


# --- media made to do harm ---


def peak_memory_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split("kB")[0]) * 1024


def forget_peak_memory() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return peak_memory_bytes()


def flac_bomb() -> bytes:
    """A few kilobytes that unpack to 138 MB: eight channels of silence at 192 kHz."""
    return media("flac", "flac", np.zeros((192_000 * 45, 8), np.int16), 192_000)


async def test_a_flac_that_unpacks_to_hundreds_of_megabytes_costs_little_memory(http: Client) -> None:
    bomb = flac_bomb()
    assert len(bomb) < MIB
    before = forget_peak_memory()
    answer = await post(http, "/voiceid/register", bomb, filename="a.flac", spk_name="a")
    assert (answer["code"], answer["data"]["reason"]) == ("10107", "silence")
    assert peak_memory_bytes() - before < MAX_KEPT_BYTES


async def test_an_opus_of_hours_is_heard_for_five_minutes(http: Client, desk: Desk) -> None:
    """Two hours of silence in a file of a few kilobytes a minute: the same stretch, chained again and again."""
    stretch = media("ogg", "libopus", np.zeros((48_000 * 20, 1), np.int16), 48_000)
    before = forget_peak_memory()
    answer = await post(http, "/voiceid/register", stretch * 360, filename="a.opus", spk_name="a")
    assert (answer["code"], answer["data"]["reason"]) == ("10107", "silence")
    assert answer["data"]["measured"]["duration_ms"] <= MAX_AUDIO_S * 1000
    assert peak_memory_bytes() - before < 2 * MAX_KEPT_BYTES


def header(*, channels: int = 1, rate_hz: int = 16000, bits: int = 16, claimed_bytes: int, data: bytes) -> bytes:
    align = channels * bits // 8
    fmt = struct.pack("<HHIIHH", 1, channels, rate_hz, min(rate_hz * align, 2**32 - 1), align % 65536, bits)
    head = b"RIFF" + struct.pack("<I", min(36 + claimed_bytes, 2**32 - 1)) + b"WAVEfmt " + struct.pack("<I", 16) + fmt
    return head + b"data" + struct.pack("<I", claimed_bytes) + data


BOMBS = {
    "2^31 frames": header(claimed_bytes=2**32 - 1, data=voice(1)),
    "no data": header(claimed_bytes=2**31, data=b""),
    "65535 channels": header(claimed_bytes=2**32 - 2, channels=65535, data=bytes(1000)),
    "4 GHz": header(claimed_bytes=2**32 - 2, rate_hz=2**32 - 1, data=bytes(1000)),
    "no channel": header(claimed_bytes=2**31, channels=0, data=bytes(1000)),
    "no rate": header(claimed_bytes=2**31, rate_hz=0, data=bytes(1000)),
    "no bits": header(claimed_bytes=1000, bits=0, data=bytes(1000)),
    "rubbish": b"RIFF" + b"\xff" * 40,
}


async def test_a_wav_that_claims_what_it_does_not_hold_costs_nothing(http: Client) -> None:
    for what, bomb in BOMBS.items():
        before = forget_peak_memory()
        answer = await post(http, "/voiceid/recognize", bomb)
        # What is there of the voice in the first is heard.
        assert answer["code"] in (("0",) if what == "2^31 frames" else ("10107", "10701")), (what, answer)
        assert peak_memory_bytes() - before < MAX_KEPT_BYTES, what


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile://{victim}\n#EXT-X-ENDLIST\n",
    "m3u": "#EXTM3U\n#EXTINF:10,\nconcat:{victim}|{victim}\n",
    "concat": "ffconcat version 1.0\nfile '{victim}'\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=audio 9 RTP/AVP 0\n",
    "dash": '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><BaseURL>{victim}</BaseURL></Period></MPD>',
}


async def test_a_playlist_is_no_audio_whatever_it_is_called(http: Client, tmp_path: Path) -> None:
    victim = tmp_path / "victim.wav"
    victim.write_bytes(wav(voice(1)))
    for kind, playlist in PLAYLISTS.items():
        for name in ("a.wav", f"a.{kind}"):
            answer = await post(http, "/voiceid/recognize", playlist.format(victim=victim).encode(), filename=name)
            assert answer["code"] == "10701", (kind, name, answer)


async def test_twenty_bombs_in_one_request_are_refused_before_memory_is_gone(http: Client) -> None:
    long = np.zeros((48_000 * 290, 2), np.int16)
    long[:48_000] = spoken(1, 48_000, 2)[:48_000]
    bomb = media("flac", "flac", long, 48_000)
    before = forget_peak_memory()
    answer = await post(http, "/voiceid/register", [bomb] * 20, filename="a.flac", spk_name="a")
    assert answer["code"] == "10107"
    assert "send them apart" in answer["msg"]
    assert peak_memory_bytes() - before < 450 * MIB
