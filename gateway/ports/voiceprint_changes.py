"""What became of enrolled voices: for other nodes, which follow it, and for whoever must answer for it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from gateway.ports.voiceprint import VoiceprintRow

VoiceprintOperation = Literal["enrol", "update", "delete", "delete_all"]


@dataclass(frozen=True, slots=True)
class VoiceprintChange:
    """Voices of one tag that are gone, and those that have come, by `print_id`: nothing about anybody's voice."""

    app_id: str
    org_id: str
    tag_id: str
    gone: Sequence[str]
    come: Sequence[str]


@dataclass(frozen=True, slots=True)
class VoiceprintNews:
    """Changes after a position, in their order."""

    changes: Sequence[VoiceprintChange]
    position: str
    """That of the last of them."""
    more: bool
    """There are further ones after it."""


class VoiceprintChanges(Protocol):
    """What any process changed in a store of voices. Every method may raise Unavailable."""

    async def position(self) -> str:
        """That of the last change there was."""

    async def since(self, position: str) -> VoiceprintNews | None:
        """What came after `position`; None when that cannot be told: too much came since, or the store is another one
        (flushed, restored). Then whatever was known must be loaded anew."""

    async def rows(self, print_ids: Collection[str]) -> Sequence[VoiceprintRow]:
        """Those of these voices that are there."""


@dataclass(frozen=True, slots=True)
class AuditedVoice:
    print_id: str
    """Of an update, that of the voice as it is from then on."""
    name_digest: str
    """Keyed: whoever has the server's key can ask about a name, nobody can read one."""
    former_print_id: str = ""
    """Of an update, that of the audio and prints that it deleted."""


@dataclass(frozen=True, slots=True)
class VoiceprintAudit:
    """Who did what to enrolled voices, and when. Written in the same step as the change itself."""

    audit_id: str
    at_ms: int
    """Wall clock, ms since the Unix epoch."""
    app_id: str
    actor: str
    """Where the request came from, as far as it is known."""
    operation: VoiceprintOperation
    org_id: str
    tag_id: str
    voices: Sequence[AuditedVoice]


class VoiceprintAudits(Protocol):
    async def audits(
        self, app_id: str, *, from_ms: int, to_ms: int, limit: int, name: str | None = None
    ) -> Sequence[VoiceprintAudit]:
        """What was done from `from_ms` to `to_ms` (both included), latest first; with `name`, to voices of that name.

        Raises Unavailable.
        """
