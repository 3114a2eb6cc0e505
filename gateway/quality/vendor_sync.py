"""The vendor's rules, pulled on a schedule: they change there too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

from gateway.ports import Clock, PortError, RulesMoved
from gateway.quality.rulebook import Rulebook

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Synced:
    """When an app's rules were last the vendor's, in s since the Unix epoch, and what has gone wrong since."""

    at: float | None = None
    error: str = ""


class VendorSync:
    """Pulls for every app. What fails leaves the rules as they are until the next time."""

    def __init__(
        self, rulebook: Rulebook, app_ids: Callable[[], Iterable[str]], clock: Clock, *, every_s: float
    ) -> None:
        self._rulebook = rulebook
        self._app_ids = app_ids
        self._clock = clock
        self._every_s = every_s
        self._state: dict[str, Synced] = {}

    def of(self, app_id: str) -> Synced:
        """Where an app's rules stand."""
        return self._state.get(app_id, Synced())

    async def run(self) -> None:
        """Pull until cancelled."""
        while True:
            for app_id in sorted(self._app_ids()):
                await self.pull(app_id)
            await asyncio.sleep(self._every_s)

    async def pull(self, app_id: str) -> None:
        """Pull one app's rules now."""
        try:
            unreadable = await self._rulebook.pull(app_id)
        except (PortError, RulesMoved, OSError) as fault:
            _log.warning("rules_not_synced", app_id=app_id, fault=str(fault))
            self._state[app_id] = Synced(self.of(app_id).at, str(fault))
        except Exception:
            _log.exception("rules_not_synced", app_id=app_id)
            self._state[app_id] = Synced(self.of(app_id).at, "the server's log says why")
        else:
            for fault_text in unreadable:
                _log.warning("vendor_rule_left_out", app_id=app_id, fault=fault_text)
            self._state[app_id] = Synced(self._clock.wall(), "; ".join(unreadable[:10]))
