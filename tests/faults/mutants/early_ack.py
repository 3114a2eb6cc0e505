"""Acknowledges audio before it is safe."""

import asyncio

from gateway.stores.journal import FileJournal

_append_audio = FileJournal.append_audio


def _and_acknowledge(self: FileJournal, call_id: str, first_sample: int, pcm: bytes) -> int:
    position = _append_audio(self, call_id, first_sample, pcm)
    listener = self._audio_listener
    if listener is not None:
        end_sample = first_sample + len(pcm) // self._calls[call_id].layout.block_bytes
        asyncio.get_running_loop().call_soon(listener.note_safe, {call_id: end_sample}, position)
    return position


def break_it() -> None:
    FileJournal.append_audio = _and_acknowledge  # type: ignore[method-assign]
