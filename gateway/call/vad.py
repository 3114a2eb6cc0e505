"""Is this frame speech? A cheap gate decides inline; a model confirms what the gate lets through.

The model's answers take effect at fixed positions of the media clock, so the decisions depend on the audio alone: how
the packets were cut and when an answer came change nothing. Blocks of 96 ms (three windows of the model) are asked
about; a block's answer is due `confirm_delay_ms` after its end. Where no frame of a block passes the gate, nothing is
asked: it is silence.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal, Protocol

from gateway.call.framer import FRAME_MS

VadMode = Literal["webrtc+silero", "webrtc", "silero"]
WINDOW_MS = 32
BLOCK_WINDOWS = 3
BLOCK_MS = WINDOW_MS * BLOCK_WINDOWS


class Gate(Protocol):
    """A voice activity detector that is cheap enough to run inline; it may keep state, it belongs to one channel."""

    def is_speech(self, frame: bytes) -> bool:
        """Whether 20 ms of s16le mono hold speech."""

    def speech_in(self, pcm: bytes, frame_bytes: int) -> list[bool]:
        """As `is_speech` for each whole frame of `pcm`, in order."""
        starts = range(0, len(pcm) - frame_bytes + 1, frame_bytes)
        return [self.is_speech(pcm[at : at + frame_bytes]) for at in starts]


@dataclass(frozen=True, slots=True)
class VadSettings:
    mode: VadMode = "webrtc+silero"
    start_probability: float = 0.5
    """A window starts to be speech here ..."""
    stay_probability: float = 0.35
    """... and stays speech down to here."""
    confirm_delay_ms: int = 60
    aggressiveness: int = 2
    """The gate's, 0 to 3: higher lets less through."""


@dataclass(frozen=True, slots=True)
class BlockAsked:
    """A block that needs the model: its bounds in ms. `fresh`: the previous block was not asked about; the model
    starts anew, and the PCM should begin one block earlier so that it is warm."""

    ordinal: int
    begin_ms: int
    end_ms: int
    fresh: bool


class ChannelVad:
    """The delay line of one channel: frames go in at the front, decisions come out in order behind it."""

    def __init__(self, settings: VadSettings, gate: Gate) -> None:
        self._settings = settings
        self._gate = gate
        self._gated: deque[bool] = deque()
        self._received = 0
        self._decided = 0
        self._block_end_ms = BLOCK_MS
        self._ordinal = 0
        self._previous_asked = False
        self._blocks: deque[_Block] = deque()
        self._speaking = False

    def blocked(self) -> bool:
        """Whether the next frame has to wait for an answer that is due."""
        if not self._blocks or self._blocks[0].answered:
            return False
        return (self._received + 1) * FRAME_MS >= self._blocks[0].end_ms + self._settings.confirm_delay_ms

    def push(self, frame: bytes) -> BlockAsked | None:
        """Take the next frame (never while `blocked`); returns a question when a block became complete."""
        mode = self._settings.mode
        self._gated.append(self._gate.is_speech(frame))
        self._received += 1
        if mode == "webrtc" or self._received * FRAME_MS < self._block_end_ms:
            return None
        return self._complete_block()

    def answer(self, ordinal: int, probabilities: tuple[float, ...] | None) -> None:
        """Take the model's answer to a block: its last three probabilities count. None: the gate decides alone."""
        for block in self._blocks:
            if block.ordinal == ordinal and not block.answered:
                block.answered = True
                block.probabilities = probabilities[-BLOCK_WINDOWS:] if probabilities else None
                return
        raise ValueError(f"no open question {ordinal}")

    def stop_waiting(self) -> None:
        """Leave every open question to the gate."""
        for block in self._blocks:
            block.answered = True

    @property
    def waiting(self) -> bool:
        """Whether an answer is still to come."""
        return any(not block.answered for block in self._blocks)

    def decisions(self) -> list[bool]:
        """The decisions that are due at the present position, oldest first: is the frame speech?"""
        return self._take(self._received * FRAME_MS - self._settings.confirm_delay_ms)

    def flush(self) -> list[bool]:
        """Decide on all that is left: the audio is over, nothing is `waiting`.

        The gate decides a broken last block.
        """
        left = self._take(self._received * FRAME_MS + BLOCK_MS)
        left += self._gated
        self._gated.clear()
        self._blocks.clear()
        return left

    def _take(self, until_ms: int) -> list[bool]:
        if self._settings.mode == "webrtc":
            due = list(self._gated)
            self._gated.clear()
            return due
        due = []
        while self._gated and self._blocks:
            block = self._blocks[0]
            if not block.answered or block.end_ms > until_ms:
                break
            middle_ms = self._decided * FRAME_MS + FRAME_MS // 2
            if middle_ms >= block.end_ms:
                self._blocks.popleft()
                continue
            due.append(self._decide(block, (middle_ms - (block.end_ms - BLOCK_MS)) // WINDOW_MS))
            self._decided += 1
        return due

    def _decide(self, block: _Block, window: int) -> bool:
        gated = self._gated.popleft()
        if block.probabilities is None:
            self._speaking = gated if block.asked else False
            return self._speaking
        settings = self._settings
        threshold = settings.stay_probability if self._speaking else settings.start_probability
        self._speaking = block.probabilities[window] >= threshold
        return self._speaking

    def _complete_block(self) -> BlockAsked | None:
        end_ms, self._block_end_ms = self._block_end_ms, self._block_end_ms + BLOCK_MS
        # Frames straddle block ends; one that passed the gate asks for both blocks it touches.
        first = max(0, len(self._gated) - (BLOCK_MS + FRAME_MS - 1) // FRAME_MS - 1)
        asked = self._settings.mode == "silero" or any(list(self._gated)[first:])
        if not asked:
            self._previous_asked = False
            self._blocks.append(_Block(-1, end_ms, asked=False, answered=True))
            return None
        fresh, self._previous_asked = not self._previous_asked, True
        self._ordinal += 1
        self._blocks.append(_Block(self._ordinal, end_ms, asked=True, answered=False))
        return BlockAsked(self._ordinal, end_ms - BLOCK_MS, end_ms, fresh)


@dataclass(slots=True)
class _Block:
    ordinal: int
    end_ms: int
    asked: bool
    answered: bool
    probabilities: tuple[float, ...] | None = None
