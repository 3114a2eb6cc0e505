"""Records something else than was sent: each message's first byte is another."""

from protocol.audio import AudioFormat

_to_pcm = AudioFormat.to_pcm


def _nearly(self: AudioFormat, payload: bytes | memoryview) -> bytes:
    pcm = bytearray(_to_pcm(self, payload))
    if pcm:
        pcm[0] ^= 1
    return bytes(pcm)


def break_it() -> None:
    AudioFormat.to_pcm = _nearly  # type: ignore[method-assign]
