"""The inside of a decoding process: one media file in, PCM out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import av
import numpy as np
from numpy.typing import NDArray

from gateway.ports import Rejected

CONTAINERS = (
    "wav,w64,aiff,au,caf,flac,mp3,ogg,opus,aac,ac3,eac3,amr,amrnb,amrwb,ape,tta,wv,dsf,gsm,g722,"
    "mov,mp4,m4a,3gp,3g2,matroska,webm,avi,asf,flv,mpegts,mpeg,rm"
)
"""What may be opened. Playlists (HLS, DASH, concat) are left out: they make a decoder open what they name."""

EXPECTED = "expected an audio file, or a video with a sound track"


class AvDecoding:
    def decode(
        self, folder: str, rate_hz: int | None, channels: int | None, max_s: float, max_bytes: int = 2**30
    ) -> tuple[int, int]:
        """Decode `folder/input` to `folder/output` as interleaved 16-bit PCM; gives its rate and channels.

        Raises Rejected (`undecodable`, `too_large`).
        """
        try:
            with Path(folder, "input").open("rb") as file, Path(folder, "output").open("wb") as output:
                return _convert(file, output, rate_hz, channels, max_s, max_bytes)
        except av.FFmpegError as cause:
            raise Rejected(f"cannot be decoded ({cause.strerror}); {EXPECTED}", code="undecodable") from cause
        except MemoryError as cause:
            raise Rejected(f"needs too much memory; {EXPECTED}", code="undecodable") from cause
        except OSError as cause:
            raise Rejected(f"its PCM could not be written: {cause.strerror}", code="too_large") from cause


def _convert(
    file: IO[bytes], output: IO[bytes], rate_hz: int | None, channels: int | None, max_s: float, max_bytes: int
) -> tuple[int, int]:
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "none"}
    with av.open(file, metadata_errors="replace", options=options) as container:
        if not container.streams.audio:
            raise Rejected(f"holds no sound; {EXPECTED}", code="undecodable")
        stream = container.streams.audio[0]
        if stream.codec_context is None:
            raise Rejected(f"its sound is in a format that nobody here knows; {EXPECTED}", code="undecodable")
        rate_hz = rate_hz or stream.rate
        channels = channels or stream.channels
        left_samples = int(max_s * rate_hz)
        heard = False
        for samples in _blocks(container, stream, rate_hz):
            heard = True
            pcm = _with_channels(samples[:left_samples], channels).astype("<i2").tobytes()
            if output.tell() + len(pcm) > max_bytes:
                raise Rejected(f"holds more than {max_bytes} bytes of PCM", code="too_large")
            output.write(pcm)
            left_samples -= len(samples)
            if left_samples <= 0:
                break
        if not heard:
            raise Rejected(f"no sound in it can be decoded; {EXPECTED}", code="undecodable")
        return rate_hz, channels


def _blocks(container: Any, stream: Any, rate_hz: int) -> Iterator[NDArray[np.int16]]:
    """The stream as blocks of shape (samples, channels) at `rate_hz`; broken packets are skipped."""
    setup: tuple[object, ...] = ()
    resampler: Any = None
    for frame in _frames(container, stream):
        if setup != (current := (frame.format.name, frame.layout.name, frame.sample_rate)):
            if resampler is not None:
                yield from _arrays(resampler.resample(None))
            # Rate and sample format only: channels are mixed here, where it is plain what a mix is.
            resampler = av.AudioResampler("s16", frame.layout.name, rate_hz)
            setup = current
        frame.pts = None  # timestamps of damaged files jump; the resampler must not fill or cut
        yield from _arrays(resampler.resample(frame))
    if resampler is not None:
        yield from _arrays(resampler.resample(None))


def _frames(container: Any, stream: Any) -> Iterator[Any]:
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.InvalidDataError):
            return
        try:
            frames = packet.decode()
        except av.InvalidDataError:
            continue
        yield from frames


def _arrays(frames: list[Any]) -> Iterator[NDArray[np.int16]]:
    for frame in frames:
        yield frame.to_ndarray().reshape(-1, len(frame.layout.channels))


def _with_channels(samples: NDArray[np.int16], channels: int) -> NDArray[np.int16]:
    """Mono is the mean of all channels; more channels than there are repeat the last, fewer leave the others out."""
    if samples.shape[1] == channels:
        return samples
    if channels == 1:
        return np.asarray(np.rint(samples.mean(axis=1, keepdims=True, dtype=np.float32)), np.int16)
    kept: NDArray[np.int16] = samples[:, np.minimum(np.arange(channels), samples.shape[1] - 1)]
    return kept
