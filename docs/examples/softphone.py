"""Plays a WAV file as a softphone would, and prints what the server hears.

The file: 16-bit PCM; 8, 16 or 48 kHz; one or two channels.

python softphone.py ws://127.0.0.1:8081/v1/calls APPID SECRET call.wav
"""

# ruff: noqa: T201 - printing is what it is for

import asyncio
import sys
import wave

from protocol.client import CallClient
from protocol.messages import Alert, AlertUpdate, Ended, Speaker, Start, Transcript

CHUNK_MS = 100


async def play(call: CallClient, pcm: bytes, chunk_bytes: int) -> None:
    due_s = asyncio.get_running_loop().time()
    for at in range(0, len(pcm), chunk_bytes):
        await call.send_audio(pcm[at : at + chunk_bytes])
        due_s += CHUNK_MS / 1000
        await asyncio.sleep(due_s - asyncio.get_running_loop().time())
    await call.hang_up(wait_qc_ms=60_000)


async def main(url: str, app_id: str, secret: str, path: str) -> None:
    with wave.open(path) as wav:
        rate, channels, pcm = wav.getframerate(), wav.getnchannels(), wav.readframes(wav.getnframes())
    start = Start(rate=rate, channels=channels)  # the server refuses any others
    async with CallClient(url, start, app_id=app_id, secret=secret) as call, asyncio.TaskGroup() as tasks:
        tasks.create_task(play(call, pcm, rate * CHUNK_MS // 1000 * 2 * channels))
        async for message in call:
            match message:
                case Transcript(final=True):
                    print(f"{message.begin_ms / 1000:7.2f} s  {message.role}: {message.text}")
                case Speaker():
                    print(f"{message.at_ms / 1000:7.2f} s  {message.role} is {message.name or message.state}")
                case Alert() | AlertUpdate():
                    print(f"{message.at_ms / 1000:7.2f} s  {message}")
                case Ended():
                    print(f"ended after {message.duration_ms / 1000} s: {message.reason}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:5]))
