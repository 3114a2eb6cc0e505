"""What kind of bytes a caller handed in: an audio file, headerless PCM, or neither."""

from __future__ import annotations

from typing import Literal

Kind = Literal["file", "pcm"]

_FILE_SIGNATURES = (
    (0, b"RIFF"),
    (0, b"RF64"),
    (0, b"fLaC"),
    (0, b"OggS"),
    (0, b"ID3"),
    (4, b"ftyp"),
    (0, b"#!AMR"),
    (0, b"\x1aE\xdf\xa3"),  # Matroska, WebM
    (0, b"FORM"),  # AIFF
    (0, b".snd"),  # Sun au
    (0, b"caff"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),  # ASF, WMA
    (0, b"wvpk"),  # WavPack
)
_FOREIGN_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"%PDF-", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b\x08", "a gzip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\x7fELF", "a program"),
)
_TEXT_PROBE_BYTES = 4096


class NotAudio(ValueError):
    """The bytes are known to be something else; the message says what."""


def kind_of(data: bytes) -> Kind:
    """Tell a file from headerless s16le PCM, which has no signature. Raises NotAudio."""
    if not data:
        raise NotAudio("it is empty")
    if any(data.startswith(signature, at) for at, signature in _FILE_SIGNATURES) or _is_mpeg(data):
        return "file"
    for signature, name in _FOREIGN_SIGNATURES:
        if data.startswith(signature):
            raise NotAudio(f"it is {name}")
    if _is_text(data):
        raise NotAudio("it is text")
    if len(data) % 2:
        raise NotAudio(f"it has no known signature, and {len(data)} bytes are no whole number of 16-bit samples")
    return "pcm"


def _is_text(data: bytes) -> bool:
    """Whether the beginning is ASCII without control characters: sound is never that."""
    return all(32 <= byte < 127 or byte in b"\t\n\r" for byte in data[:_TEXT_PROBE_BYTES])


_MP3_KBIT_S = {
    0b11: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    0b10: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MP3_HZ = {0b11: (44100, 48000, 32000), 0b10: (22050, 24000, 16000), 0b00: (11025, 12000, 8000)}


def _is_mpeg(data: bytes) -> bool:
    """Whether two MPEG frames (layer III or ADTS AAC) follow one another: one sync word may be chance in PCM."""
    length = _frame_bytes(data[:7])
    return length > 0 and _frame_bytes(data[length : length + 7]) > 0


def _frame_bytes(header: bytes) -> int:
    """How long the frame is that this header begins (ISO/IEC 11172-3 2.4.1.3, 13818-7 6.2); 0 if it is none."""
    if len(header) < 7 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return 0
    if header[1] & 0xF6 == 0xF0:
        return (header[3] & 0x03) << 11 | header[4] << 3 | header[5] >> 5
    version, layer = header[1] >> 3 & 0x03, header[1] >> 1 & 0x03
    rate, speed = header[2] >> 4, header[2] >> 2 & 0x03
    if layer != 0b01 or version == 0b01 or rate in (0, 15) or speed == 3:
        return 0
    kbit_s = _MP3_KBIT_S[0b11 if version == 0b11 else 0b10][rate]
    per_frame = 144 if version == 0b11 else 72
    return per_frame * kbit_s * 1000 // _MP3_HZ[version][speed] + (header[2] >> 1 & 1)
