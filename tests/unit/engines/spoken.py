"""Speech made at test time by a formant synthesiser: robotic, and the same on every machine."""

from __future__ import annotations

import ctypes
from functools import cache

import espeakng_loader
import numpy as np
import soxr

AUDIO_OUTPUT_SYNCHRONOUS = 2
CHARS_UTF8 = 1
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@cache
def _library() -> tuple[ctypes.CDLL, int]:
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    rate_hz = library.espeak_Initialize(AUDIO_OUTPUT_SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), 0x8000)
    assert rate_hz > 0, "the synthesiser found no data"
    return library, rate_hz


def speech(text: str, rate_hz: int = 16000, voice: str = "en-gb") -> bytes:
    """`text` as mono 16-bit PCM."""
    library, own_rate_hz = _library()
    heard: list[bytes] = []

    def collect(samples: ctypes._Pointer[ctypes.c_short], count: int, _: object) -> int:
        if count > 0:  # the last call brings none, and a null pointer
            heard.append(ctypes.string_at(samples, 2 * count))
        return 0

    callback = _CALLBACK(collect)
    library.espeak_SetSynthCallback(callback)
    library.espeak_SetVoiceByName(voice.encode())
    encoded = text.encode()
    library.espeak_Synth(encoded, len(encoded) + 1, 0, 0, 0, CHARS_UTF8, None, None)
    library.espeak_Synchronize()
    samples = np.frombuffer(b"".join(heard), "<i2").astype(np.float32)
    pcm: bytes = np.clip(soxr.resample(samples, own_rate_hz, rate_hz), -32768, 32767).astype("<i2").tobytes()
    return pcm
