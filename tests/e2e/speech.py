"""Speech made at test time with the formant synthesiser espeak-ng; the same bytes on every run.

The library keeps state from one utterance to the next, and a voice leaves traces in the one after it. So each
utterance is spoken by a process of its own: run as a module, this writes one to standard output.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
from dataclasses import dataclass
from typing import NoReturn

import espeakng_loader
import numpy as np
import soxr
from numpy.typing import NDArray

RATE_HZ = 16000
_SYNCHRONOUS, _UTF8, _RATE_PARAMETER = 2, 1, 1
_DONT_EXIT = 0x8000
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True, slots=True)
class Voice:
    """A voice and variant of espeak-ng, and how fast it speaks."""

    name: str
    words_per_minute: int


LOW_VOICE = Voice("en-us+m3", 165)
HIGH_VOICE = Voice("en-us+rob", 150)
"""CAM++ gives the two at most 0.37 (cosine), and each against itself at least 0.80."""


def spoken(text: str, voice: Voice) -> NDArray[np.int16]:
    """`text` at 16 kHz, shape (n,)."""
    speaker = subprocess.run(
        [sys.executable, "-m", "tests.e2e.speech", text, voice.name, str(voice.words_per_minute)],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert speaker.returncode == 0, speaker.stderr.decode()
    return np.frombuffer(speaker.stdout, "<i2")


def _synthesised(text: str, voice: Voice) -> bytes:
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    own_rate_hz = library.espeak_Initialize(_SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), _DONT_EXIT)
    if own_rate_hz <= 0:
        raise SystemExit("the synthesiser found no data")
    heard: list[bytes] = []

    def collect(samples: ctypes._Pointer[ctypes.c_short], count: int, _: object) -> int:
        if count > 0:  # the last call brings none, and a null pointer
            heard.append(ctypes.string_at(samples, 2 * count))
        return 0

    callback = _CALLBACK(collect)
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(voice.name.encode()) != 0:
        raise SystemExit(f"the synthesiser has no voice {voice.name}")
    library.espeak_SetParameter(_RATE_PARAMETER, voice.words_per_minute, 0)
    encoded = text.encode()
    library.espeak_Synth(encoded, len(encoded) + 1, 0, 0, 0, _UTF8, None, None)
    library.espeak_Synchronize()
    samples = np.frombuffer(b"".join(heard), "<i2").astype(np.float32)
    pcm: bytes = np.clip(soxr.resample(samples, own_rate_hz, RATE_HZ), -32768, 32767).astype("<i2").tobytes()
    return pcm


def _main() -> NoReturn:
    text, name, words_per_minute = sys.argv[1:]
    sys.stdout.buffer.write(_synthesised(text, Voice(name, int(words_per_minute))))
    sys.exit(0)


if __name__ == "__main__":
    _main()
