"""What the native socket answers to bad input: a coded error that names the fault, and nobody else is touched."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import msgspec
import pytest
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from gateway.ports import QualityAnswer
from protocol.codec import MAX_MESSAGE_BYTES, encode_framed
from protocol.errors import CODES
from protocol.messages import Ack, ClientTranscript, Continue, Ended, Error, Hangup, Pause, Ping, Pong, Start, Started
from tests.integration.world import Options, Wire, World, running, signed
from tests.unit.call.sound import silence, voice


async def refusal_of(wire: Wire) -> tuple[Error, int, str]:
    """The error that ends the socket, its close code and reason."""
    code, reason = await wire.closed()
    error = wire.log[-1]
    assert isinstance(error, Error)
    assert CODES[error.code].close == code
    assert CODES[error.code].retryable == error.retryable
    assert reason == error.code
    return error, code, reason


# --- the upgrade -------------------------------------------------------------------------------------------------


async def refused_upgrade(world: World, **options: Any) -> tuple[int, dict[str, str]]:
    with pytest.raises(InvalidStatus) as refused:
        async with world.wire(**options):
            pass
    response = refused.value.response
    assert response.headers["Content-Type"] == "application/json"
    return response.status_code, msgspec.json.decode(response.body or b"", type=dict[str, str])


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-App-Key": "demo"},
        {**signed("demo"), "X-App-Signature": "AAAA"},
        {**signed("demo"), "X-Timestamp": "1000000000"},
        {**signed("demo"), "X-App-Key": "nobody"},
        {"Authorization": "Basic " + base64.b64encode(b"demo:wrong").decode()},
        {"Authorization": "Basic not-base64"},
    ],
)
async def test_without_good_credentials_the_upgrade_is_refused_with_401(world: World, headers: dict[str, str]) -> None:
    status, body = await refused_upgrade(world, additional_headers=headers)
    assert (status, body["code"]) == (401, "access_denied")
    assert "X-App-Key" in body["message"]


async def test_http_basic_opens_the_socket(world: World) -> None:
    basic = {"Authorization": "Basic " + base64.b64encode(b"demo:demo-secret").decode()}
    async with world.wire(additional_headers=basic) as wire:
        await wire.send(Start())
        await wire.until(Started)


async def test_another_path_is_not_found(world: World) -> None:
    world.url = world.url.replace("/v1/calls", "/v1/cats")
    assert await refused_upgrade(world) == (
        404,
        {"code": "not_found", "message": "the sockets are at /v1/calls and /v1/watch"},
    )


@pytest.mark.parametrize("origin", ["https://elsewhere.example", "null", "http://[bad"])
async def test_a_page_of_a_foreign_origin_is_refused(world: World, origin: str) -> None:
    status, body = await refused_upgrade(world, origin=origin)
    assert (status, body["code"]) == (403, "foreign_origin")


async def test_an_upgrade_that_repeats_a_header_is_a_bad_request(world: World) -> None:
    twice = [*signed("demo").items(), ("X-App-Key", "other")]
    status, body = await refused_upgrade(world, additional_headers=twice)
    assert (status, body["code"]) == (400, "bad_request")
    assert "X-App-Key" in body["message"]


async def test_a_wrong_subprotocol_is_refused_and_the_right_one_named(world: World) -> None:
    status, body = await refused_upgrade(world, subprotocols=[Subprotocol("chat")])
    assert (status, body["code"]) == (400, "bad_subprotocol")
    assert "earshot.v1" in body["message"]


# --- the first message -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "code", "names"),
    [
        ('{"type":"ping"}', "start_expected", "ping"),
        ('{"type":"hangup"}', "start_expected", "hangup"),
        (b"\0\0", "start_expected", "binary"),
        ('{"type":"hello"}', "unknown_type", "hello"),
        ('{"rate":8000}', "unknown_type", "no `type`"),
        ("{nonsense", "bad_json", "JSON"),
        ("[1, 2]", "bad_json", "object"),
        ("", "bad_json", "JSON"),
        ('"\\ud800"', "bad_json", "JSON"),
        ("[" * 5000, "bad_json", "JSON"),
        ('{"type":"start","rate":11025}', "bad_message", "$.rate"),
        ('{"type":"start","encoding":"opus"}', "bad_message", "$.encoding"),
        ('{"type":"start","channels":3}', "bad_message", "$.channels"),
        ('{"type":"start","channels":1,"roles":["agent","customer"]}', "bad_message", "$.roles"),
        ('{"type":"start","colour":"red"}', "bad_message", "colour"),
        ('{"type":"resume","call_id":"x"}', "bad_message", "resume_token"),
        ('{"type":"resume","call_id":"../x","resume_token":"t","last_seq":0}', "bad_message", "$.call_id"),
        ('{"type":"resume","call_id":"x","resume_token":"t","last_seq":0}', "unknown_call", "x"),
    ],
)
async def test_a_bad_first_message_is_answered_with_what_was_expected(
    world: World, first: str | bytes, code: str, names: str
) -> None:
    async with world.wire() as wire:
        await wire.send(first)
        error, _, _ = await refusal_of(wire)
    assert error.code == code
    assert names in error.message
    assert (error.seq, error.call_id) == (0, "")
    assert len(world.calls) == 0


async def test_no_first_message_in_time_is_a_timeout(tmp_path: Path) -> None:
    async with running(tmp_path, Options(first_message_timeout_s=0.01)) as world, world.wire() as wire:
        error, _, _ = await refusal_of(wire)
        assert error.code == "timeout"
        assert error.message == "no first message within 0.01 s; expected start or resume"


async def test_a_full_server_says_when_to_try_again(tmp_path: Path) -> None:
    async with running(tmp_path, Options(max_calls=1)) as world, world.call():
        async with world.wire() as wire:
            await wire.send(Start())
            error, _, _ = await refusal_of(wire)
            assert (error.code, error.retry_after_ms) == ("overloaded", 5000)
        status, body = await refused_upgrade(world, additional_headers=signed("other"))
        assert (status, body["code"]) == (503, "overloaded")


# --- within a call -----------------------------------------------------------------------------------------------


async def test_unknown_types_and_bad_json_end_the_socket_but_the_call_can_be_resumed(world: World) -> None:
    async with world.call() as wire:
        await wire.send(silence(100))
        await wire.send({"type": "bogus"})
        error, _, _ = await refusal_of(wire)
    assert error.code == "unknown_type"
    assert "start, update, pause" in error.message
    resume = {"call_id": wire.started.call_id, "resume_token": wire.started.resume_token, "last_seq": 1}
    async with world.wire() as second:
        await second.send({"type": "resume", **resume})
        await second.send(Hangup())
        ended = await second.until(Ended)
    assert ended.samples == 800


@pytest.mark.parametrize(
    ("payload", "names"),
    [
        (b"\x01\xff\0", "its header alone takes 16"),
        (encode_framed(b"\0\0\0", 0, 0), "3 bytes of audio; expected a multiple of 2"),
        (b"\x02" + encode_framed(b"", 0, 0)[1:], "version 2"),
        (encode_framed(b"", 0, 0, channel=1), "channel 1 of a call with 1"),
        (encode_framed(b"\0\0", 0, 1 << 50), "beyond any call"),
        (encode_framed(b"\0\0", 0, 8000 * 121), "over 120 s missing"),
    ],
)
async def test_a_bad_audio_frame_names_its_fault_and_what_came_before_is_kept(
    world: World, payload: bytes, names: str
) -> None:
    async with world.call(framing="framed") as wire:
        await wire.send(encode_framed(voice(100), 0, 0))
        await wire.until(Ack, lambda ack: ack.samples == 800)
        await wire.send(payload)
        error, _, _ = await refusal_of(wire)
    assert error.code == "bad_audio"
    assert names in error.message
    session = world.calls.find("demo", wire.started.call_id)
    assert session is not None
    assert session.samples == 800


async def test_raw_audio_that_ends_inside_a_sample_is_reported_and_the_rest_recorded(world: World) -> None:
    pcm = voice(100)
    async with world.call() as wire:
        await wire.send(pcm + b"\x7f")
        await wire.send(Hangup())
        ended = await wire.until(Ended)
    [error] = wire.logged(Error)
    assert (error.code, error.seq, error.call_id) == ("partial_sample", 0, wire.started.call_id)
    assert "1 of the 2 bytes" in error.message
    assert ended.samples == 800
    assert world.recorded_pcm(wire.started.call_id) == pcm


async def test_an_oversized_message_closes_with_1009(world: World) -> None:
    async with world.call() as wire:
        await wire.send(silence(100))
        await wire.send(bytes(MAX_MESSAGE_BYTES + 1))
        code, _ = await wire.closed()
    assert code == 1009
    session = world.calls.find("demo", wire.started.call_id)
    assert session is not None
    assert session.live


async def test_messages_that_the_state_does_not_allow_change_nothing(world: World) -> None:
    async with world.call() as wire:
        for message in (Continue(), Start(), Pause(), Pause(), ClientTranscript(text="x", begin_ms=0, end_ms=1)):
            await wire.send(message)
        await wire.send(Ping(id="all answered"))
        await wire.until(Pong)
        await wire.send(Continue())
        await wire.send(voice(100))
        await wire.send(Hangup())
        await wire.until(Ended)
    errors = wire.logged(Error)
    assert [error.code for error in errors] == ["unexpected_message"] * 4
    assert {error.seq for error in errors} == {0}
    assert errors[0].message == "Continued cannot happen while the call is live"
    assert world.recorded_pcm(wire.started.call_id) == voice(100)


async def test_a_sentence_on_a_channel_that_is_not_there_is_a_bad_message(world: World) -> None:
    async with world.call() as wire:
        await wire.send(ClientTranscript(text="x", begin_ms=0, end_ms=1, channel=1))
        error, _, _ = await refusal_of(wire)
    assert (error.code, error.message) == ("bad_message", "channel 1, 0 to 1 ms")


async def test_hanging_up_twice_ends_the_call_once(tmp_path: Path) -> None:
    async with running(tmp_path, Options(qc_result=None)) as world:
        async with world.call() as wire:
            await wire.send(voice(100))
            await wire.send(Hangup())
            await wire.send(Hangup(reason="again"))
            await wire.send(Ping())
            await wire.until(Pong)
            await world.calls.note_verdict("demo", wire.started.call_id, QualityAnswer(2, "done", {}))
            code, _ = await wire.closed()
        assert code == 1000
        assert [ended.reason for ended in wire.logged(Ended)] == ["hangup"]
        assert wire.logged(Error) == []
    assert len(world.tasks.tasks) == 1


async def test_audio_after_the_hangup_is_refused_and_not_recorded(tmp_path: Path) -> None:
    async with running(tmp_path, Options(qc_result=None)) as world, world.call() as wire:
        await wire.send(voice(100))
        await wire.send(Hangup())
        await wire.send(voice(100))
        error = await wire.until(Error)
        assert error.code == "unexpected_message"
        session = world.calls.find("demo", wire.started.call_id)
        assert session is not None
        assert session.samples == 800


async def test_without_audio_for_too_long_the_socket_times_out_but_not_in_a_pause(tmp_path: Path) -> None:
    async with running(tmp_path, Options(audio_timeout_s=0.05)) as world:
        async with world.call() as wire:
            await wire.send(Pause())
            await asyncio.sleep(0.1)  # twice what would time out; nothing must happen, so nothing can be awaited
            await wire.send(Ping(id="still here"))
            await wire.until(Pong)
            await wire.send(Continue())
            error, _, _ = await refusal_of(wire)
        assert (error.code, error.message) == ("timeout", "no audio for 0.05 s outside a pause")


async def test_a_call_longer_than_allowed_is_hung_up(tmp_path: Path) -> None:
    async with running(tmp_path, Options(max_call_s=1)) as world, world.call() as wire:
        await wire.send(silence(1100))
        ended = await wire.until(Ended)
        assert ended.reason == "max_duration"


async def test_other_calls_are_untouched_while_one_misbehaves(tmp_path: Path) -> None:
    pcm = voice(2000)
    async with running(tmp_path, Options(max_calls=100)) as world, world.call() as good:
        for at in range(0, len(pcm), 1600):
            await good.send(pcm[at : at + 1600])
            async with world.call() as bad:
                await bad.send('{"type":"bogus"}' if at % 3200 else b"\0" * (MAX_MESSAGE_BYTES + 1))
                await bad.closed()
        await good.send(Hangup())
        ended = await good.until(Ended)
        assert ended.samples == len(pcm) // 2
    assert good.logged(Error) == []
    assert world.recorded_pcm(good.started.call_id) == pcm
