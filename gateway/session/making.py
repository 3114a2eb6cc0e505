"""How a call comes to be in a process: its parts put together, and its lease held from then on."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from gateway.call.document import CallDocument
from gateway.call.machine import Call
from gateway.call.settings import CallSettings, CallTerms
from gateway.ports import Lease
from gateway.session.acks import Acknowledgements
from gateway.session.engines import CallEngines, Engines, Voices
from gateway.session.keeping import Keeping, Patience
from gateway.session.rebuilding import CallHeader, Rebuilt
from gateway.session.record import MessageRecord
from gateway.session.rulesets import RulesInForce, RulesOfCall
from gateway.session.session import CallSession


class CallMaker:
    """Makes the calls of a process, new ones and those that go on here."""

    def __init__(
        self,
        engines: Engines,
        keeping: Keeping,
        settings: CallSettings,
        patience: Patience,
        on_end: Callable[[CallSession], None],
    ) -> None:
        """`on_end` hears of each call that has said its last."""
        self._engines = engines
        self._keeping = keeping
        self._settings = settings
        self._patience = patience
        self._on_end = on_end
        self._acks = Acknowledgements(keeping.journal)

    def anew(
        self, lease: Lease, header: CallHeader, in_force: RulesInForce, *, whole: bool, id_prefix: str = ""
    ) -> CallSession:
        """A call with nothing in it yet. `whole` as in `CallReplica.follow`; what it names begins with `id_prefix`."""
        terms = CallTerms.of(lease.call_id, header.start)
        settings = CallSettings.from_data(header.settings, self._settings.gate)
        rules = RulesOfCall(in_force, pinyin=header.pinyin)
        core = Call(terms, settings, in_force.rules, rules.find, id_prefix=id_prefix)
        document = CallDocument(lease.call_id, header.start, terms.roles)
        session = self._session(header, core, document, MessageRecord(), rules)
        self._hold(session, lease, header, whole=whole)
        return session

    def again(self, lease: Lease, rebuilt: Rebuilt, *, whole: bool, done: bool) -> CallSession:
        """A call as it was, which is to `go_on`. `done`: it was sealed already."""
        header = rebuilt.header
        session = self._session(header, rebuilt.past.call, rebuilt.document, rebuilt.record, rebuilt.rules)
        self._hold(session, lease, header, whole=whole, done=done)
        return session

    def _session(
        self, header: CallHeader, core: Call, document: CallDocument, record: MessageRecord, rules: RulesOfCall
    ) -> CallSession:
        app_id, start, keeping, terms = header.app_id, header.start, self._keeping, core.terms
        voices = Voices(app_id, start.org_id or app_id, start.tag_id or None)
        return CallSession(
            app_id,
            terms,
            core,
            document,
            record,
            rules,
            CallEngines(self._engines, voices, terms.call_id, start.rate, keeping.clock, keeping.metrics),
            keeping,
            self._patience,
            self._acks,
            self._on_end,
            began_at_ms=header.began_at_ms,
            framed=start.framing == "framed",
        )

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
