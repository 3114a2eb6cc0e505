"""What a call asks the engines, and the answers it receives."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Any, Protocol

from gateway.call.effects import ConfirmSpeech, Identify, Transcribe
from gateway.call.events import Event, Warned
from gateway.ports import Journal
from gateway.session.engines import CallEngines
from gateway.session.keeping import JOURNAL_RETRY_S

LAG_WARNED_MS = 2000
"""Final texts later than this are worth telling the client."""


class Asker(Protocol):
    """The call; given with each question, so that nothing holds a call that asks nothing."""

    def own(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do this as a task of the call."""

    def receive(self, event: Event) -> None: ...


class Questions:
    """One call's. Each is a task; a channel's blocks are asked about one after the other."""

    def __init__(self, engines: CallEngines, journal: Journal) -> None:
        self._engines = engines
        self._journal = journal
        self._confirm_chains: dict[int, asyncio.Queue[ConfirmSpeech]] = {}
        self._lagging = False

    def confirm(self, question: ConfirmSpeech, asker: Asker) -> None:
        queue = self._confirm_chains.get(question.channel)
        if queue is None:
            # Holds at most the blocks of the audio the door lets in before the core has decided on it.
            queue = self._confirm_chains[question.channel] = asyncio.Queue()
            asker.own(self._confirm_in_turn(queue, asker))
        queue.put_nowait(question)

    def identify(self, question: Identify, asker: Asker) -> None:
        asker.own(self._answer(self._engines.identify(question), asker))

    def transcribe(self, question: Transcribe, asker: Asker) -> None:
        on_lag = partial(self._note_lag, asker)
        asker.own(self._answer(self._engines.transcribe(question, on_lag), asker))

    async def _confirm_in_turn(self, queue: asyncio.Queue[ConfirmSpeech], asker: Asker) -> None:
        while True:
            await self._answer(self._engines.confirm(await queue.get()), asker)

    async def _answer(self, question: Coroutine[Any, Any, Event], asker: Asker) -> None:
        event = await question
        # What is left of the journal's memory while the disk takes nothing is for what clients say and are told.
        while not self._journal.has_room:  # noqa: ASYNC110 - the journal is freed by other calls too
            await asyncio.sleep(JOURNAL_RETRY_S)
        asker.receive(event)

    def _note_lag(self, asker: Asker, lag_ms: int) -> None:
        """Warn once when final texts fall behind, and again only after they had caught up."""
        if lag_ms >= LAG_WARNED_MS and not self._lagging:
            asker.receive(Warned("analysis_lagging", f"Final texts come {lag_ms} ms late.", lag_ms))
        self._lagging = lag_ms >= LAG_WARNED_MS
