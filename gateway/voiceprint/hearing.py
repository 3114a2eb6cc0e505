"""From a clip to prints: measured, cleaned, brought to its band, found to be speech or another sound, and embedded."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from gateway.ports import Denoiser, Embedder, Embedding, Kind, PortError, Rejected, SpeechConfirmer
from gateway.voiceprint.bands import combined, in_its_band, over_a_line
from gateway.voiceprint.clip import NARROW_HZ, Clip, speech_pcm
from gateway.voiceprint.quality_gate import Flaw, Limits, Measurement, find_flaw, measure
from gateway.voiceprint.sounds import SpeechRules, listen, voices_only
from protocol.voiceprint import Code, VoiceprintError


@dataclass(frozen=True, slots=True)
class Heard:
    """A clip that passed the measurements, as models take it."""

    versions: tuple[bytes, ...]
    """The clip, and beside it the same without its noise where that was asked for: its print is the mean of both."""
    rate_hz: int
    """8000 or 16000: that of the clip's band."""
    sent_rate_hz: int
    """16000 too where the clip came over a line and was resampled since."""
    measured: Measurement
    original: bytes
    """As it was sent, for other sounds than voices: at `sent_rate_hz`, before denoising."""


class Ear:
    """Asks the engines about clips. Every method raises VoiceprintError: the clip's fault, or an engine's."""

    def __init__(
        self,
        embedder: Embedder,
        speech: SpeechConfirmer | None = None,
        sounds: Embedder | None = None,
        denoiser: Denoiser | None = None,
        limits: Limits | None = None,
    ) -> None:
        """Without a confirmer of `speech`, an embedder for `sounds` or a `denoiser` see `VoiceprintService`."""
        self.sounds = sounds
        self._embedder = embedder
        self._speech = speech
        self._denoiser = denoiser
        self._limits = limits or Limits()
        self._speech_rules = SpeechRules() if sounds else voices_only(self._limits.min_speech_ms)

    async def hear(self, clip: Clip, *, denoise: bool) -> Heard:
        measured = await asyncio.to_thread(measure, clip.samples, clip.rate_hz)
        self._refuse_flaw(measured)
        original, rate_hz = await asyncio.to_thread(speech_pcm, clip)
        pcm, rate_of_band_hz = await asyncio.to_thread(in_its_band, original, rate_hz)
        versions = [pcm]
        if denoise and self._denoiser is not None:
            with blaming(Code.ENGINE_ERROR):
                versions.append(await self._denoiser.denoise(pcm, rate_of_band_hz))
        return Heard(tuple(versions), rate_of_band_hz, rate_hz, measured, original)

    async def prints(
        self, heard: Heard, wide: bool, narrow: bool, *, only_voices: bool = False
    ) -> tuple[Kind, Embedding | None, Embedding | None]:
        """What the clip is and, of a voice, its prints in the wide band and in the narrow one, as asked for.

        Narrow audio has none in the wide band.
        """
        # All run at once, in two engine processes: the check then costs the caller no time.
        full = asyncio.create_task(self._embedding(heard.versions, heard.rate_hz)) if wide else None
        on_a_line = asyncio.create_task(self._narrow_embedding(heard)) if narrow else None
        begun = [task for task in (full, on_a_line) if task is not None]
        try:
            kind = await self._kind(heard, only_voices=only_voices)
            if kind != "voice":
                return kind, None, None
            return kind, await full if full else None, await on_a_line if on_a_line else None
        finally:
            for task in begun:
                task.cancel()
            await asyncio.gather(*begun, return_exceptions=True)

    async def _narrow_embedding(self, heard: Heard) -> Embedding:
        versions = heard.versions
        if heard.rate_hz != NARROW_HZ:
            versions = tuple([await asyncio.to_thread(over_a_line, pcm) for pcm in versions])
        return await self._embedding(versions, NARROW_HZ)

    async def _embedding(self, versions: tuple[bytes, ...], rate_hz: int) -> Embedding:
        with blaming(Code.ENGINE_ERROR), _blaming_audio():
            return combined([await self._embedder.embed(pcm, rate_hz) for pcm in versions])

    async def sound(self, heard: Heard) -> Embedding:
        assert self.sounds is not None, "without prints of sounds, every clip that passes is a voice"
        with blaming(Code.ENGINE_ERROR), _blaming_audio():
            return await self.sounds.embed(heard.original, heard.sent_rate_hz)

    async def _kind(self, heard: Heard, *, only_voices: bool) -> Kind:
        """Listen until it is clear what the clip is; raises (10107) when it is nothing that is wanted here."""
        if self._speech is None:
            return "voice"
        with blaming(Code.ENGINE_ERROR):
            listening = await listen(self._speech, heard.versions[-1], heard.rate_hz, self._speech_rules)
        kind = listening.kind
        if kind is None or (only_voices and kind != "voice"):
            raise _refusal(listening.flaw, replace(heard.measured, speech_ms=listening.speech_ms))
        return kind

    def _refuse_flaw(self, measured: Measurement) -> None:
        if flaw := find_flaw(measured, self._limits):
            raise _refusal(flaw, measured)


@contextmanager
def blaming(code: Code) -> Iterator[None]:
    """Failures of a port, under the code of the part that failed."""
    try:
        yield
    except PortError as error:
        raise VoiceprintError(code, str(error)) from error


@contextmanager
def _blaming_audio() -> Iterator[None]:
    """What a model refuses is the caller's audio."""
    try:
        yield
    except Rejected as error:
        raise VoiceprintError(Code.ILLEGAL_PARAMETER, str(error)) from error


def _refusal(flaw: Flaw, measured: Measurement) -> VoiceprintError:
    data = {"reason": flaw.reason.value, "measured": measured.as_data()}
    return VoiceprintError(Code.ILLEGAL_PARAMETER, flaw.text, data)
