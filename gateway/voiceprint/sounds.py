"""Voice, another sound, or neither for certain: what a clip is taken for; and where other sounds are found again.

A sound taken for a voice is not found again; speech taken for a sound would be kept as a stranger's noise. So there is
a gap between the two, and what falls into it is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gateway.ports import Embedder, Embedding, Kind, SpeechConfirmer, VoiceprintRow
from gateway.voiceprint.bands import BandedIndex
from gateway.voiceprint.quality_gate import Flaw, Reason
from gateway.voiceprint.search import Hit, VoiceIndex
from protocol.voiceprint import Scope

WINDOW_MS = 32
_STRETCH_MS = 320 * WINDOW_MS
_SPEECH_PROBABILITY = 0.5
_SOUNDING_WITHIN = 0.01
"""A window sounds when its peak is within 40 dB of the loudest: pauses say nothing about what is heard between them."""


@dataclass(frozen=True, slots=True)
class SpeechRules:
    """How much of what sounds must be speech, and how little may be.

    Of 680 cuts of 3 s from read speech (English and Mandarin, down to 8 kHz and noise as loud as the voice) none had
    less than 28 %; of 92 single notes and songs each of 46 instruments, one in fifty had over 4 %.
    """

    least_voice_ms: int = 96
    voice_share: float = 0.1
    most_voice_ms: int = 600
    """So much speech is a voice however long the recording is."""
    least_sound_ms: int | None = 1000
    """In less, speech cannot be told from other sounds for certain. None: nothing is another sound."""
    sound_share: float = 0.04
    most_speech_ms: int = 300
    again_until_ms: int = 2000
    """Shorter clips are heard again, up to this: the model needs a while until it hears well."""

    def voice_ms(self, sounding_ms: int) -> int:
        """Speech that makes a voice of a clip in which so much sounds."""
        return int(min(max(self.voice_share * sounding_ms, self.least_voice_ms), self.most_voice_ms))

    def sound_ms(self, sounding_ms: int) -> int:
        """Speech that another sound may be mistaken for."""
        return int(min(self.sound_share * sounding_ms, self.most_speech_ms))


def voices_only(least_ms: int) -> SpeechRules:
    """Any clip with so much speech is a voice, and whatever else is refused."""
    return SpeechRules(least_voice_ms=least_ms, voice_share=0, again_until_ms=0, least_sound_ms=None)


class Listening:
    """Hands out a clip stretch by stretch, and counts the speech in it."""

    def __init__(self, pcm: bytes, rate_hz: int, rules: SpeechRules) -> None:
        """`pcm` is mono s16le."""
        self._rules = rules
        self._window_bytes = 2 * rate_hz * WINDOW_MS // 1000
        self._pcm = pcm + bytes(-len(pcm) % self._window_bytes)
        self.duration_ms = len(pcm) * 1000 // (2 * rate_hz)
        windows = np.frombuffer(self._pcm, "<i2").reshape(-1, self._window_bytes // 2)
        peaks = np.maximum(windows.max(axis=1, initial=0), -windows.min(axis=1, initial=0).astype(np.int32))
        self.sounding_ms = WINDOW_MS * int(np.count_nonzero(peaks > _SOUNDING_WITHIN * peaks.max(initial=0)))
        self.speech_ms = 0
        """Heard so far; of a clip that was heard several times, the time when most was heard."""
        self._earlier_ms = 0

    def stretches(self) -> Iterator[bytes]:
        """What to listen to next, until it is clear that somebody speaks: `note` must be told about each in turn."""
        stretch_bytes = self._window_bytes * _STRETCH_MS // WINDOW_MS
        times = max(1, -(-self._rules.again_until_ms // max(self.duration_ms, 1)))
        for _ in range(times):
            self._earlier_ms = 0
            for begin in range(0, len(self._pcm), stretch_bytes):
                yield self._pcm[begin : begin + stretch_bytes]
                if self.is_voice:
                    return

    def note(self, probabilities: Sequence[float]) -> None:
        """One for each 32 ms of the stretch (0-1)."""
        self._earlier_ms += WINDOW_MS * sum(p >= _SPEECH_PROBABILITY for p in probabilities)
        self.speech_ms = max(self.speech_ms, self._earlier_ms)

    @property
    def is_voice(self) -> bool:
        return self.speech_ms >= self._rules.voice_ms(self.sounding_ms)

    @property
    def kind(self) -> Kind | None:
        """What the whole clip is; None when that is not certain."""
        if self.is_voice:
            return "voice"
        least_ms = self._rules.least_sound_ms
        if least_ms is None or self.duration_ms < least_ms or self.speech_ms > self._rules.sound_ms(self.sounding_ms):
            return None
        return "sound"

    @property
    def flaw(self) -> Flaw:
        """Why a clip that is no voice, and perhaps no other sound for certain, is refused."""
        rules, heard = self._rules, f"{self.speech_ms} ms of speech in {self.sounding_ms} ms that sound"
        if self.speech_ms <= rules.sound_ms(self.sounding_ms):
            text = f"no speech was found: {heard}, at least {rules.voice_ms(self.sounding_ms)} ms are needed"
            if rules.least_sound_ms is not None and self.duration_ms < rules.least_sound_ms:
                text += f", and of another sound at least {rules.least_sound_ms} ms"
        else:
            text = f"this is neither clearly a voice nor clearly another sound: {heard}, a voice"
            text += f" has at least {rules.voice_ms(self.sounding_ms)} ms"
        return Flaw(Reason.NO_SPEECH, text)


async def listen(speech: SpeechConfirmer, pcm: bytes, rate_hz: int, rules: SpeechRules) -> Listening:
    """Hear a clip (mono s16le) until it is clear that somebody speaks, or to its end. Raises Unavailable."""
    listening, state = Listening(pcm, rate_hz, rules), None
    for stretch in listening.stretches():
        heard = await speech.confirm(stretch, rate_hz, state)
        state = heard.state
        listening.note(heard.probabilities)
    return listening


class Enrolled:
    """Everything that is enrolled: voices, and other sounds in an index of their own. Belongs to one event loop."""

    def __init__(self, voices: BandedIndex, sounds: Embedder | None) -> None:
        """Without an embedder for `sounds` they are not found."""
        self.voices = voices
        self._sounds = VoiceIndex(sounds.dimensions) if sounds else None
        self._sound_space = sounds.model if sounds else ""

    def __len__(self) -> int:
        return len(self.voices) + (len(self._sounds) if self._sounds is not None else 0)

    @property
    def spaces(self) -> tuple[str, ...]:
        return (*self.voices.spaces, self._sound_space) if self._sound_space else self.voices.spaces

    def add(self, row: VoiceprintRow) -> None:
        """Have a voice or a sound found from now on, in the spaces it has prints of."""
        self.voices.add(row)
        if self._sounds is not None and (prints := row.in_space(self._sound_space)) is not None:
            self._sounds.add(row, prints.combined)

    def holds_sounds(self, scope: Scope) -> bool:
        return self._sounds is not None and self._sounds.holds(scope)

    async def closest_sounds(self, scope: Scope, embedding: Embedding, top: int) -> list[Hit]:
        """The `top` sounds of the scope with the greatest cosine to `embedding`, best first."""
        return await self._sounds.closest(scope, embedding, top) if self._sounds is not None else []

    def remove(self, app_id: str, org_id: str, tag_id: str, print_ids: Collection[str]) -> None:
        self.voices.remove(app_id, org_id, tag_id, print_ids)
        if self._sounds is not None:
            self._sounds.remove(app_id, org_id, tag_id, print_ids)

    async def warm(self) -> None:
        await self.voices.warm()
        if self._sounds is not None:
            await self._sounds.warm()

    async def close(self) -> None:
        await self.voices.close()
        if self._sounds is not None:
            await self._sounds.close()
