"""The recent past of one channel, addressed by sample index."""

from __future__ import annotations


class History:
    """Keeps PCM (s16le mono) from the last position that `forget` named."""

    def __init__(self) -> None:
        self._pcm = bytearray()
        self._first_sample = 0

    @property
    def end_sample(self) -> int:
        return self._first_sample + len(self._pcm) // 2

    def append(self, pcm: bytes) -> None:
        self._pcm += pcm

    def between(self, begin_sample: int, end_sample: int) -> bytes:
        """PCM of [begin, end). Raises IndexError when part of it is forgotten or yet to come."""
        begin = (begin_sample - self._first_sample) * 2
        end = (end_sample - self._first_sample) * 2
        if begin < 0 or end > len(self._pcm) or begin > end:
            raise IndexError(f"samples {begin_sample} to {end_sample} of {self._first_sample} to {self.end_sample}")
        return bytes(self._pcm[begin:end])

    def forget(self, before_sample: int) -> None:
        """Drop what lies before; in steps, so that the cost is spread."""
        excess = (before_sample - self._first_sample) * 2
        if excess > 64 * 1024:
            del self._pcm[:excess]
            self._first_sample = before_sample
