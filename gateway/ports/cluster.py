"""What the nodes of a cluster share about calls: who holds each, and its journal's records until it is sealed.

A call is held under an epoch. Taking a call over raises it, and whatever still comes under an older one is refused:
that is how a node that was away for long (paused, cut off) learns that a call is no longer its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from gateway.ports.errors import Rejected


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to a call; it lasts until a node takes the call over."""

    call_id: str
    epoch: int
    """1 for the node that opened the call, one more with every take-over."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the holder of a call has got, told with each renewal."""

    lease: Lease
    seq: int
    """Number of the latest server message."""
    samples: int
    """Instants per channel that were acked."""


@dataclass(frozen=True, slots=True)
class Renewal:
    """What became of leases that were to be renewed; those in neither set are good for another while."""

    lost: frozenset[str]
    """Calls that another node has taken over."""
    unknown: frozenset[str]
    """Calls that the registry does not know, since it lost its memory: `register` them again."""


@dataclass(frozen=True, slots=True)
class HeldCall:
    """A call as the registry has it."""

    call_id: str
    app_id: str
    node: str
    """Name of the node that holds it, or held it last."""
    epoch: int
    header: bytes
    """As the journal keeps it at the head of the call; empty once the call is done."""
    progress_seq: int
    progress_samples: int
    """Both as of the last renewal: the call may have got further."""
    lease_left_ms: int
    """Negative: the lease ran out so long ago. By the registry's clock."""
    done: bool
    """Sealed by its holder, who hands it in: there is nothing left to take over."""
    hole_samples: int = 0
    """The holder lacks the audio before this instant, which an earlier holder may still have."""
    has_tail: bool = False
    """Its holder keeps its tail, or left it when it went. Else what the tail may hold is from before that holder."""


@dataclass(frozen=True, slots=True)
class TakeOver:
    """What a try to take a call over came to.

    `taken`: it is ours, under `call.epoch`. `held`: its holder's lease is good. `done`: its holder has finished it.
    `unknown`: the registry knows no such call of this app; `call` is None.
    """

    outcome: Literal["taken", "held", "done", "unknown"]
    call: HeldCall | None


class CallLeases(Protocol):
    """The registry of a cluster's calls. Times are the registry's own, so that no node's clock matters.

    Every method may raise Unavailable; what was asked may have happened all the same, and asking again is harmless
    but for a take-over, which then costs one more epoch.
    """

    async def register(self, lease: Lease, app_id: str, header: bytes, *, most: int = 0) -> bool:
        """Enter a call that this node holds; False when it is known under a newer epoch, or under this one at another
        node, or as done by another holder: then it is not ours.

        For a new call, and for one that the registry has forgotten. Entering it twice changes nothing. With `most`,
        raises Rejected for a new call when the app has as many whose leases have not run out, at all nodes together.
        """

    async def renew(self, calls: Sequence[Progress]) -> Renewal:
        """Extend the leases of all these calls in one round trip."""

    async def take_over(self, app_id: str, call_id: str, *, even_if_held: bool) -> TakeOver:
        """Take a call of this app from whichever node holds it; unless `even_if_held` its lease must have run out."""

    async def adopt(self, call_id: str, *, expired_for_ms: int) -> TakeOver:
        """Take over a call of any app whose lease ran out at least so long ago: nobody came back for it."""

    async def abandoned(self, *, expired_for_ms: int, limit: int) -> Sequence[str]:
        """Calls that `adopt` would take, the longest abandoned first."""

    async def find(self, call_id: str) -> HeldCall | None:
        """The call as the registry has it, of whatever app."""

    async def release(self, leases: Sequence[Lease]) -> None:
        """Let these leases run out now, those that are still ours: whoever comes next need not wait."""

    async def note_hole(self, lease: Lease, samples: int) -> None:
        """Note how much audio from the call's start the holder lacks; 0: nothing any more. Not for a lost lease."""

    async def note_over(self, lease: Lease) -> None:
        """The call takes no more audio: from now on it is none of those that its app has going on. Not for a lost
        lease."""

    async def finish(self, lease: Lease) -> bool:
        """The call is sealed here: drop its tail, and remember that it is done. False when it is not ours.

        The last question before a recording is handed in: of all nodes that ever held a call, one gets True.
        """


def too_many_calls(app_id: str, going_on: int) -> Rejected:
    """What an app hears that has as many calls as it may."""
    text = f"app {app_id} has {going_on} calls going on, as many as it may (10800)"
    return Rejected(text, code="too_many_calls")


@dataclass(frozen=True, slots=True)
class TailPart:
    """Records of one call, as its journal has them, that one commit brought."""

    lease: Lease
    number: int
    """Counts the parts of this epoch, from 1."""
    records: bytes
    """Encoded journal records, one after the other."""


@dataclass(frozen=True, slots=True)
class TailReceipt:
    """What became of one part. `behind`: parts before it are missing, or the call itself is (the registry lost some of
    its memory); the part was not kept, and `last_number` says how far the tail goes. Of a call that this holder has
    finished meanwhile nothing is kept, and nothing is missing: that is `kept` too."""

    outcome: Literal["kept", "fenced", "behind"]
    last_number: int


class CallTail(Protocol):
    """The records of calls that are not sealed yet, where another node finds them.

    Every method may raise Unavailable; a part appended twice is kept once.
    """

    async def append(self, parts: Sequence[TailPart]) -> Sequence[TailReceipt]:
        """Keep parts, at most one of each call, in one round trip; a receipt for each, in the same order.

        Raises Unavailable also when only some were kept.
        """

    def read(self, call_id: str) -> AsyncIterator[bytes]:
        """The records of every part, oldest epoch first; those of a part that was re-sent may come more than once."""

    async def trim(self, lease: Lease, before_number: int) -> None:
        """Drop every part before this one of the lease's epoch: what they held was sent again since."""


class CallReplica(Protocol):
    """Keeps the tails of this node's calls in step with its journal."""

    @property
    def degraded(self) -> str | None:
        """Why nothing is replicated at the moment, or None."""

    def follow(self, lease: Lease, app_id: str, header: bytes, *, whole: bool = True) -> None:
        """From the journal's next record of the call on. `whole` is False when the journal has earlier records of it
        that the tail has not: they are sent first."""

    def send_again(self, call_id: str) -> None:
        """The registry has forgotten the call: enter it again, with all that the journal has of it."""

    def forget(self, call_id: str) -> None:
        """Follow the call no more."""

    async def synced(self, call_id: str, position: int) -> int:
        """Return once what the journal took of the call up to `position` is in its tail too, and up to which position
        that is true by then. At once for a call that is not followed. Raises Unavailable, at each failed try."""


class LateParts(Protocol):
    """What nodes that were away still have of calls that others took over without it. May raise Unavailable."""

    async def offer(self, call_id: str, pieces: AsyncIterator[bytes]) -> None:
        """Lay down a call's journal records for whoever has the call; in place of an earlier offer."""

    async def offered(self) -> Sequence[str]:
        """Calls that there are late parts of."""

    def read(self, call_id: str) -> AsyncIterator[bytes]:
        """The records as they were offered; nothing when the offer is not complete."""

    async def drop(self, call_id: str) -> None:
        """The part has found its place, or nobody wants it."""
