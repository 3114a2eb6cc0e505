"""The voiceprint API as a role, and what a voiceprint service of our own keeps."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

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


Kind = Literal["voice", "sound"]
"""What was enrolled: somebody's voice, or any other sound, such as an instrument's or an animal's."""


@dataclass(frozen=True, slots=True)
class Prints:
    """What one embedding space knows of an enrolled voice: a print for each clip that was enrolled."""

    space: str
    """Prints of two spaces never meet. A model may have several, such as one for telephone lines."""
    vectors: NDArray[np.float32]
    """Shape (clips, d), each of unit length."""

    @property
    def combined(self) -> Embedding:
        """One print for all clips: their mean, of unit length."""
        mean = self.vectors.mean(axis=0)
        return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-12), np.float32)


@dataclass(frozen=True, slots=True)
class VoiceprintRow:
    """An enrolled voice as it is kept, without its audio. `print_id` changes when the audio does."""

    print_id: str
    app_id: str
    org_id: str
    tag_id: str
    name: str
    prints: tuple[Prints, ...]
    """At most one of each space: the voice is found in these spaces, and in no others."""
    kind: Kind = "voice"

    def in_space(self, space: str) -> Prints | None:
        return next((one for one in self.prints if one.space == space), None)


class VoiceprintStore(Protocol):
    """Keeps enrolled voices. A name is unique within (app, org, tag). Every method may raise Unavailable.

    `audio` is one file for each enrolled clip, in the order of the rows' `vectors`. `actor` is where a request for a
    change came from; each change is audited in the same step.
    """

    async def add(self, row: VoiceprintRow, audio: Sequence[bytes], *, actor: str = "") -> bool:
        """Keep a new voice, durably; False, changing nothing, when its name is taken."""

    async def replace(
        self, row: VoiceprintRow, audio: Sequence[bytes], *, actor: str = "", former: str | None = None
    ) -> str | None:
        """Put `row` in the place of the voice of its name; the former `print_id`, None when there is no such voice.

        With `former`, only in the place of the voice of that `print_id`. What was there is deleted as `remove` deletes.
        """

    async def remove(
        self, app_id: str, org_id: str, tag_id: str, names: Sequence[str] | None, *, actor: str = ""
    ) -> Sequence[str]:
        """Delete these voices and their audio for good, or (None) all of the tag; the `print_id`s that are gone.

        All or nothing: when one of `names` is unknown, nothing is deleted and the answer is empty.
        """

    async def find(self, app_id: str, org_id: str, tag_id: str, name: str) -> VoiceprintRow | None: ...

    async def count(self, app_id: str, org_id: str, tag_id: str | None) -> int: ...

    async def page(
        self, app_id: str, org_id: str, tag_id: str | None, *, offset: int, limit: int
    ) -> Sequence[VoiceprintRow]:
        """The voices of a scope, newest first."""

    async def audio(self, print_id: str, clip: int = 0) -> bytes | None:
        """The audio of one clip of a voice, None when there is no such voice or clip."""

    async def load(self, spaces: Collection[str]) -> Sequence[VoiceprintRow]:
        """Every voice with a print in one of these embedding spaces, oldest first."""

    async def unsearchable(self, spaces: Collection[str]) -> Mapping[str, int]:
        """How many voices have a print in none of these spaces, by the spaces that they do have one in."""
