"""Bytes to messages and back; whatever comes in, the answer is a message or a coded error."""

from __future__ import annotations

import json
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.audio import AudioFormat, compress
from protocol.codec import (
    ALL_CHANNELS,
    CLIENT_TYPES,
    MAX_MESSAGE_BYTES,
    AudioFrame,
    RawDecoder,
    decode_client,
    decode_framed,
    decode_server,
    encode,
    encode_framed,
)
from protocol.errors import CODES, ProtocolError
from protocol.messages import ClientMessage, Dtmf, Hangup, Ping, ServerMessage, Start
from tests.unit.protocol.wire import JSON, as_json, messages_of

STEREO = AudioFormat("pcm_s16le", 8000, 2)


def code_of(payload: bytes | str) -> str:
    with pytest.raises(ProtocolError) as refused:
        decode_client(payload)
    assert refused.value.message
    return refused.value.code


# --- messages ---


@given(messages_of(ClientMessage))
@settings(max_examples=200)
def test_every_message_of_a_client_comes_back_as_it_was(message: Any) -> None:
    assert decode_client(encode(message)) == message
    assert decode_client(encode(message).decode()) == message
    assert as_json(message)["type"] in CLIENT_TYPES


@given(messages_of(ServerMessage))
@settings(max_examples=200)
def test_every_message_of_the_server_comes_back_as_it_was(message: Any) -> None:
    assert decode_server(encode(message)) == message
    assert {"type", "call_id", "seq", "at_ms"} <= as_json(message).keys()


def test_every_type_of_both_sides_has_a_name_of_its_own() -> None:
    for union in (ClientMessage, ServerMessage):
        names = [kind.__struct_config__.tag for kind in union.__args__]
        assert len(set(names)) == len(names)


def test_a_client_may_leave_out_what_has_a_default() -> None:
    assert decode_client('{"type":"start"}') == Start()
    assert decode_client('{"type":"hangup"}') == Hangup(reason="hangup", wait_qc_ms=180_000)
    assert encode(Ping()) == b'{"type":"ping"}'


def test_a_reader_of_the_server_takes_fields_that_came_later() -> None:
    later = b'{"type":"ack","call_id":"c","seq":1,"at_ms":0,"samples":5,"since":"next year"}'
    assert as_json(decode_server(later))["samples"] == 5


@pytest.mark.parametrize("payload", [b"", b"[]", b'{"type":"nope"}', b"\xff", b"[" * 100_000, '{"type":"\udc80"}'])
def test_what_is_no_message_of_a_server_is_refused(payload: bytes | str) -> None:
    with pytest.raises(ProtocolError) as refused:
        decode_server(payload)
    assert refused.value.code == "bad_message"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"start"',
        b'{"type":"ping"} {}',
        b"\xef\xbb\xbf{}",
        b'{"type":"ping","id":"\xff"}',
        b'{"type":"start","rate":1,"org_id":"\xff"',
        '{"type":"ping","id":"\udc80"}',
        b'{"type":"start","metadata":{"a":NaN}}',
        b'{"type":"start","metadata":{"a":Infinity}}',
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"type":"start","metadata":' + b"[" * 100_000,
        b'{"type":"start","rate":1,"metadata":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=lambda payload: repr(payload[:40]),
)
def test_what_is_not_one_json_object_is_bad_json(payload: bytes | str) -> None:
    assert code_of(payload) == "bad_json"


@pytest.mark.parametrize(
    "payload", ["{}", '{"type":"begin"}', '{"type":5}', '{"type":null}', '{"type":["start"]}', '{"type":"ack"}']
)
def test_a_type_that_no_client_may_send_is_unknown(payload: str) -> None:
    assert code_of(payload) == "unknown_type"


def test_an_unknown_type_is_named_beside_those_that_are_known() -> None:
    with pytest.raises(ProtocolError, match='`type` "begin"; expected one of start, update, pause'):
        decode_client('{"type":"begin"}')
    with pytest.raises(ProtocolError, match="no `type`; expected one of start"):
        decode_client('{"id":"7"}')


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        ('{"type":"start","rate":44100}', "$.rate"),
        ('{"type":"start","rate":"8000"}', "$.rate"),
        ('{"type":"start","channels":3}', "$.channels"),
        ('{"type":"start","encoding":"opus"}', "$.encoding"),
        ('{"type":"start","roles":["a","b","c"]}', "$.roles"),
        ('{"type":"start","metadata":[]}', "$.metadata"),
        ('{"type":"start","metadata":{"type":1},"language":"fr"}', "$.language"),
        ('{"type":"start","sample_rate":8000}', "sample_rate"),
        ('{"type":"transcript","text":"a","begin_ms":-1,"end_ms":0}', "$.begin_ms"),
        ('{"type":"transcript","text":"a","begin_ms":0}', "end_ms"),
        ('{"type":"transcript","text":"a","begin_ms":0.5,"end_ms":1}', "$.begin_ms"),
        ('{"type":"dtmf","digit":"12"}', "$.digit"),
        ('{"type":"dtmf","digit":"1\\n"}', "$.digit"),
        ('{"type":"mark","name":""}', "$.name"),
        ('{"type":"mark","name":"' + "x" * 257 + '"}', "$.name"),
        ('{"type":"resume","call_id":"a/b","resume_token":"t","last_seq":0}', "$.call_id"),
        ('{"type":"resume","call_id":"a\\n","resume_token":"t","last_seq":0}', "$.call_id"),
        ('{"type":"resume","call_id":"' + "a" * 65 + '","resume_token":"t","last_seq":0}', "$.call_id"),
        ('{"type":"hangup","wait_qc_ms":3600001}', "$.wait_qc_ms"),
        ('{"type":"start","metadata":{"a":1e999}}', "$.metadata"),
    ],
)
def test_a_wrong_field_is_a_bad_message_that_names_it(payload: str, field: str) -> None:
    with pytest.raises(ProtocolError) as refused:
        decode_client(payload)
    assert refused.value.code == "bad_message"
    assert field in refused.value.message


def test_the_largest_message_is_taken_and_one_byte_more_refused() -> None:
    frame = '{"type":"start","metadata":{"a":"%s"}}'
    fitting = frame % ("x" * (MAX_MESSAGE_BYTES - len(frame) + 2))
    assert len(fitting) == MAX_MESSAGE_BYTES
    assert isinstance(decode_client(fitting), Start)
    assert code_of(fitting + " ") == "too_large"


@given(st.binary(max_size=200) | st.text(st.characters(), max_size=200))
def test_arbitrary_bytes_bring_a_message_or_a_coded_error(payload: bytes | str) -> None:
    try:
        decode_client(payload)
    except ProtocolError as refused:
        assert refused.code in ("bad_json", "unknown_type", "bad_message")


@given(
    st.dictionaries(st.sampled_from(["type", "rate", "metadata", "text", "begin_ms", "end_ms", "digit", "name"]), JSON),
    st.none() | st.sampled_from(CLIENT_TYPES),
)
@settings(max_examples=200)
def test_arbitrary_json_brings_a_message_or_a_coded_error(fields: dict[str, Any], tag: str | None) -> None:
    try:
        decode_client(json.dumps(fields if tag is None else {**fields, "type": tag}))
    except ProtocolError as refused:
        assert refused.code in CODES


@given(messages_of(ClientMessage), st.data())
def test_a_message_that_was_tampered_with_brings_a_message_or_a_coded_error(message: Any, data: st.DataObject) -> None:
    payload = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(payload) - 1))
        payload[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
        if not payload:
            break
    try:
        decode_client(bytes(payload))
    except ProtocolError as refused:
        assert refused.code in CODES


def test_an_error_carries_its_entry_of_the_table() -> None:
    fault = ProtocolError("too_large", "what and why")
    assert (fault.code, fault.message, fault.entry.close, fault.entry.retryable) == (
        "too_large",
        "what and why",
        1009,
        False,
    )
    assert all(code == entry.code and entry.meaning for code, entry in CODES.items())
    with pytest.raises(KeyError):
        ProtocolError("no_such_code", "")


# --- framed audio ---


@given(
    st.sampled_from(["pcm_s16le", "pcmu", "pcma"]),
    st.integers(1, 2),
    st.binary(max_size=64),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**48 - 1),
    st.data(),
)
def test_a_framed_message_comes_back_as_it_was(
    encoding: Any, channels: int, samples: bytes, number: int, first_sample: int, data: st.DataObject
) -> None:
    audio = AudioFormat(encoding, 16_000, channels)
    channel = data.draw(st.sampled_from([ALL_CHANNELS, *range(channels)]))
    of_frame = audio if channel == ALL_CHANNELS else AudioFormat(encoding, 16_000, 1)
    samples = samples[: len(samples) - len(samples) % of_frame.bytes_per_instant]
    payload = encode_framed(samples, number, first_sample, channel)
    expected = AudioFrame(of_frame.to_pcm(samples), channel, number, first_sample)
    assert decode_framed(payload, audio) == expected
    assert decode_framed(memoryview(payload), audio) == expected


def header(version: int = 1, channel: int = 255, flags: int = 0, number: int = 0, first_sample: int = 0) -> bytes:
    return struct.pack("!BBHIQ", version, channel, flags, number, first_sample)


@pytest.mark.parametrize(
    ("payload", "fault"),
    [
        (b"", "of 0 bytes; its header alone takes 16"),
        (header()[:15], "of 15 bytes"),
        (header(version=2), "version 2, flags 0; expected version 1"),
        (header(version=0), "version 0"),
        (header(flags=1), "flags 1"),
        (header(channel=2), "channel 2 of a call with 2; 255 means all"),
        (header(channel=254), "channel 254"),
        (header(first_sample=1 << 48), "lies beyond any call"),
        (header() + b"abc", "3 bytes of audio; expected a multiple of 4"),
        (header() + b"ab", "2 bytes of audio; expected a multiple of 4"),
        (header(channel=1) + b"abc", "3 bytes of audio; expected a multiple of 2"),
    ],
)
def test_a_framed_message_that_cannot_be_is_bad_audio_and_says_why(payload: bytes, fault: str) -> None:
    with pytest.raises(ProtocolError, match=fault) as refused:
        decode_framed(payload, STEREO)
    assert refused.value.code == "bad_audio"


@given(st.binary(max_size=80))
def test_arbitrary_bytes_bring_a_frame_or_bad_audio(payload: bytes) -> None:
    try:
        frame = decode_framed(payload, STEREO)
    except ProtocolError as refused:
        assert refused.code == "bad_audio"
    else:
        assert len(frame.pcm) == len(payload) - 16


# --- raw audio ---


@given(
    st.sampled_from(["pcm_s16le", "pcmu", "pcma"]),
    st.integers(1, 2),
    st.binary(max_size=200),
    st.lists(st.integers(0, 30), max_size=12),
)
def test_raw_audio_may_be_cut_anywhere(encoding: Any, channels: int, payload: bytes, sizes: list[int]) -> None:
    audio = AudioFormat(encoding, 8000, channels)
    decoder, at, pcm = RawDecoder(audio), 0, b""
    for size in (*sizes, len(payload)):
        frame = decoder.decode(memoryview(payload)[at : at + size])
        assert (frame.channel, frame.number, frame.first_sample) == (ALL_CHANNELS, None, None)
        at += size
        pcm += frame.pcm
    whole = len(payload) - len(payload) % audio.bytes_per_instant
    assert pcm == audio.to_pcm(payload[:whole])
    assert decoder.pending_bytes == len(payload) - whole


def test_bytes_over_are_kept_for_the_next_frame() -> None:
    decoder = RawDecoder(STEREO)
    assert decoder.decode(b"abcde").pcm == b"abcd"
    assert decoder.pending_bytes == 1
    assert decoder.decode(b"fg").pcm == b""
    assert decoder.decode(b"hi").pcm == b"efgh"
    assert decoder.pending_bytes == 1


def test_digits_are_those_of_a_phone() -> None:
    for digit in "0123456789ABCD*#":
        assert decode_client(msgspec.json.encode({"type": "dtmf", "digit": digit})) == Dtmf(digit=digit)


def test_compressed_audio_is_what_a_framed_message_holds() -> None:
    pcm = struct.pack("<4h", 0, 1000, -1000, 32_000)
    frame = decode_framed(encode_framed(compress("pcmu", pcm), 0, 0, 0), AudioFormat("pcmu", 8000, 2))
    assert [
        abs(heard - said) < 600
        for heard, said in zip(struct.unpack("<4h", frame.pcm), struct.unpack("<4h", pcm), strict=True)
    ] == [True] * 4
