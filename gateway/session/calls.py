"""All calls of one process: opened, found again, judged, recovered after a crash, let go at shutdown."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import msgspec
import structlog

from gateway.call.alerts import reconcile
from gateway.call.document import CallDocument, alerts_of
from gateway.call.events import Accepted, LoadChanged, QcJudged, QcProgressed
from gateway.call.machine import Call
from gateway.call.settings import CallSettings, CallTerms
from gateway.ports import CallRecord, CallState, QualityAnswer, RuleSource
from gateway.session.engines import CallEngines, Engines, Voices
from gateway.session.session import CallSession, Keeping, Patience, quality_task
from protocol.codec import MAX_MESSAGE_BYTES, decode_server
from protocol.errors import ProtocolError
from protocol.messages import AlertUpdate, Missed, Resume, Start
from protocol.rules.matcher import RuleSet

log = structlog.get_logger(__name__)

OVERLOADED_RETRY_MS = 5000
MAX_UNACKED_MS = 10_000
"""How far a client may run ahead of the acks before it should wait."""


class Recovered(Protocol):
    """A call that an earlier process left in the journal."""

    @property
    def call_id(self) -> str: ...
    @property
    def header(self) -> bytes: ...
    @property
    def rate_hz(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def end_sample(self) -> int: ...
    @property
    def messages(self) -> tuple[tuple[int, bytes], ...]: ...


class CallHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What the journal keeps at the head of a call: enough to judge it without anything else."""

    rate_hz: int
    channels: int
    app_id: str
    began_at_ms: int
    start: Start


@dataclass(frozen=True, slots=True)
class Limits:
    max_calls: int
    max_call_s: float


class Calls:
    """The registry of live calls, and what is done about those that are no longer in memory."""

    def __init__(
        self,
        engines: Engines,
        keeping: Keeping,
        rules: RuleSource,
        settings: CallSettings,
        patience: Patience,
        limits: Limits,
        token_key: bytes,
    ) -> None:
        self._engines = engines
        self._keeping = keeping
        self._rules = rules
        self._settings = settings
        self._patience = patience
        self._limits = limits
        self._token_key = token_key
        self._live: dict[str, CallSession] = {}
        self._lately: dict[str, CallSession] = {}
        """Ended, and kept for the resume window: a client whose socket broke comes back for the last messages."""
        self._filing: dict[str, asyncio.Task[None]] = {}
        self._compiled: dict[str, tuple[int, RuleSet]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._accepting = True
        self._load = 0

    # --- opening and finding ---

    async def open(self, app_id: str, start: Start) -> CallSession:
        """A new call of the app. Raises ProtocolError (`bad_message`, `overloaded`, `shutting_down`)."""
        if start.roles and len(start.roles) != start.channels:
            raise ProtocolError("bad_message", f"{len(start.roles)} roles for {start.channels} channels - at `$.roles`")
        rules = await self._ruleset(app_id)
        self._refuse_if_full()  # nothing is awaited from here on: a burst cannot pass the limit
        call_id = secrets.token_hex(10)
        session = self._session(app_id, CallTerms.of(call_id, start), start, rules)
        header = CallHeader(
            rate_hz=start.rate,
            channels=start.channels,
            app_id=app_id,
            began_at_ms=session.began_at_ms,
            start=start,
        )
        self._keeping.journal.open_call(call_id, msgspec.json.encode(header))
        self._live[call_id] = session
        self._keeping.metrics.calls_total.inc()
        self._keeping.metrics.calls_live.set(len(self._live))
        limits = {
            "max_message_bytes": MAX_MESSAGE_BYTES,
            "max_call_s": int(self._limits.max_call_s),
            "max_unacked_ms": MAX_UNACKED_MS,
        }
        session.receive(Accepted(self._token(call_id), self._patience.resume_window_s, limits))
        if self._load:
            session.receive(LoadChanged(self._load))
        self._later(session.save("live"))
        return session

    def _refuse_if_full(self) -> None:
        if not self._accepting:
            raise ProtocolError("shutting_down", "the server is going away")
        if len(self._live) >= self._limits.max_calls:
            raise ProtocolError("overloaded", f"{len(self._live)} calls are going on, as many as are accepted")
        if self._keeping.journal.degraded:
            raise ProtocolError("overloaded", "recordings cannot be stored safely right now")

    def resume(self, app_id: str, message: Resume) -> CallSession:
        """The call a client comes back to. Raises ProtocolError: foreign, forged and gone are all `unknown_call`."""
        session = self._live.get(message.call_id) or self._lately.get(message.call_id)
        genuine = hmac.compare_digest(self._token(message.call_id).encode(), message.resume_token.encode())
        if session is None or not genuine or session.app_id != app_id:
            raise ProtocolError("unknown_call", f"no call {message.call_id} can be resumed with this token")
        return session

    def live(self, app_id: str) -> Iterable[CallSession]:
        """The app's calls that are in memory."""
        return [session for session in self._live.values() if session.app_id == app_id]

    def find(self, app_id: str, call_id: str) -> CallSession | None:
        session = self._live.get(call_id)
        return session if session is not None and session.app_id == app_id else None

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

    def _session(self, app_id: str, terms: CallTerms, start: Start, rules: RuleSet) -> CallSession:
        voices = Voices(app_id, start.org_id or app_id, start.tag_id or None)
        keeping = self._keeping
        return CallSession(
            app_id,
            terms,
            Call(terms, self._settings, rules),
            CallDocument(terms.call_id, start, terms.roles),
            CallEngines(self._engines, voices, terms.call_id, start.rate, keeping.clock, keeping.metrics),
            keeping,
            self._patience,
            self._ended,
            framed=start.framing == "framed",
        )

    async def _ruleset(self, app_id: str) -> RuleSet:
        version, categories = await self._rules.rules(app_id)
        compiled = self._compiled.get(app_id)
        if compiled is None or compiled[0] != version:
            contents = {category.category: list(category.contents) for category in categories}
            # Thousands of rules take a good part of a second to compile.
            pinyin = self._settings.pinyin
            ruleset = await asyncio.to_thread(RuleSet.from_categories, contents, version, pinyin=pinyin)
            compiled = version, ruleset
            self._compiled[app_id] = compiled
        return compiled[1]

    def _token(self, call_id: str) -> str:
        digest = hmac.new(self._token_key, b"resume/" + call_id.encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    # --- verdicts ---

    async def note_verdict(self, app_id: str, session_id: str, answer: QualityAnswer) -> None:
        """Take what voice QC says of a call; a repeated verdict changes nothing."""
        failure = "" if answer.succeeded else answer.state_desc
        session = self.find(app_id, session_id)
        if session is None:
            if answer.done:
                await self._judge_stored(app_id, session_id, answer.result, failure)
        elif answer.done:
            session.receive(QcProgressed(session_id, answer.state, answer.state_desc))
            session.receive(QcJudged(session_id, answer.result, failure))
        else:
            session.receive(QcProgressed(session_id, answer.state, answer.state_desc))

    async def note_no_verdict(self, app_id: str, session_id: str, error: str) -> None:
        """Voice QC will never judge this call."""
        session = self.find(app_id, session_id)
        if session is None:
            await self._judge_stored(app_id, session_id, {}, error)
        else:
            session.receive(QcJudged(session_id, {}, error or "no verdict"))

    async def _judge_stored(self, app_id: str, call_id: str, result: dict[str, Any], failure: str) -> None:
        await self.filed(call_id)
        record = await self._keeping.calls.get(app_id, call_id)
        if record is None or record.state in ("judged", "failed"):
            return
        updates, missed = reconcile(alerts_of(record.document), None if failure else result)
        document = judged(record.document, updates, missed, result, failure)
        state: CallState = "failed" if failure else "judged"
        await self._keeping.calls.save(replace(record, state=state, document=document))

    def _ended(self, session: CallSession) -> None:
        del self._live[session.call_id]
        self._keeping.metrics.calls_live.set(len(self._live))
        self._lately[session.call_id] = session
        loop = asyncio.get_running_loop()
        loop.call_later(self._patience.resume_window_s, self._lately.pop, session.call_id, None)
        filing = self._filing[session.call_id] = self._later(self._file(session))
        filing.add_done_callback(lambda _: self._filing.pop(session.call_id, None))

    async def _file(self, session: CallSession) -> None:
        handed_in = await session.uploaded()
        qc = session.document.content["qc"] or {}
        if "missed" not in qc:
            await session.save("judging")
        else:
            await session.save("failed" if session.document.content["reason"] == "qc_failed" else "judged")
        if handed_in:  # else the journal has the only copy, and the next start hands it in
            await self._keeping.journal.release(session.call_id)

    # --- starting and stopping ---

    async def recover(self, found: Iterable[Recovered]) -> int:
        """Seal and hand in the calls that an earlier process left behind; returns how many.

        One that cannot be is left in the journal for the next start, and keeps nobody else from theirs.
        """
        count = 0
        for call in found:
            try:
                await self._recover(call)
            except (msgspec.DecodeError, ProtocolError, ValueError, OSError) as fault:
                log.warning("call_not_recovered", call_id=call.call_id, fault=str(fault))
            else:
                count += 1
        return count

    async def _recover(self, call: Recovered) -> None:
        keeping = self._keeping
        header = msgspec.json.decode(call.header, type=CallHeader)
        terms = CallTerms.of(call.call_id, header.start)
        document = CallDocument(call.call_id, header.start, terms.roles)
        for _, payload in call.messages:
            document.apply(decode_server(payload))
        document.content.update(
            samples=call.end_sample, duration_ms=terms.audio.samples_to_ms(call.end_sample), reason="node_lost"
        )
        recording = await keeping.journal.seal(call.call_id)
        known = await keeping.calls.get(header.app_id, call.call_id)
        if known is None or known.state in ("live", "judging"):
            now_ms = round(keeping.clock.wall() * 1000)
            await keeping.calls.save(
                CallRecord(call.call_id, header.app_id, "judging", header.began_at_ms, now_ms, document.content)
            )
        task = quality_task(header.app_id, terms, recording, terms.language, terms.categories)
        await keeping.tasks.put(task, call.call_id)
        await keeping.journal.release(call.call_id)

    async def stop(self) -> None:
        """Take no new calls and let go of those in memory; the journal has them. Waits for what is being kept."""
        self._accepting = False
        sessions = list(self._live.values())
        await asyncio.gather(*(session.stop() for session in sessions))
        if self._closing:
            await asyncio.wait(self._closing)

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


def judged(
    document: dict[str, Any],
    updates: list[AlertUpdate],
    missed: list[Missed],
    result: dict[str, Any],
    failure: str,
) -> dict[str, Any]:
    """A stored call's document after a verdict that came when the call was no longer in memory."""
    changes = {update.alert_id: update for update in updates}
    alerts = [
        {**alert, "status": changes[alert["alert_id"]].status, "reason": changes[alert["alert_id"]].reason}
        if alert["alert_id"] in changes
        else alert
        for alert in document["alerts"]
    ]
    qc = {
        **(document["qc"] or {"session_id": document["call_id"]}),
        "result": result,
        "missed": msgspec.to_builtins(missed),
    }
    if failure:
        qc["failure"] = failure
    return {**document, "alerts": alerts, "qc": qc}
