"""Turns one channel's speech decisions into utterances. Everything is counted in 20 ms frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from gateway.call.framer import FRAME_MS


@dataclass(frozen=True, slots=True)
class SegmenterSettings:
    """When an utterance opens, closes and is split (ms, multiples of 20)."""

    open_ms: int = 200
    """Speech needed to open, within a stretch half as long again."""
    close_ms: int = 600
    """Silence that closes (the hangover)."""
    lead_ms: int = 300
    """Audio kept before the first speech."""
    tail_ms: int = 200
    """Audio kept after the last speech."""
    split_ms: int = 20_000
    """A segment this long is split softly, at its quietest frame ..."""
    split_search_ms: int = 10_000
    """... among this many last milliseconds."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An utterance began at frame `begin` (lead-in included)."""

    begin: int


@dataclass(frozen=True, slots=True)
class Closed:
    """It ended before frame `end`; `split`: the next one follows without a pause."""

    end: int
    split: bool


@dataclass(frozen=True, slots=True)
class Spoke:
    """Frame `index` is speech of the open utterance."""

    index: int


Boundary = Opened | Closed | Spoke


class Segmenter:
    """A pure state machine over (frame index, is speech); `loudness` answers for frames of the open segment."""

    def __init__(self, settings: SegmenterSettings, loudness: Callable[[int], float]) -> None:
        self._settings = settings
        self._loudness = loudness
        self._split_frames = -(-settings.split_ms // FRAME_MS)
        self._close_frames = -(-settings.close_ms // FRAME_MS)
        self._recent_frames = settings.open_ms * 3 // 2 // FRAME_MS
        self._recent: deque[int] = deque()
        """Frames of speech among the last so many, while nothing is open."""
        self._begin: int | None = None
        self._spoken: list[int] = []
        self._last_end = 0
        self._next = 0

    @property
    def frames(self) -> int:
        """Decisions taken."""
        return self._next

    @property
    def is_open(self) -> bool:
        return self._begin is not None

    @property
    def _last_speech(self) -> int:
        return self._spoken[-1]

    @property
    def silence_frames(self) -> int:
        """Frames since the last speech of the open segment."""
        return self._next - 1 - self._last_speech

    @property
    def end_if_silent(self) -> int:
        """Before which frame the open segment will end if nothing more is said; its close may still be to come."""
        return self._last_speech + 1 + self._tail

    def pass_over(self, speech: bool, frames: int) -> int:
        """Take the same decision on up to so many frames, as long as nothing comes of it but that those of an open
        utterance are speech; return on how many. Then, if some are left, `step` has something to say.
        """
        begin, index = self._begin, self._next
        if begin is None:
            if speech:
                return 0
        elif speech:
            frames = min(frames, begin + self._split_frames - 1 - index)
            if frames <= 0:
                return 0
            self._spoken.extend(range(index, index + frames))
        else:
            frames = min(frames, self._spoken[-1] + self._close_frames - index)
            if frames <= 0:
                return 0
        self._next = index + frames
        return frames

    def step(self, speech: bool) -> list[Boundary]:
        """Take the decision on the next frame; return what it settles, in order."""
        index, self._next = self._next, self._next + 1
        if self._begin is None:
            return self._while_closed(index, speech)
        return self._while_open(index, speech)

    def flush(self) -> list[Boundary]:
        """Close what is open: the audio is over."""
        return [self._close(min(self._next, self._last_speech + 1 + self._tail))] if self.is_open else []

    def _while_closed(self, index: int, speech: bool) -> list[Boundary]:
        if not speech:
            return []
        recent = self._recent
        recent.append(index)
        while recent[0] <= index - self._recent_frames:
            recent.popleft()
        if len(recent) * FRAME_MS < self._settings.open_ms:
            return []
        spoken = list(recent)
        self._begin = max(self._last_end, spoken[0] - self._settings.lead_ms // FRAME_MS, 0)
        self._spoken = spoken
        self._recent.clear()
        return [Opened(self._begin), *(Spoke(at) for at in spoken)]

    def _while_open(self, index: int, speech: bool) -> list[Boundary]:
        assert self._begin is not None
        if speech:
            self._spoken.append(index)
            boundaries: list[Boundary] = [Spoke(index)]
            if (index + 1 - self._begin) * FRAME_MS >= self._settings.split_ms:
                boundaries += self._split(index)
            return boundaries
        if (index - self._last_speech) * FRAME_MS >= self._settings.close_ms:
            return [self._close(min(index + 1, self._last_speech + 1 + self._tail))]
        return []

    @property
    def _tail(self) -> int:
        return self._settings.tail_ms // FRAME_MS

    def _close(self, end: int) -> Closed:
        self._begin, self._last_end = None, end
        return Closed(end, split=False)

    def _split(self, index: int) -> list[Boundary]:
        assert self._begin is not None
        first = max(self._begin + 1, index + 1 - self._settings.split_search_ms // FRAME_MS)
        cut = min(range(first, index + 1), key=lambda frame: (self._loudness(frame), -frame))
        self._begin = self._last_end = cut
        # Speech from the cut on belongs to the new segment: at least `index`, which is speech.
        self._spoken = [at for at in self._spoken if at >= cut]
        return [Closed(cut, split=True), Opened(cut), *(Spoke(at) for at in self._spoken)]
