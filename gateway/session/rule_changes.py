"""Rules that change while calls run: every live call of the app hears of it, whoever made the change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress

import structlog

from gateway.ports import RuleVersions
from gateway.session.rulesets import RuleSets, RulesInForce
from gateway.session.session import CallSession

log = structlog.get_logger(__name__)

POLL_S = 2.0
"""How soon a change is noticed that another process made in the same store; a change made here is heard of at once."""


class RuleChanges:
    """Compares the versions that live calls are judged by with those in the store."""

    def __init__(
        self,
        sessions: Callable[[], Iterable[CallSession]],
        rules: RuleSets,
        versions: RuleVersions,
        *,
        poll_s: float = POLL_S,
    ) -> None:
        """`sessions` are the calls in memory, of every app."""
        self._sessions = sessions
        self._rules = rules
        self._versions = versions
        self._poll_s = poll_s
        self._woken = asyncio.Event()

    def changed(self) -> None:
        """Say that some app's rules are other ones now."""
        self._woken.set()

    async def run(self) -> None:
        """Look for changes until cancelled. What keeps an app's rules from being read is logged, and tried again."""
        while True:
            self._woken.clear()
            try:
                await self.look()
            except Exception:
                log.exception("rule_changes_not_looked_for")
            with suppress(TimeoutError):
                async with asyncio.timeout(self._poll_s):
                    await self._woken.wait()

    async def look(self) -> None:
        """Bring every live call up to date. Raises Unavailable."""
        by_app: dict[str, list[CallSession]] = {}
        for session in self._sessions():
            if session.live:
                by_app.setdefault(session.app_id, []).append(session)
        if not by_app:
            return
        versions = await self._versions.versions(by_app.keys())
        for app_id, sessions in by_app.items():
            behind = [one for one in sessions if one.rules.in_force.version != versions.get(app_id, 0)]
            try:
                await self._bring_up(app_id, behind)
            except Exception:  # of this app's rules: the calls of others go on
                log.exception("rules_not_changed", app_id=app_id, calls=len(behind))

    async def _bring_up(self, app_id: str, sessions: list[CallSession]) -> None:
        loop = asyncio.get_running_loop()
        newest: dict[bool, RulesInForce] = {}
        for session in sessions:
            pinyin = session.rules.pinyin
            if pinyin not in newest:
                newest[pinyin] = await self._rules.of_app(app_id, pinyin=pinyin)
            began_s = loop.time()
            session.use_rules(newest[pinyin])
            # All that the call has said is judged anew, here on the event loop: in between, audio gets as much time.
            await asyncio.sleep(loop.time() - began_s)
