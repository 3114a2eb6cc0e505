"""Bytes to messages and back: JSON for control, binary for audio.

A `raw` binary frame is the next samples. A `framed` one starts with 16 bytes, big-endian:

    version u8 = 1 | channel u8 (255: all, interleaved) | flags u16 = 0 | frame number u32 | first sample index u64
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from protocol.audio import AudioFormat
from protocol.errors import ProtocolError
from protocol.messages import ClientMessage, ServerMessage

T = TypeVar("T")
SUBPROTOCOL = "earshot.v1"
MAX_MESSAGE_BYTES = 256 * 1024
"""Over 500 ms of 48 kHz stereo with room to spare, and any control message."""
ALL_CHANNELS = 255

_HEADER = struct.Struct("!BBHIQ")
_client: msgspec.json.Decoder[ClientMessage] = msgspec.json.Decoder(ClientMessage)
_server: msgspec.json.Decoder[ServerMessage] = msgspec.json.Decoder(ServerMessage)
_encoder = msgspec.json.Encoder()
_tag = msgspec.json.Decoder(dict[str, msgspec.Raw])


def encode(message: ClientMessage | ServerMessage) -> bytes:
    """A message as the UTF-8 JSON of one text frame."""
    return _encoder.encode(message)


def decode_server(text: str | bytes) -> ServerMessage:
    """A server's message. Raises ProtocolError (`bad_json`, `bad_message`)."""
    try:
        return _server.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise ProtocolError("bad_message", f"not a message of a server: {error}") from error


def decode_client(text: str | bytes) -> ClientMessage:
    """A client's message, valid in every field.

    Raises ProtocolError: `bad_json`, `unknown_type`, `bad_message` (naming the field) or `too_large`.
    """
    if len(text) > MAX_MESSAGE_BYTES:
        raise ProtocolError("too_large", f"a message of {len(text)} bytes; at most {MAX_MESSAGE_BYTES} are accepted")
    return decode_one_of(text, _client, CLIENT_TYPES, ProtocolError)


def decode_one_of(
    text: str | bytes,
    decoder: msgspec.json.Decoder[T],
    types: tuple[str, ...],
    fault: Callable[[str, str], ProtocolError],
) -> T:
    """What the decoder of a union makes of a text frame. Raises `fault(code, message)` for anything else:
    `bad_json`, `unknown_type` (naming the `types` there are) or `bad_message` (naming the field)."""
    try:
        return decoder.decode(text)
    except msgspec.ValidationError as error:
        raise fault(*_explain(text, error, types)) from error
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise fault("bad_json", f"a text frame must hold one JSON object: {error}") from error


def _explain(text: str | bytes, error: msgspec.ValidationError, types: tuple[str, ...]) -> tuple[str, str]:
    try:
        tag = _tag.decode(text).get("type")
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return "bad_json", "a text frame must hold one JSON object"
    if tag is None or str(error).endswith("`$.type`"):
        given = "no `type`" if tag is None else f"`type` {bytes(tag)[:80].decode('utf-8', 'replace')}"
        return "unknown_type", f"{given}; expected one of {', '.join(types)}"
    return "bad_message", str(error)


CLIENT_TYPES = tuple(kind.__struct_config__.tag for kind in ClientMessage.__args__)


@dataclass(frozen=True, slots=True)
class AudioFrame:
    """One binary frame: PCM (s16le, interleaved if it holds all channels) and where it belongs."""

    pcm: bytes
    channel: int = ALL_CHANNELS
    number: int | None = None
    first_sample: int | None = None
    """Position of the first instant; None in `raw` framing: it follows what came before."""


def decode_framed(payload: bytes | memoryview, audio: AudioFormat) -> AudioFrame:
    """A `framed` binary frame. Raises ProtocolError (`bad_audio`)."""
    if len(payload) < _HEADER.size:
        raise ProtocolError("bad_audio", f"a framed message of {len(payload)} bytes; its header alone takes 16")
    version, channel, flags, number, first_sample = _HEADER.unpack_from(payload)
    if version != 1 or flags != 0:
        raise ProtocolError("bad_audio", f"frame header version {version}, flags {flags}; expected version 1, flags 0")
    if channel != ALL_CHANNELS and channel >= audio.channels:
        raise ProtocolError("bad_audio", f"channel {channel} of a call with {audio.channels}; 255 means all")
    if first_sample >= 1 << 48:
        raise ProtocolError("bad_audio", f"first sample index {first_sample} lies beyond any call")
    of_frame = audio if channel == ALL_CHANNELS else AudioFormat(audio.encoding, audio.rate_hz, 1)
    body = memoryview(payload)[_HEADER.size :]
    if len(body) % of_frame.bytes_per_instant:
        raise ProtocolError(
            "bad_audio", f"{len(body)} bytes of audio; expected a multiple of {of_frame.bytes_per_instant}"
        )
    return AudioFrame(of_frame.to_pcm(body), channel, number, first_sample)


def encode_framed(payload: bytes, number: int, first_sample: int, channel: int = ALL_CHANNELS) -> bytes:
    """A `framed` binary frame around samples in the call's encoding."""
    return _HEADER.pack(1, channel, 0, number, first_sample) + payload


class RawDecoder:
    """`raw` binary frames: any cut is welcome, also in the middle of a sample; the rest waits for the next frame."""

    def __init__(self, audio: AudioFormat) -> None:
        self._audio = audio
        self._rest = b""

    def decode(self, payload: bytes | memoryview) -> AudioFrame:
        data = self._rest + bytes(payload) if self._rest else payload
        whole = len(data) - len(data) % self._audio.bytes_per_instant
        self._rest = bytes(data[whole:])
        return AudioFrame(self._audio.to_pcm(data[:whole]))

    @property
    def pending_bytes(self) -> int:
        """Bytes of an instant that has not come whole yet."""
        return len(self._rest)
