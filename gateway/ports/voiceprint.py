"""The voiceprint API as a role, and what a voiceprint service of our own keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.ports.speech import Embedding


@dataclass(frozen=True, slots=True)
class Candidate:
    name: str
    score: float
    """100 x cosine, as the voiceprint API's."""


class VoiceprintApi(Protocol):
    async def recognize(
        self, app_id: str, org_id: str, tag_id: str | None, pcm: bytes, rate_hz: int
    ) -> Sequence[Candidate]:
        """The ten closest enrolled voices, best first; empty when nobody is enrolled.

        Raises Rejected (with the API's code, such as 10107 for audio too poor) or Unavailable.
        """


@dataclass(frozen=True, slots=True)
class VoiceprintRow:
    """An enrolled voice as it is kept, without its audio. `print_id` changes when the audio does."""

    print_id: str
    app_id: str
    org_id: str
    tag_id: str
    name: str
    model: str
    """The embedding space of `embedding`."""
    embedding: Embedding


class VoiceprintStore(Protocol):
    """Keeps enrolled voices. A name is unique within (app, org, tag). Every method may raise Unavailable."""

    async def add(self, row: VoiceprintRow, audio: bytes) -> bool:
        """Keep a new voice, durably; False, changing nothing, when its name is taken."""

    async def replace(self, row: VoiceprintRow, audio: bytes) -> str | None:
        """Put `row` in the place of the voice of its name; the former `print_id`, None when there is no such voice."""

    async def remove(self, app_id: str, org_id: str, tag_id: str, names: Sequence[str] | None) -> Sequence[str]:
        """Delete these voices and their audio, or (None) all of the tag; the `print_id`s that are gone.

        All or nothing: when one of `names` is unknown, nothing is deleted and the answer is empty.
        """

    async def find(self, app_id: str, org_id: str, tag_id: str, name: str) -> VoiceprintRow | None: ...

    async def count(self, app_id: str, org_id: str, tag_id: str | None) -> int: ...

    async def page(
        self, app_id: str, org_id: str, tag_id: str | None, *, offset: int, limit: int
    ) -> Sequence[VoiceprintRow]:
        """The voices of a scope, newest first."""

    async def audio(self, print_id: str) -> bytes | None:
        """The audio kept with a voice, None when there is no such voice."""

    async def load(self, model: str) -> Sequence[VoiceprintRow]:
        """Every voice of one embedding space, oldest first."""

    async def models(self) -> dict[str, int]:
        """How many voices there are of each embedding space."""
