"""Any audio file as PCM, decoded by PyAV in a child process that lives for one file.

Files come from outside, and decoders are where hostile bytes do harm: the child has limits on memory, CPU time and what
it may write, reads only containers on a list (none that names other files or addresses), and is gone after the file.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

from gateway.engines.pool import JobKilled, Pool
from gateway.engines.worker import EngineSpec
from gateway.ports import DecodedAudio, Rejected, Unavailable

MIB = 1024 * 1024
MOST_MEMORY_BYTES = 2048 * MIB
MOST_CPU_S = 120
MOST_OUTPUT_BYTES = 1024 * MIB
JOB_TIMEOUT_S = 180

EXPECTED = (
    "an audio file, or a video with a sound track: WAV, FLAC, MP3, Ogg/Opus, M4A/MP4, AAC, AMR, WebM and the like"
)
HEADERLESS = (".pcm", ".raw")
SAMPLE_BYTES = 2


def decoder_pool(name: str = "decode", *, processes: int = 1, queue_limit: int = 64) -> Pool:
    """Processes for one file each, started ahead. A file that killed its process is not tried again."""
    spec = EngineSpec(
        "gateway.engines.av_decoding:AvDecoding",
        niceness=5,
        limits={"RLIMIT_AS": MOST_MEMORY_BYTES, "RLIMIT_CPU": MOST_CPU_S, "RLIMIT_FSIZE": MOST_OUTPUT_BYTES},
    )
    return Pool(
        name,
        spec,
        processes=processes,
        queue_limit=queue_limit,
        job_timeout_s=JOB_TIMEOUT_S,
        jobs_per_process=1,
        retries=0,
    )


class AvDecoder:
    """The `Decoder` port over a pool of single-use processes; files pass through `spool`, which is its own."""

    def __init__(self, pool: Pool, spool: Path) -> None:
        self._pool = pool
        self._spool = spool

    def prepare(self) -> None:
        """Make the spool, and empty it of what a crash left there: it holds voices."""
        shutil.rmtree(self._spool, ignore_errors=True)
        self._spool.mkdir(parents=True, mode=0o700)

    async def decode(
        self,
        data: bytes,
        *,
        name: str = "",
        rate_hz: int | None = None,
        channels: int | None = None,
        max_s: float = 3600,
        max_bytes: int | None = None,
    ) -> DecodedAudio:
        """See the port. A name that ends in .pcm or .raw means headerless PCM; then `rate_hz` says what it is.

        Raises Rejected: `undecodable`, or `too_large` when the PCM would pass `max_bytes` (or 1 GiB); Unavailable when
        overloaded.
        """
        if not data:
            raise Rejected(f"the file {name!r} is empty, expected {EXPECTED}", code="undecodable")
        if name.lower().endswith(HEADERLESS):
            return _headerless(data, name, rate_hz, channels or 1, max_s)
        try:
            folder = await asyncio.to_thread(_stage, self._spool, data)
        except OSError as cause:
            raise Unavailable(f"{name!r} cannot be put where it is decoded: {cause}") from cause
        arguments = (str(folder), rate_hz, channels, max_s, max_bytes or MOST_OUTPUT_BYTES)
        try:
            found_hz, found_channels = await self._pool.run("decode", *arguments)
            pcm = await asyncio.to_thread((folder / "output").read_bytes)
        except JobKilled as cause:
            message = f"{name!r} took more memory or time than decoding may take, expected {EXPECTED}"
            raise Rejected(message, code="undecodable") from cause
        except Rejected as refusal:
            raise Rejected(f"{name!r}: {refusal}", code=refusal.code) from refusal
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        return DecodedAudio(pcm, found_hz, found_channels)


def _headerless(data: bytes, name: str, rate_hz: int | None, channels: int, max_s: float) -> DecodedAudio:
    if rate_hz is None:
        raise Rejected(f"{name!r} is headerless PCM: its sample rate must be given", code="undecodable")
    if len(data) % (SAMPLE_BYTES * channels):
        message = f"{name!r}: {len(data)} bytes are no whole number of 16-bit samples for {channels} channels"
        raise Rejected(message, code="undecodable")
    return DecodedAudio(data[: SAMPLE_BYTES * channels * int(max_s * rate_hz)], rate_hz, channels)


def _stage(spool: Path, data: bytes) -> Path:
    folder = Path(tempfile.mkdtemp(dir=spool))
    try:
        (folder / "input").write_bytes(data)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder
