"""All engines of one server: their processes, started together and stopped together."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from gateway.engines.adapters import (
    BACKGROUND_RANK,
    VOICE_MODELS,
    SileroConfirmer,
    VoiceEmbedder,
    WebrtcDenoiser,
    WhisperRecognizer,
    WhisperSounds,
)
from gateway.engines.decode import AvDecoder, decoder_pool
from gateway.engines.load import PoolLoad
from gateway.engines.manifest import CAMPPLUS, MANIFEST, SILERO, WHISPER_BASE
from gateway.engines.models import model_folder
from gateway.engines.pool import Pool
from gateway.engines.sound_space import SOUND_SPACES
from gateway.engines.worker import EngineSpec
from gateway.ports import Decoder, Denoiser, Embedder, Recognizer, SpeechConfirmer, WindowEmbedder

LIVE_QUEUE_LIMIT = 2048
"""Finals that may wait: minutes of them on a machine far too small, some 160 kB each."""
LIVE_JOB_TIMEOUT_S = 30
RECORDING_JOB_TIMEOUT_S = 180
EMBED_JOB_TIMEOUT_S = 30
CONFIRM_JOB_TIMEOUT_S = 10
DENOISE_JOB_TIMEOUT_S = 30
RECOGNIZER_NICENESS = 5
"""Live text takes every processor if it must, and leaves the audio's way in its turn."""
RECORDING_NICENESS = 15
OVERLOADED_LAG_S = 10.0
"""Live texts that start this late help nobody in the call; another call would only make it worse."""


class Engines:
    """Recogniser, embedder, confirmer, denoiser and decoder, each in processes of its own: none can hold up another.

    Once `start` has returned, the ports answer. `pools` names each queue, for metrics and readiness.
    """

    def __init__(
        self,
        models_dir: Path,
        spool_dir: Path,
        *,
        recognizer_model: str = WHISPER_BASE.name,
        voiceprint_model: str = CAMPPLUS.name,
        recognizer_processes: int | None = None,
        recording_processes: int = 1,
        takes_calls: bool = True,
        live_text: bool = True,
        on_ready: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`spool_dir` is emptied at start: files being decoded pass through it. `on_ready` hears each pool's name.

        `recognizer_processes` defaults to the number of processors; there are none without `live_text`, or in a
        process that does not take calls. Without `recording_processes` nobody transcribes recordings here.
        Raises ModelMissing, which names the command that fetches it.
        """
        whisper = {"folder": model_folder(models_dir, recognizer_model)}
        voice_model = VOICE_MODELS[voiceprint_model]
        voices = {"model_path": model_folder(models_dir, voiceprint_model) / MANIFEST[voiceprint_model].files[0].name}
        silero = {"model_path": model_folder(models_dir, SILERO.name) / SILERO.files[0].name}
        live_processes = (recognizer_processes or os.cpu_count() or 1) if takes_calls and live_text else 0
        live = Pool(
            "recognizer",
            EngineSpec("gateway.engines.whisper:Whisper", whisper, niceness=RECOGNIZER_NICENESS),
            processes=live_processes,
            queue_limit=LIVE_QUEUE_LIMIT,
            job_timeout_s=LIVE_JOB_TIMEOUT_S,
        )
        recordings = Pool(
            "recordings",
            EngineSpec("gateway.engines.whisper:Whisper", whisper, niceness=RECORDING_NICENESS),
            processes=recording_processes,
            queue_limit=4096,
            job_timeout_s=RECORDING_JOB_TIMEOUT_S,
        )
        embedder = Pool(
            "embedder",
            EngineSpec(voice_model.factory, voices),
            queue_limit=1024,
            job_timeout_s=EMBED_JOB_TIMEOUT_S,
        )
        confirmer = Pool(
            "confirmer",
            EngineSpec("gateway.engines.silero:Silero", silero),
            queue_limit=4096,
            job_timeout_s=CONFIRM_JOB_TIMEOUT_S,
        )
        denoiser = Pool(
            "denoiser",
            EngineSpec("gateway.engines.webrtc_noise:WebrtcNoise"),
            processes=1 if takes_calls else 0,
            queue_limit=256,
            job_timeout_s=DENOISE_JOB_TIMEOUT_S,
        )
        decoding = decoder_pool()
        pools = (live, recordings, embedder, confirmer, denoiser, decoding)
        self.pools: dict[str, Pool] = {pool.name: pool for pool in pools}
        self.recognizer: Recognizer = WhisperRecognizer(live, recordings)
        self.load = PoolLoad(live)
        """How far live text is behind; somebody has to ask for it once a second."""
        prints = VoiceEmbedder(embedder, voice_model)
        self.embedder: Embedder = prints
        self.windows: WindowEmbedder = prints
        has_sounds = recognizer_model in SOUND_SPACES
        self.sounds: Embedder | None = WhisperSounds(recordings, recognizer_model) if has_sounds else None
        """Prints of sounds that are no speech; None when the recogniser's model cannot make them."""
        self.confirmer: SpeechConfirmer = SileroConfirmer(confirmer)
        self.background_embedder: Embedder = VoiceEmbedder(embedder, voice_model, BACKGROUND_RANK)
        """As `embedder`, behind all that anybody waits for; so is the next."""
        self.background_confirmer: SpeechConfirmer = SileroConfirmer(confirmer, BACKGROUND_RANK)
        self.denoiser: Denoiser = WebrtcDenoiser(denoiser)
        self._decoder = AvDecoder(decoding, spool_dir)
        self.decoder: Decoder = self._decoder
        self._on_ready = on_ready

    @property
    def ready(self) -> bool:
        """Whether every engine has a process that answers."""
        return all(pool.available for pool in self.pools.values())

    @property
    def overload(self) -> str:
        """Why no new call should begin; nothing while live texts come in bearable time."""
        live = self.pools["recognizer"]
        if live.queued and live.lag_s > OVERLOADED_LAG_S:
            return f"live text comes {live.lag_s:.0f} s late"
        return ""

    async def start(self) -> None:
        """Load everything at once. Raises what failed first, after the rest was stopped again."""
        await asyncio.to_thread(self._decoder.prepare)
        started = await asyncio.gather(*(self._start(pool) for pool in self.pools.values()), return_exceptions=True)
        failures = [outcome for outcome in started if isinstance(outcome, BaseException)]
        if failures:
            await self.stop()
            raise failures[0]

    async def stop(self) -> None:
        """End every process; what waits or runs gets Unavailable."""
        await asyncio.gather(*(pool.stop() for pool in self.pools.values()))

    async def _start(self, pool: Pool) -> None:
        await pool.start()
        if pool.processes:
            self._on_ready(pool.name)
