"""All calls of one process: opened, found again, judged, taken up after a crash, let go at shutdown."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

import msgspec
import structlog

from gateway.call.document import CallDocument
from gateway.call.events import Accepted, HungUp, LoadChanged, QcJudged, QcProgressed
from gateway.call.machine import Call
from gateway.call.replay import Diverged
from gateway.call.settings import CallSettings, CallTerms
from gateway.call.states import State
from gateway.ports import Lease, QualityAnswer, Rejected, Unavailable
from gateway.session.acks import Acknowledgements
from gateway.session.admission import Admission, Limits, OwnPlaces, Places
from gateway.session.engines import CallEngines, Engines, Voices
from gateway.session.handing_in import hand_in_what_is_left
from gateway.session.keeping import Keeping, Patience
from gateway.session.moving import SEQ_RESERVE, Moving, Taken
from gateway.session.rebuilding import (
    CallHeader,
    Interrupted,
    Rebuilt,
    Recovered,
    breather,
    header_of,
    rebuild,
    rule_digests,
)
from gateway.session.recovery import Recovery
from gateway.session.rulesets import RuleSets, RulesInForce, RulesOfCall
from gateway.session.session import CallSession
from gateway.session.verdicts import StoredVerdicts
from protocol.codec import MAX_MESSAGE_BYTES
from protocol.errors import ProtocolError
from protocol.messages import Resume, Start

log = structlog.get_logger(__name__)

OVERLOADED_RETRY_MS = 5000
RECOVERY_WAIT_S = 5.0
"""How long a `resume` waits for its call to be taken up; then the client is asked to try again."""
MAX_UNACKED_MS = 10_000
"""How far a client may run ahead of the acks before it should wait."""


class Calls:
    """The registry of live calls, and what is done about those that are no longer in memory."""

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
        self._taking: dict[str, asyncio.Task[None]] = {}
        """Calls that clients have brought from other nodes, on their way in."""
        self._engines = engines
        self._keeping = keeping
        self._acks = Acknowledgements(keeping.journal)
        self._rules = rules
        self._settings = settings
        self._patience = patience
        self._limits = limits
        self._token_key = token_key
        self._live: dict[str, CallSession] = {}
        self._lately: dict[str, CallSession] = {}
        """Ended, and kept for the resume window: a client whose socket broke comes back for the last messages."""
        self._filing: dict[str, asyncio.Task[None]] = {}
        self._cut_off: dict[str, str] = {}
        """Calls that cannot go on after a crash, and whose they are: their clients are told, for the resume window."""
        self.recovery = Recovery(self._take_up)
        self._closing: set[asyncio.Task[None]] = set()
        self._admission = Admission(limits, keeping.journal, pressure)
        self._load = 0
        self._verdicts = StoredVerdicts(keeping.calls, keeping.outcomes, keeping.clock)

    # --- opening and finding ---

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
            self._later(self._keeping.owners.withdraw(lease))
            raise
        session = self._new_session(call_id, header, in_force)
        self._hold(session, lease, header, whole=True)
        self._keeping.journal.open_call(call_id, msgspec.json.encode(header), lease.epoch)
        self._begin(session)
        self._later(session.save("live"))
        return session

    async def _entered(self, call_id: str, app_id: str, header: CallHeader) -> Lease:
        try:
            most = self._limits.max_calls_per_app
            return await self._keeping.owners.open(call_id, app_id, msgspec.json.encode(header), most=most)
        except Rejected as fault:
            raise ProtocolError("too_many_calls", str(fault)) from fault
        except Unavailable as fault:
            raise ProtocolError("overloaded", f"what is said could not be kept safely right now: {fault}") from fault

    def _new_session(
        self, call_id: str, header: CallHeader, in_force: RulesInForce, *, id_prefix: str = ""
    ) -> CallSession:
        terms = CallTerms.of(call_id, header.start)
        settings = CallSettings.from_data(header.settings, self._settings.gate)
        rules = RulesOfCall(in_force, pinyin=header.pinyin)
        core = Call(terms, settings, in_force.rules, rules.find, id_prefix=id_prefix)
        document = CallDocument(call_id, header.start, terms.roles)
        session = self._session(header.app_id, core, document, rules, header.start)
        session.began_at_ms = header.began_at_ms
        return session

    def _hold(self, session: CallSession, lease: Lease, header: CallHeader, *, whole: bool, done: bool = False) -> None:
        self._keeping.owners.hold(
            lease,
            session.app_id,
            msgspec.json.encode(header),
            lambda: session.rules.digests,
            lambda: session.progress,
            whole=whole,
            done=done,
        )

    def _begin(self, session: CallSession) -> None:
        self._live[session.call_id] = session
        self._keeping.feed.began(session)
        self._keeping.metrics.calls_total.inc()
        self._keeping.metrics.calls_live.set(len(self._live))
        limits = {
            "max_message_bytes": MAX_MESSAGE_BYTES,
            "max_call_s": int(self._limits.max_call_s),
            "max_unacked_ms": MAX_UNACKED_MS,
        }
        session.receive(Accepted(self._token(session.call_id), self._patience.resume_window_s, limits))
        if self._load:
            session.receive(LoadChanged(self._load))

    def _refuse_if_full(self, app_id: str) -> None:
        refusal = self._admission.refusal(app_id, self._live.values(), len(self._live) + len(self._lately))
        if refusal is not None:
            raise refusal
        replica = self._keeping.owners.replica
        if replica is not None and replica.degraded:
            raise ProtocolError("overloaded", f"what is said could not be kept safely right now: {replica.degraded}")

    def refusal_at_the_door(self, app_id: str) -> ProtocolError | None:
        """Why the app need not even open a socket, None if it may: an app with calls here may want to resume one."""
        alone = self._keeping.owners.standing.alone and not self._has_siblings
        may_come_from_elsewhere = not alone and not self._admission.closed
        if (
            may_come_from_elsewhere
            or not self.recovery.finished
            or any(session.app_id == app_id for kept in (self._live, self._lately) for session in kept.values())
        ):
            return None
        return self._admission.refusal(app_id, self._live.values(), len(self._live) + len(self._lately))

    async def resume(self, app_id: str, message: Resume) -> CallSession:
        """The call a client comes back to. Raises ProtocolError: foreign, forged and gone are all `unknown_call`;
        `recovering` for one that is being taken up, `not_resumable` for one that could not be rebuilt,
        `held_elsewhere` and `cluster_unavailable` for one that may be had later."""
        call_id = message.call_id
        unknown = ProtocolError("unknown_call", f"no call {call_id} can be resumed with this token")
        if not hmac.compare_digest(self._token(call_id).encode(), message.resume_token.encode()):
            raise unknown
        try:
            async with asyncio.timeout(RECOVERY_WAIT_S):
                await self.recovery.taken_up(call_id)
                # Its client may have been elsewhere meanwhile, and this node have heard nothing of it.
                await self._keeping.owners.confirm(call_id)
                if call_id not in self._live and call_id not in self._lately and call_id not in self._cut_off:
                    await self._fetch(app_id, message)
        except TimeoutError:
            raise ProtocolError("recovering", "the call is being rebuilt after a restart; try again") from None
        if self._cut_off.get(call_id) == app_id:
            raise ProtocolError("not_resumable", f"call {call_id} could not be rebuilt after a restart; it was hung up")
        session = self._live.get(call_id) or self._lately.get(call_id)
        if session is None or session.app_id != app_id:
            raise unknown
        session.step_over(message.last_seq)
        return session

    # --- from and to other nodes ---

    async def _fetch(self, app_id: str, message: Resume) -> None:
        """Take the call over from another node, once, however many ask for it. Raises ProtocolError."""
        if self._admission.closed:
            raise ProtocolError("shutting_down", "the server is going away")
        fetching = self._taking.get(message.call_id)
        if fetching is None:
            fetching = asyncio.get_running_loop().create_task(self._take_over(app_id, message))
            self._taking[message.call_id] = fetching
            fetching.add_done_callback(lambda task: self._fetched(message.call_id, task))
        await asyncio.shield(fetching)

    def _fetched(self, call_id: str, task: asyncio.Task[None]) -> None:
        del self._taking[call_id]
        if not task.cancelled() and task.exception() is not None:
            log.warning("call_not_taken_over", call_id=call_id, reason=str(task.exception()))

    async def _take_over(self, app_id: str, message: Resume) -> None:
        taken = await self._moving.take_over(app_id, message.call_id)
        if taken is None:
            return
        try:
            if taken.found is not None and (message.from_sample or 0) <= taken.found.samples:
                await self._go_on_with(taken.found, _header_of(taken.found), taken.lease, whole=True)
            else:
                await self._go_on_without_audio(taken, message)
        except Unavailable as fault:
            await self._moving.give_back(taken.lease)
            raise ProtocolError("cluster_unavailable", str(fault)) from fault
        except OSError as fault:
            await self._moving.give_back(taken.lease)
            raise ProtocolError("overloaded", f"the call cannot be stored here right now: {fault}") from fault

    async def adopt(self, call_id: str) -> None:
        """Take up a call whose node is gone and whose client has stayed away for its window: it is hung up."""
        taken = await self._moving.adopt(call_id)
        if taken is not None and taken.found is not None:
            await self._go_on_with(taken.found, _header_of(taken.found), taken.lease, whole=True)
            session = self._live.get(call_id)
            if session is not None and session.live:
                session.receive(HungUp("lost"))

    async def _go_on_without_audio(self, taken: Taken, message: Resume) -> None:
        """What the lost node acked is missing here: the call goes on from what its client still has."""
        header = msgspec.json.decode(taken.header, type=CallHeader)
        in_force = await self._rules.of_digest(header.rules, pinyin=header.pinyin)
        if in_force is None:
            in_force = await self._rules.of_app(header.app_id, pinyin=header.pinyin)
        session = self._new_session(taken.lease.call_id, header, in_force, id_prefix=f"n{taken.lease.epoch}")
        samples = taken.progress_samples if message.from_sample is None else message.from_sample
        self._keeping.journal.begin_epoch(taken.lease.call_id, taken.lease.epoch, taken.header)
        self._hold(session, taken.lease, header, whole=False)
        self._begin(session)
        through_seq = max(message.last_seq, taken.progress_seq) + SEQ_RESERVE
        session.go_on_without_audio(samples, through_seq, header)
        await self._keeping.owners.leases.note_hole(taken.lease, samples)
        self._later(session.save("live"))

    def lose(self, call_id: str) -> None:
        """Another node has the call: say nothing more of it, and hand nothing in."""
        session = self._live.pop(call_id, None)
        if session is not None:
            session.let_go()
            self._keeping.feed.left(session)
            self._keeping.metrics.calls_live.set(len(self._live))
        self._moving.leave(call_id)

    def live(self, app_id: str) -> Iterable[CallSession]:
        """The app's calls that are in memory."""
        return [session for session in self._live.values() if session.app_id == app_id]

    def find(self, app_id: str, call_id: str) -> CallSession | None:
        session = self._live.get(call_id)
        return session if session is not None and session.app_id == app_id else None

    async def has(self, call_id: str) -> bool:
        """Whether a client may come back to this call here: it goes on, has just ended, or is yet to be taken up."""
        left = await self.recovery.finds(call_id)
        return left or any(call_id in known for known in (self._live, self._lately, self._cut_off))

    async def filed(self, call_id: str) -> None:
        """Return once the store has all of a call that has just ended."""
        if call_id in self._filing:
            await asyncio.wait([self._filing[call_id]])

    def pace(self, level: int) -> None:
        """The recogniser is so loaded (0 to 6): every call, and those to come, ask for texts accordingly."""
        if level != self._load:
            self._load = level
            for session in list(self._live.values()):
                session.receive(LoadChanged(level))

    def __len__(self) -> int:
        return len(self._live)

    def _session(
        self, app_id: str, core: Call, document: CallDocument, rules: RulesOfCall, start: Start
    ) -> CallSession:
        voices = Voices(app_id, start.org_id or app_id, start.tag_id or None)
        keeping, terms = self._keeping, core.terms
        return CallSession(
            app_id,
            terms,
            core,
            document,
            rules,
            CallEngines(self._engines, voices, terms.call_id, start.rate, keeping.clock, keeping.metrics),
            keeping,
            self._patience,
            self._acks,
            self._ended,
            framed=start.framing == "framed",
        )

    def _token(self, call_id: str) -> str:
        digest = hmac.new(self._token_key, b"resume/" + call_id.encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    # --- verdicts ---

    async def note_verdict(self, app_id: str, session_id: str, answer: QualityAnswer) -> None:
        """Take what voice QC says of a call; a repeated verdict changes nothing."""
        await self.recovery.taken_up(session_id)
        failure = "" if answer.succeeded else answer.state_desc
        session = self.find(app_id, session_id)
        if session is None:
            if answer.done:
                await self._judge_stored(app_id, session_id, answer.result, failure)
        elif answer.done:
            session.receive(QcProgressed(session_id, answer.state, answer.state_desc))
            session.receive(QcJudged(session_id, answer.result, failure))
            await session.safe()  # before the outbox forgets it
        else:
            session.receive(QcProgressed(session_id, answer.state, answer.state_desc))

    async def note_no_verdict(self, app_id: str, session_id: str, error: str) -> None:
        """Voice QC will never judge this call."""
        await self.recovery.taken_up(session_id)
        session = self.find(app_id, session_id)
        if session is None:
            await self._judge_stored(app_id, session_id, {}, error)
        else:
            session.receive(QcJudged(session_id, {}, error or "no verdict"))
            await session.safe()

    async def _judge_stored(self, app_id: str, call_id: str, result: dict[str, Any], failure: str) -> None:
        await self.filed(call_id)
        await self._verdicts.judge(app_id, call_id, result, failure)

    def _ended(self, session: CallSession) -> None:
        del self._live[session.call_id]
        self._keeping.metrics.calls_live.set(len(self._live))
        self._lately[session.call_id] = session
        loop = asyncio.get_running_loop()
        loop.call_later(self._patience.resume_window_s, self._forget, session.call_id)
        self._keeping.feed.ended(session)
        filing = self._filing[session.call_id] = self._later(self._file(session))
        filing.add_done_callback(lambda _: self._filing.pop(session.call_id, None))

    def _forget(self, call_id: str) -> None:
        self._lately.pop(call_id, None)
        self._keeping.feed.forgotten(call_id)

    async def _file(self, session: CallSession) -> None:
        handed_in = await session.uploaded()
        qc = session.document.content["qc"] or {}
        if "missed" not in qc:
            await session.save("judging")
        else:
            if not session.judged_elsewhere:
                content = session.document.content
                await self._verdicts.track(session.app_id, session.call_id, content, session.began_at_ms)
            await session.save("failed" if session.document.content["reason"] == "qc_failed" else "judged")
        if handed_in:  # else the journal has the only copy, and the next start hands it in
            await self._keeping.journal.release(session.call_id)

    # --- starting and stopping ---

    def take_up(self, find: Callable[[], Awaitable[Iterable[Recovered]]]) -> None:
        """Look for the calls that earlier processes have left and let them go on, in the background.

        Each waits for its client from the moment it is taken up, as if the socket had just broken. One that cannot be
        rebuilt as it was is hung up: its recording is judged. One that cannot be read is left in the journal.
        """

        async def find_and_tidy() -> list[Recovered]:
            found = list(await find())
            await self._rules.keep_only({digest for call in found for digest in rule_digests(call)})
            return found

        self.recovery.start(find_and_tidy)

    async def _take_up(self, found: Recovered) -> None:
        header = await header_of(found, self._keeping.calls)
        if header is None:
            await self._keep_ownerless(found)
            return
        lease, known = await self._keeping.owners.reclaim(found.call_id, header.app_id, found.epoch)
        if lease is None:
            log.info("call_is_elsewhere", call_id=found.call_id, node=known.node if known is not None else "")
            self._moving.leave(found.call_id)
            return
        await self._go_on_with(found, header, lease, whole=False, done=known is not None and known.done)

    async def _go_on_with(
        self, found: Recovered, header: CallHeader, lease: Lease, *, whole: bool, done: bool = False
    ) -> None:
        """Carry a call on from its journal. `whole`: its tail has all of it; `done`: it was sealed already."""
        head = found.header or msgspec.json.encode(header)
        self._keeping.journal.begin_epoch(found.call_id, lease.epoch, head)
        try:
            rebuilt = await self._rebuilt(found, header)
        except Interrupted:
            log.info("call_left_for_the_next_start", call_id=found.call_id)
            return
        except Diverged as why:
            log.error("call_not_resumable", call_id=found.call_id, reason=str(why))  # noqa: TRY400 - it says it all
            self._cut_off[found.call_id] = header.app_id
            loop = asyncio.get_running_loop()
            loop.call_later(self._patience.resume_window_s, self._cut_off.pop, found.call_id, None)
            self._keeping.owners.hold(
                lease, header.app_id, head, lambda: (header.rules,), lambda: (0, 0), whole=whole, done=done
            )
            await hand_in_what_is_left(found, header, self._keeping)
            return
        call = rebuilt.past.call
        session = self._session(header.app_id, call, rebuilt.document, rebuilt.rules, header.start)
        if call.state is State.ENDED:
            known = await self._keeping.calls.get(header.app_id, found.call_id)
            session.judged_elsewhere = known is not None and known.state in ("judged", "failed")
        self._live[found.call_id] = session
        self._keeping.metrics.calls_live.set(len(self._live))
        self._hold(session, lease, header, whole=whole, done=done)
        session.go_on(rebuilt)
        log.info("call_taken_up", call_id=found.call_id, state=call.state.value, samples=call.samples)

    async def _keep_ownerless(self, found: Recovered) -> None:
        """Nobody knows whose it is, so nobody may have it: make its audio a file, and leave its records as they are."""
        recording = ""
        if found.rate_hz:
            await self._keeping.journal.seal(found.call_id)
            recording = str(await self._keeping.journal.publish(found.call_id))
        log.error("call_without_owner", call_id=found.call_id, samples=found.end_sample, recording=recording)

    async def _rebuilt(self, found: Recovered, header: CallHeader) -> Rebuilt:
        kept = []
        for digest in rule_digests(found) or [""]:
            in_force = await self._rules.of_digest(digest, pinyin=header.pinyin)
            if in_force is None:
                raise Diverged("the rules that it was judged by are not kept")
            kept.append(in_force)
        rules = RulesOfCall(kept[0], pinyin=header.pinyin, later=kept[1:])
        breathe = breather(busy=lambda: bool(self._live), stopping=lambda: self._admission.closed)
        return await asyncio.to_thread(rebuild, found, header, self._settings, rules, breathe)

    async def stop(self) -> None:
        """Take no new calls and let go of those in memory; the journal has them. Waits for what is being kept."""
        self._admission.closed = True
        self._keeping.owners.stop_waiting()
        await self.recovery.stop()
        for fetching in list(self._taking.values()):
            fetching.cancel()
        await asyncio.gather(*self._taking.values(), return_exceptions=True)
        sessions = list(self._live.values())
        await asyncio.gather(*(session.stop() for session in sessions))
        if self._closing:
            await asyncio.wait(self._closing)
        await self._keeping.owners.hand_over()

    @property
    def sessions(self) -> list[CallSession]:
        return list(self._live.values())

    def _later(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._closing.add(task)
        task.add_done_callback(self._kept)
        return task

    def _kept(self, task: asyncio.Task[None]) -> None:
        self._closing.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("call_not_kept", exc_info=task.exception())


def _header_of(found: Recovered) -> CallHeader:
    return msgspec.json.decode(found.header, type=CallHeader)
