"""The asyncio shell of one call: runs the core's effects, feeds it what happens, outlives its sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

import structlog

from gateway.call.document import CallDocument
from gateway.call.effects import (
    ConfirmSpeech,
    Effect,
    EndCall,
    Identify,
    KeepInShadow,
    Send,
    StoreAudio,
    Transcribe,
    UploadRecording,
)
from gateway.call.events import (
    WAIT_QC_MS,
    AudioArrived,
    AudioLost,
    AudioStored,
    Continued,
    Event,
    HungUp,
    Identified,
    Noted,
    NumbersSkipped,
    Paused,
    RulesChanged,
    SpeechConfirmed,
    Transcribed,
    Updated,
    Warned,
)
from gateway.call.machine import Call
from gateway.call.replay import KeptEvent, encode_event
from gateway.call.settings import CallTerms
from gateway.call.states import State
from gateway.ports import CallRecord, CallState
from gateway.session.acks import Acknowledgements
from gateway.session.engines import CallEngines
from gateway.session.handing_in import NotOurs, hand_in
from gateway.session.keeping import JOURNAL_RETRY_S, Keeping, Patience, Sink
from gateway.session.level_meter import LevelMeter
from gateway.session.questions import Questions
from gateway.session.rebuilding import Rebuilt
from gateway.session.record import MessageRecord
from gateway.session.rulesets import RulesInForce, RulesOfCall
from gateway.session.saying import Saying
from gateway.session.waits import Waits
from protocol.messages import Error, GoingAway, Replaced, ServerMessage

log = structlog.get_logger(__name__)

FAST_MS = 2000
"""A client this far ahead of real time is sending a file, and may wait for the engines."""


DERIVED = (SpeechConfirmed, Identified, Transcribed)
"""Answers: one that a killed process takes with it is asked for again, so that these may wait for the next write."""


class CallSession:
    """Owns a call's core, its tasks and its timers. Everything runs on one event loop; nothing here blocks it."""

    def __init__(
        self,
        app_id: str,
        terms: CallTerms,
        core: Call,
        document: CallDocument,
        record: MessageRecord,
        rules: RulesOfCall,
        engines: CallEngines,
        keeping: Keeping,
        patience: Patience,
        acks: Acknowledgements,
        on_end: Callable[[CallSession], None],
        *,
        began_at_ms: int,
        framed: bool,
    ) -> None:
        self.app_id = app_id
        self.terms = terms
        self.document = document
        self.rules = rules
        self.record = record
        self.meter: LevelMeter | None = None
        """Hears the call's audio while somebody wants to see how loud it is."""
        self.began_at_ms = began_at_ms
        self.framed = framed
        self.said_bytes = 0
        """What the client's messages that are kept with the call took so far; the door bounds it."""
        self._core = core
        self._keeping = keeping
        self._on_end = on_end
        self._saying = Saying(document, record, keeping)
        self._tasks: set[asyncio.Task[None]] = set()
        self._uploading: asyncio.Task[None] | None = None
        self._waits = Waits(patience)
        self._questions = Questions(engines, keeping.journal)
        self._ordinal = 0
        """Of the latest event that the journal keeps."""
        self.told = 0
        """How many of the client's messages were taken, refused ones included: it sends again those after."""
        self._rebuilt = self.judged_elsewhere = False
        """`judged_elsewhere`: its verdict came when it had ended, and is in the store, which knows more than we do."""
        self.ended_at_ms: int | None = None
        self._moved = asyncio.Event()
        self._began_s = keeping.clock.monotonic()
        self._saving = asyncio.Lock()
        self._unsafe_since_s: float | None = None
        """When the oldest audio came that is not known safe."""
        self._acks = acks
        acks.enter(self)
        if keeping.owners.replica is not None:
            self.own(acks.replicate(self, keeping.owners.replica))

    # --- the socket's side ---

    @property
    def call_id(self) -> str:
        return self.terms.call_id

    @property
    def samples(self) -> int:
        """Instants received."""
        return self._core.samples

    @property
    def next_seq(self) -> int:
        """The number of the next new message."""
        return self._core.last_seq + 1

    @property
    def progress(self) -> tuple[int, int]:
        """Number of the latest message, and instants that are acked."""
        return self._core.last_seq, self._core.stored_samples

    @property
    def live(self) -> bool:
        """Whether the call still takes audio."""
        return self._core.state in (State.LIVE, State.PAUSED)

    @property
    def expects_audio(self) -> bool:
        return self._core.state is State.LIVE

    @property
    def paused(self) -> bool:
        return self._core.state is State.PAUSED

    @property
    def attached(self) -> bool:
        return self._saying.sink is not None

    def carried_by(self, sink: Sink) -> bool:
        return self._saying.sink is sink

    def attach(self, sink: Sink, last_seq: int) -> None:
        """Carry the call on this socket from here; what came after `last_seq` is sent again. The old one is gone."""
        self._waits.client_is_back()
        self._saying.go_on_over(sink, last_seq)
        if self._core.state is State.ENDED:
            sink.close(1000, "ended")
        self._keeping.feed.changed(self)

    def step_over(self, last_seq: int) -> None:
        """The client has seen messages up to `last_seq`; after a power cut those may be more than we know of."""
        if self._rebuilt and last_seq >= self.next_seq:
            self.receive(NumbersSkipped(last_seq))

    def detach(self, sink: Sink) -> None:
        """The socket is gone. The call waits for another; after the window it is hung up all the same."""
        if not self.carried_by(sink):
            return
        self._saying.take_sink()
        self._wait_for_client()
        self._keeping.feed.changed(self)

    def _wait_for_client(self) -> None:
        if self.live:
            self._waits.for_client(self.receive)

    def say_goodbye(self, deadline_ms: int) -> None:
        """The server is going away: tell the client, and close its socket."""
        self._saying.take_leave(GoingAway(call_id=self.call_id, deadline_ms=deadline_ms), 1012, "shutting_down")

    def take_sink(self) -> Sink | None:
        """Let go of the socket that carries the call, for another to take its place."""
        return self._saying.take_sink()

    def hang_up(self, reason: str, wait_qc_ms: int = WAIT_QC_MS) -> None:
        self.receive(HungUp(reason, wait_qc_ms))

    def use_rules(self, in_force: RulesInForce) -> None:
        """Judge by other rules from the next sentence on. A call that is over stays as it is, and so does one that the
        journal has no memory left for: it is to be asked again."""
        if self.live and self._keeping.journal.has_room and in_force.digest != self.rules.in_force.digest:
            self.rules.change(in_force)
            self.receive(RulesChanged(in_force.version, in_force.digest))

    def whisper(self, message: ServerMessage) -> None:
        """Tell the client something that is about this socket or its messages, not about the call: without a number."""
        self._saying.whisper(message)

    async def memory(self) -> None:
        """Return when a message may come that makes the call say something: that is journalled as audio is."""
        while self.live and not self._keeping.journal.has_room:
            await self._movement()

    @property
    def load(self) -> int:
        """How loaded the recogniser is, as far as the call has heard."""
        return self._core.load

    @property
    def unacked_samples(self) -> int:
        """Instants received that are not known safe yet."""
        return self._core.unstored_samples

    async def room(self) -> None:
        """Return when more audio may come: a client that keeps real time never waits for engines, only for the disk."""
        while self.live and not self.has_room:
            await self._movement()

    async def _movement(self) -> None:
        self._moved.clear()
        # The journal's memory is freed by other calls too, which this one does not hear of.
        with suppress(TimeoutError):
            async with asyncio.timeout(JOURNAL_RETRY_S):
                await self._moved.wait()

    @property
    def has_room(self) -> bool:
        """Whether audio may come right now."""
        core = self._core
        # Looking at the clock is left to when it matters: this is asked for every packet.
        return self._keeping.journal.has_room and core.has_room(
            ahead_of_time=core.owes_texts and self._ahead_ms > FAST_MS
        )

    @property
    def _ahead_ms(self) -> float:
        elapsed_ms = (self._keeping.clock.monotonic() - self._began_s) * 1000
        return self.terms.audio.samples_to_ms(self.samples) - elapsed_ms

    # --- the core's side ---

    def hear(self, pcm: bytes) -> None:
        """As `receive(AudioArrived(pcm))`, which is what happens most.

        Raises OSError, having changed nothing, when the journal's memory is full.
        """
        core = self._core
        if core.state is not State.LIVE:
            self.receive(AudioArrived(pcm))
            return
        self._store(core.samples, pcm)
        for effect in core.hear(pcm):
            self._carry_out(effect)
        self._moved.set()

    def _store(self, first_sample: int, pcm: bytes) -> None:
        self._keeping.journal.append_audio(self.call_id, first_sample, pcm)
        if self._unsafe_since_s is None:
            self._unsafe_since_s = self._keeping.clock.monotonic()
        if self.meter is not None:
            self.meter.hear(pcm)

    def stored(self, samples: int) -> Sequence[Effect]:
        """See Acknowledged."""
        before, event, at_sample = self._core.state, AudioStored(samples), self.samples
        newly_samples = samples - self._core.stored_samples
        effects = self._core.store(event)
        if before is not State.ENDED:
            self._keep(event, at_sample, at_once=False)
        audio = self.terms.audio
        self._keeping.metrics.audio_seconds.inc(newly_samples * audio.channels / audio.rate_hz)
        self._note_ack_lag()
        return effects

    def _note_ack_lag(self) -> None:
        keeping, now_s = self._keeping, self._keeping.clock.monotonic()
        if self._unsafe_since_s is not None:
            keeping.metrics.ack_lag_s.observe(now_s - self._unsafe_since_s)
        unsafe_ms = self.terms.audio.samples_to_ms(self._core.unstored_samples)
        # What came since the commit began, by its length: a client that keeps time sends no faster.
        self._unsafe_since_s = now_s - unsafe_ms / 1000 if unsafe_ms else None

    def carry_out(self, effects: Sequence[Effect]) -> None:
        """See Acknowledged."""
        for effect in effects:
            self._carry_out(effect)
        self._moved.set()

    def note_degraded(self) -> None:
        """See Acknowledged."""
        self.receive(Warned("degraded", "Audio cannot be stored safely right now; acks pause."))

    def receive(self, event: Event) -> None:
        """Let something happen to the call. Raises IllegalEvent when its state does not allow it."""
        was_live, before, at_sample = self.live, self._core.state, self.samples
        effects = self._core.receive(event)
        # The samples of `AudioArrived` are journalled as they are; to an ended call nothing happens any more.
        if not isinstance(event, AudioArrived) and before is not State.ENDED:
            self._keep(event, at_sample, at_once=not isinstance(event, DERIVED))
        for effect in effects:
            self._carry_out(effect)
        match event:
            case Updated():
                self.document.agree(self._core.terms)
                self._keeping.feed.changed(self)
            case Paused() | Continued():
                self._keeping.feed.changed(self)
            case Noted(kind, value):
                self.document.note(kind, value, self.terms.audio.samples_to_ms(self.samples))
            case HungUp() if was_live:
                self._after_hangup(event.wait_qc_ms / 1000)
            case _:
                pass
        self._moved.set()

    def _keep(self, event: Event, at_sample: int, *, at_once: bool) -> None:
        """Journal an event before anything comes of it: the call is rebuilt from these."""
        self._ordinal += 1
        kept = KeptEvent(at_sample, round(self._keeping.clock.wall() * 1000), event, self.told)
        self._keeping.journal.append_event(self.call_id, self._ordinal, encode_event(kept), at_once=at_once)

    # --- after another process ---

    def go_on(self, rebuilt: Rebuilt) -> None:
        """Carry on where an earlier process ended: ask again what it still waited for, and let the waits begin anew."""
        past, journal = rebuilt.past, self._keeping.journal
        self._keeping.feed.began(self)
        self.told, self._ordinal, self._rebuilt = past.told, past.last_ordinal, True
        self._began_s -= self.terms.audio.samples_to_ms(self.samples) / 1000
        for seq, payload in past.unkept:
            journal.append_message(self.call_id, seq, payload)
        if past.skipped_through:
            self.receive(NumbersSkipped(past.skipped_through))
        if past.hung_up is not None:
            event, hung_up_at_ms = past.hung_up
            waited_s = self._keeping.clock.wall() - hung_up_at_ms / 1000
            self._after_hangup(max(0.0, event.wait_qc_ms / 1000 - waited_s), hung_up_at_ms)
        self._wait_for_client()
        questions = past.questions
        if self._core.stored_samples < self.samples:
            self.receive(AudioStored(self.samples))  # the journal has made safe what it found
        for question in questions:
            self._carry_out(question)
        if past.upload is not None:
            self._carry_out(past.upload)
        if self._core.state is State.ENDED:
            self._end()

    def go_on_without_audio(self, samples: int, through_seq: int) -> None:
        """Take up a call whose node is gone with all it had: from instant `samples`, after number `through_seq`.

        What was said before is a hole: declared, silent in the recording, and not stored, so that it may still be
        filled. What was heard before is unknown to the rules: a verdict that rests on words there cannot be told.
        """
        self._rebuilt = True
        self._began_s -= self.terms.audio.samples_to_ms(samples) / 1000
        self.receive(NumbersSkipped(through_seq))
        if samples:
            channels = self.terms.audio.channels
            for channel in range(channels):
                self.receive(AudioLost(channel, 0, samples, "node"))
            step = self.terms.audio.ms_to_samples(1000)
            for first in range(0, samples, step):
                silence = bytes(2 * channels * min(step, samples - first))
                for effect in self._core.receive(AudioArrived(silence)):
                    if not isinstance(effect, StoreAudio):
                        self._carry_out(effect)
            self.receive(AudioStored(samples))
        self._wait_for_client()

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Send(message):
                self._saying.say(message, self)
            case KeepInShadow(message):
                self.document.keep_in_shadow(message)
                self._keeping.metrics.alerts.labels("shadow").inc()
            case StoreAudio(first_sample, pcm):
                self._store(first_sample, pcm)
            case ConfirmSpeech():
                self._questions.confirm(effect, self)
            case Identify():
                self._questions.identify(effect, self)
            case Transcribe():
                self._questions.transcribe(effect, self)
            case UploadRecording():
                self._uploading = self.own(hand_in(effect, self.app_id, self.terms, self._keeping, self.save))
            case EndCall():
                self._end()

    # --- tasks ---

    def own(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do this as a task of the call: its failure hangs the call up, and the call's end cancels it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        fault = None if task.cancelled() else task.exception()
        if fault is not None and not isinstance(fault, NotOurs):
            self.fail(fault)

    def fail(self, fault: BaseException) -> None:
        """Our fault, and this call's alone: say so, keep what is recorded, let it be judged."""
        log.error("call_failed", call_id=self.call_id, exc_info=fault)
        error = Error(call_id=self.call_id, code="internal", message="The server failed.", retryable=True)
        self._saying.take_leave(error, 1011, "internal")
        if self.live:
            self.receive(HungUp("internal"))

    # --- the end ---

    def _after_hangup(self, wait_qc_s: float, at_ms: int | None = None) -> None:
        self.ended_at_ms = round(self._keeping.clock.wall() * 1000) if at_ms is None else at_ms
        self._acks.tell_now(self)
        self._keeping.feed.changed(self)
        self.own(self._keeping.owners.note_over(self.call_id))
        self._waits.for_end(wait_qc_s, self.receive)

    def _end(self) -> None:
        self._acks.leave(self)
        self._waits.stop()
        for task in self._tasks - {self._uploading}:
            task.cancel()
        self._on_end(self)

    async def uploaded(self) -> bool:
        """Return once voice QC's queue has the recording; False when it could not be handed in."""
        if self._uploading is None:
            return False
        await asyncio.wait([self._uploading])
        return not self._uploading.cancelled() and self._uploading.exception() is None

    def let_go(self) -> None:
        """Another node has the call: tell whoever still listens here, and neither do nor say anything more."""
        self._saying.take_leave(Replaced(call_id=self.call_id), 1000, "replaced")
        self._acks.leave(self)
        self._cancel(set(self._tasks))

    async def stop(self) -> None:
        """Let go of the call without ending it: the journal has it, and the next start goes on from there.

        A recording that is on its way to voice QC's queue still gets there.
        """
        self._acks.leave(self)
        await asyncio.gather(*self._cancel(self._tasks - {self._uploading}), return_exceptions=True)
        if self._uploading is not None:
            await asyncio.wait([self._uploading])

    def _cancel(self, tasks: set[asyncio.Task[None]]) -> list[asyncio.Task[None]]:
        self._waits.stop()
        for task in tasks:
            task.cancel()
        return list(tasks)

    async def safe(self) -> None:
        """Return once everything that has happened to the call would survive a power cut. Raises OSError."""
        await self._keeping.journal.synced(self._keeping.journal.position)

    def snapshot(self) -> dict[str, Any]:
        """The call's document as of now; its lists are the live ones."""
        duration_ms = self.terms.audio.samples_to_ms(self.samples)
        return {**self.document.content, "samples": self.samples, "duration_ms": duration_ms}

    async def save(self, state: CallState) -> None:
        """Keep the call's document as it is now."""
        if self.judged_elsewhere:
            return
        async with self._saving:
            await self._keeping.calls.save(
                CallRecord(self.call_id, self.app_id, state, self.began_at_ms, self.ended_at_ms, self.snapshot())
            )
