"""All calls of one process: begun, come back to, told what voice QC says of them, let go at shutdown."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable

import msgspec

from gateway.call.settings import CallSettings
from gateway.ports import Lease, QualityAnswer, Rejected, Unavailable
from gateway.session.admission import Admission, Limits, OwnPlaces, Places
from gateway.session.engines import Engines
from gateway.session.errands import Errands
from gateway.session.filing import Filing
from gateway.session.going_on import GoingOn
from gateway.session.in_memory import CallsInMemory
from gateway.session.keeping import Keeping, Patience
from gateway.session.making import CallMaker
from gateway.session.moving import Moving
from gateway.session.rebuilding import CallHeader, Recovered, breather, rule_digests
from gateway.session.recovery import Recovery
from gateway.session.rulesets import RuleSets, RulesInForce
from gateway.session.session import CallSession
from gateway.session.taking_over import TakingOver
from gateway.session.welcome import Welcome
from protocol.codec import MAX_MESSAGE_BYTES
from protocol.errors import ProtocolError
from protocol.messages import Resume, Start

RECOVERY_WAIT_S = 5.0
"""How long a `resume` waits for its call to be taken up; then the client is asked to try again."""
MAX_UNACKED_MS = 10_000
"""How far a client may run ahead of the acks before it should wait."""


class Calls:
    """What clients, voice QC and the rest of the server ask of a process's calls."""

    def __init__(
        self,
        engines: Engines,
        keeping: Keeping,
        rules: RuleSets,
        settings: CallSettings,
        patience: Patience,
        limits: Limits,
        token_key: bytes,
        moving: Moving,
        pressure: Callable[[], str] = lambda: "",
        places: Places | None = None,
    ) -> None:
        """`pressure` says what weighs on the server so that it had better take no new call, or nothing; `places` knows
        of the calls that other processes of the server have."""
        self._places = places or OwnPlaces()
        self._has_siblings = places is not None
        self._moving = moving
        self._keeping = keeping
        self._rules = rules
        self._settings = settings
        self._limits = limits
        self._admission = admission = Admission(limits, keeping.journal, pressure)
        self._memory = memory = CallsInMemory(keeping.feed, keeping.metrics, patience.resume_window_s)
        self._errands = Errands()
        self._filing = Filing(memory, keeping, self._errands)
        self._maker = CallMaker(engines, keeping, settings, patience, self._filing.end)
        told = {
            "max_message_bytes": MAX_MESSAGE_BYTES,
            "max_call_s": int(limits.max_call_s),
            "max_unacked_ms": MAX_UNACKED_MS,
        }
        self._welcome = Welcome(token_key, patience.resume_window_s, told)
        breathe = breather(busy=lambda: bool(memory.going_on), stopping=lambda: admission.closed)
        going_on = GoingOn(memory, self._maker, keeping, rules, settings, moving, breathe)
        self.recovery = Recovery(going_on.take_up)
        self._taking_over = TakingOver(
            moving, going_on, memory, self._maker, self._welcome, keeping, rules, self._errands
        )

    # --- new calls ---

    async def open(self, app_id: str, start: Start) -> CallSession:
        """A new call of the app.

        Raises ProtocolError (`bad_message`, `overloaded`, `too_many_calls`, `shutting_down`).
        """
        if start.roles and len(start.roles) != start.channels:
            raise ProtocolError("bad_message", f"{len(start.roles)} roles for {start.channels} channels - at `$.roles`")
        in_force = await self._rules.of_app(app_id, pinyin=self._settings.pinyin)
        self._refuse_if_full(app_id)
        call_id = secrets.token_hex(10)
        header = CallHeader(
            rate_hz=start.rate,
            channels=start.channels,
            app_id=app_id,
            began_at_ms=round(self._keeping.clock.wall() * 1000),
            start=start,
            settings=self._settings.as_data(),
            rules=in_force.digest,
        )
        try:
            await self._places.take(app_id, call_id)
            return await self._opened(call_id, header, in_force)
        finally:
            self._places.settle(call_id)

    async def _opened(self, call_id: str, header: CallHeader, in_force: RulesInForce) -> CallSession:
        lease = await self._entered(call_id, header.app_id, header)
        try:
            self._refuse_if_full(header.app_id)  # nothing is awaited from here on: a burst cannot pass the limit
        except ProtocolError:
            self._errands.begin(self._keeping.owners.withdraw(lease))
            raise
        session = self._maker.anew(lease, header, in_force, whole=True)
        self._keeping.journal.open_call(call_id, msgspec.json.encode(header), lease.epoch)
        self._memory.begin(session, self._welcome.of_call(call_id))
        self._errands.begin(session.save("live"))
        return session

    async def _entered(self, call_id: str, app_id: str, header: CallHeader) -> Lease:
        try:
            most = self._limits.max_calls_per_app
            return await self._keeping.owners.open(call_id, app_id, msgspec.json.encode(header), most=most)
        except Rejected as fault:
            raise ProtocolError("too_many_calls", str(fault)) from fault
        except Unavailable as fault:
            raise ProtocolError("overloaded", f"what is said could not be kept safely right now: {fault}") from fault

    def _refuse_if_full(self, app_id: str) -> None:
        refusal = self._admission.refusal(app_id, self._memory.going_on, self._memory.kept)
        if refusal is not None:
            raise refusal
        replica = self._keeping.owners.replica
        if replica is not None and replica.degraded:
            raise ProtocolError("overloaded", f"what is said could not be kept safely right now: {replica.degraded}")

    def refusal_at_the_door(self, app_id: str) -> ProtocolError | None:
        """Why the app need not even open a socket, None if it may: an app with calls here may want to resume one."""
        alone = self._keeping.owners.standing.alone and not self._has_siblings
        may_come_from_elsewhere = not alone and not self._admission.closed
        if may_come_from_elsewhere or not self.recovery.finished or self._memory.has_any_of(app_id):
            return None
        return self._admission.refusal(app_id, self._memory.going_on, self._memory.kept)

    # --- calls that go on ---

    async def resume(self, app_id: str, message: Resume) -> CallSession:
        """The call a client comes back to. Raises ProtocolError: foreign, forged and gone are all `unknown_call`;
        `recovering` for one that is being taken up, `not_resumable` for one that could not be rebuilt,
        `held_elsewhere` and `cluster_unavailable` for one that may be had later."""
        call_id = message.call_id
        unknown = ProtocolError("unknown_call", f"no call {call_id} can be resumed with this token")
        if not self._welcome.was_given(call_id, message.resume_token):
            raise unknown
        try:
            async with asyncio.timeout(RECOVERY_WAIT_S):
                await self.recovery.taken_up(call_id)
                # Its client may have been elsewhere meanwhile, and this node have heard nothing of it.
                await self._keeping.owners.confirm(call_id)
                if not self._memory.knows(call_id):
                    if self._admission.closed:
                        raise ProtocolError("shutting_down", "the server is going away")
                    await self._taking_over.fetch(app_id, message)
        except TimeoutError:
            raise ProtocolError("recovering", "the call is being rebuilt after a restart; try again") from None
        if self._memory.was_cut_off(app_id, call_id):
            raise ProtocolError("not_resumable", f"call {call_id} could not be rebuilt after a restart; it was hung up")
        session = self._memory.find_again(app_id, call_id)
        if session is None:
            raise unknown
        session.step_over(message.last_seq)
        return session

    def take_up(self, find: Callable[[], Awaitable[Iterable[Recovered]]]) -> None:
        """Look for the calls that earlier processes have left and let them go on, in the background."""

        async def find_and_tidy() -> list[Recovered]:
            found = list(await find())
            await self._rules.keep_only({digest for call in found for digest in rule_digests(call)})
            return found

        self.recovery.start(find_and_tidy)

    async def adopt(self, call_id: str) -> None:
        """See `TakingOver.adopt`."""
        await self._taking_over.adopt(call_id)

    def lose(self, call_id: str) -> None:
        """Another node has the call."""
        self._memory.lose(call_id)
        self._moving.leave(call_id)

    def pace(self, level: int) -> None:
        """See `CallsInMemory.pace`."""
        self._memory.pace(level)

    # --- what there is ---

    @property
    def sessions(self) -> list[CallSession]:
        return list(self._memory.going_on)

    def __len__(self) -> int:
        return len(self._memory.going_on)

    def find(self, app_id: str, call_id: str) -> CallSession | None:
        return self._memory.find(app_id, call_id)

    async def has(self, call_id: str) -> bool:
        """Whether a client may come back to this call here: it goes on, has just ended, or is yet to be taken up."""
        return await self.recovery.finds(call_id) or self._memory.knows(call_id)

    # --- the end ---

    async def filed(self, call_id: str) -> None:
        """Return once the store has all of a call that has just ended."""
        await self._filing.filed(call_id)

    async def note_verdict(self, app_id: str, session_id: str, answer: QualityAnswer) -> None:
        """Take what voice QC says of a call; a repeated verdict changes nothing."""
        await self.recovery.taken_up(session_id)
        await self._filing.note_verdict(app_id, session_id, answer)

    async def note_no_verdict(self, app_id: str, session_id: str, error: str) -> None:
        """Voice QC will never judge this call."""
        await self.recovery.taken_up(session_id)
        await self._filing.note_no_verdict(app_id, session_id, error)

    async def stop(self) -> None:
        """Take no new calls and let go of those in memory; the journal has them. Waits for what is being kept."""
        self._admission.closed = True
        self._keeping.owners.stop_waiting()
        await self.recovery.stop()
        await self._taking_over.stop()
        await asyncio.gather(*(session.stop() for session in self.sessions))
        await self._errands.done()
        await self._keeping.owners.hand_over()
