"""The core of one call: events in, effects out. It never waits, never logs, never looks at a clock.

What may happen in which state is the table in `states`. Time is the number of samples received; every message is
numbered here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

import msgspec

from gateway.call.alerts import AlertLedger
from gateway.call.analysis import Analysis, Happened
from gateway.call.channel import Asked, Began, Ceased, TextWanted, Utterance, VoiceGathered
from gateway.call.effects import ConfirmSpeech, Effect, EndCall, Identify, Send, StoreAudio, Transcribe, UploadRecording
from gateway.call.events import (
    Accepted,
    AudioArrived,
    AudioLost,
    AudioStored,
    ClientSpoke,
    Continued,
    Event,
    HungUp,
    Identified,
    Noted,
    NumbersSkipped,
    Paused,
    QcJudged,
    QcProgressed,
    QcWaitExpired,
    SettlingExpired,
    SpeechConfirmed,
    Transcribed,
    Updated,
    Warned,
)
from gateway.call.labels import Labels
from gateway.call.settings import CallSettings, CallTerms
from gateway.call.states import TRANSITIONS, IllegalEvent, State
from gateway.call.text import Text
from gateway.call.transcripts import Transcripts, nothing_heard
from protocol import messages
from protocol.messages import ServerMessage
from protocol.rules.matcher import RuleSet

ROOM_MS = 10_000
"""Audio that may wait for the disk and for the VAD's model together, before the client has to."""


class Call:
    """One call. `receive` is the only way in; the effects it returns are to be carried out in order."""

    def __init__(self, terms: CallTerms, settings: CallSettings, rules: RuleSet, *, id_prefix: str = "") -> None:
        """`id_prefix` begins every id that this core gives: another one, of which nothing is left, has given some."""
        self.state = State.NEW
        self.samples = 0
        self.terms = terms
        self._stored = 0
        self._now_ms = 0
        self._seq = 0
        self._effects: list[Effect] = []
        self._analysis = Analysis(settings, terms, id_prefix)
        self._labels = Labels(settings.speaker, terms)
        self._alerts = AlertLedger(
            rules, terms.categories, settings.rule_scope, pinyin=settings.pinyin, id_prefix=id_prefix
        )
        self._transcripts = Transcripts()
        self._impatient = False
        self._paused_at = 0
        self._hangup_reason = ""
        self._verdict: QcJudged | None = None
        self._wait_over = False
        self._qc_state: int | None = None

    @property
    def stored_samples(self) -> int:
        """Instants that would survive a power cut."""
        return self._stored

    @property
    def last_seq(self) -> int:
        """The number of the latest message."""
        return self._seq

    def has_room(self, *, ahead_of_time: bool) -> bool:
        """Whether more audio is welcome: what waits for the disk and the VAD's model is bounded.

        A client ahead of real time also waits for final texts; one that keeps time never does.
        """
        waiting_ms = self.terms.audio.samples_to_ms(self.samples - self._stored) + self._analysis.backlog_ms
        return waiting_ms < ROOM_MS and not (ahead_of_time and self._transcripts.finals_pending > 2)

    def receive(self, event: Event) -> list[Effect]:
        """Let something happen; return what is to be done about it, in order.

        Raises IllegalEvent when the state does not allow the event; nothing has changed then.
        """
        after = TRANSITIONS[type(event)].get(self.state)
        if after is None:
            raise IllegalEvent(event, self.state)
        self._effects = []
        self._now_ms = self.terms.audio.samples_to_ms(self.samples)
        before, self.state = self.state, after
        self._handle(event, before)
        if self.state is State.SETTLING and self._settled():
            self._send_all(self._alerts.close())
            self.state = State.ENDED if self._verdict or self._wait_over else State.JUDGING
        if self.state is State.ENDED and before is not State.ENDED:
            self._end(judged=before is not State.NEW)
        return self._effects

    def _handle(self, event: Event, before: State) -> None:
        match event:
            case Accepted():
                self._start(event)
            case AudioArrived(pcm):
                self._store(pcm if before is State.LIVE else bytes(len(pcm)))
            case AudioLost():
                self._send(
                    messages.Gap(
                        channel=event.channel,
                        from_sample=event.from_sample,
                        to_sample=event.to_sample,
                        cause=event.cause,
                    )
                )
            case AudioStored(samples):
                self._stored = samples
                if before is not State.ENDED:
                    self._send(messages.Ack(samples=samples))
            case SpeechConfirmed():
                self._follow(self._analysis.answer(event.channel, event.ordinal, event.probabilities))
            case Identified():
                self._identified(event)
            case Transcribed():
                self._transcribed(event)
            case ClientSpoke():
                self._client_spoke(event)
            case Updated():
                self._update(event)
            case Noted():
                pass  # the shell keeps it; the core only says when it may happen
            case NumbersSkipped(through):
                self._seq = max(self._seq, through)
            case Paused():
                self._paused_at = self.samples
            case Continued():
                self._declare_pause()
            case Warned():
                if before is not State.ENDED:
                    self._send(messages.Warning(code=event.code, message=event.message, lag_ms=event.lag_ms))
            case HungUp(reason):
                self._hang_up(reason, before)
            case SettlingExpired():
                if before is State.SETTLING:
                    self._give_up_settling()
            case QcProgressed():
                self._progress(event)
            case QcJudged():
                self._verdict = self._verdict or event
            case QcWaitExpired():
                self._wait_over = True

    def _start(self, event: Accepted) -> None:
        audio = self.terms.audio
        self._send(
            messages.Started(
                resume_token=event.resume_token,
                resume_window_s=event.resume_window_s,
                rate=audio.rate_hz,
                channels=audio.channels,
                limits=event.limits,
            )
        )

    # --- audio -> utterances ---

    def _store(self, pcm: bytes) -> None:
        self._effects.append(StoreAudio(self.samples, pcm))
        self.samples += len(pcm) // (2 * self.terms.audio.channels)
        self._follow(self._analysis.push(pcm))

    def _follow(self, happenings: Iterable[Happened]) -> None:
        """Turn what happened on the channels into effects; messages carry the position of the frame, not the packet."""
        for happened in happenings:
            self._now_ms = happened.at_ms
            self._effects += self._consequences(happened)
        self._now_ms = self.terms.audio.samples_to_ms(self.samples)

    def _consequences(self, happened: Happened) -> list[Effect]:
        match happened.what:
            case Asked(ordinal, pcm, fresh):
                return [ConfirmSpeech(happened.channel, ordinal, pcm, fresh)]
            case Began(utterance):
                return [self._numbered(self._segment(utterance, "opened"))]
            case Ceased(utterance):
                closed = [self._numbered(self._segment(utterance, "closed"))]
                if not utterance.identified_ms:
                    closed.append(self._numbered(self._labels.at_close(utterance, self.terms)))
                return [*closed]
            case VoiceGathered(utterance, pcm, net_speech_ms, _):
                return [Identify(happened.channel, self._labels.ask(utterance, net_speech_ms), pcm)]
            case TextWanted() as wanted:
                ordinal = self._transcripts.ask(wanted)
                segment_id = wanted.utterance.segment_id
                language = self.terms.language
                return [Transcribe(segment_id, ordinal, wanted.pcm, language, wanted.kind, wanted.foreseen)]

    def _segment(self, utterance: Utterance, state: Literal["opened", "closed"]) -> messages.Segment:
        return messages.Segment(
            segment_id=utterance.segment_id,
            channel=utterance.channel,
            role=self.terms.roles[utterance.channel],
            state=state,
            begin_ms=utterance.begin_ms,
            end_ms=utterance.end_ms,
        )

    def _declare_pause(self) -> None:
        if self.samples > self._paused_at:
            for channel in range(self.terms.audio.channels):
                self._send(
                    messages.Gap(channel=channel, from_sample=self._paused_at, to_sample=self.samples, cause="pause")
                )

    # --- what engines and people say ---

    def _identified(self, event: Identified) -> None:
        message = self._labels.answer(event, self.terms)
        if message is not None:
            self._send(message)

    def _transcribed(self, event: Transcribed) -> None:
        answered = self._transcripts.answer(event)
        if answered is None:
            return
        wanted, text = answered
        if wanted.kind == "partial":
            self._analysis.partial_answered(wanted.utterance.channel, wanted.utterance.segment_id)
        if text is not None:
            self._said(wanted.utterance, text, final=wanted.kind == "final", settled_ms=wanted.settled_ms)

    def _client_spoke(self, event: ClientSpoke) -> None:
        utterance = Utterance(self._analysis.next_segment_id(), event.channel, event.begin_ms, event.end_ms)
        text = Text(event.text, self.terms.language, (), event.begin_ms, event.end_ms)
        self._said(utterance, text, final=True, settled_ms=event.end_ms)

    def _said(self, utterance: Utterance, text: Text, *, final: bool, settled_ms: int) -> None:
        self._send(
            messages.Transcript(
                segment_id=utterance.segment_id,
                channel=utterance.channel,
                role=self.terms.roles[utterance.channel],
                text=text.text,
                final=final,
                begin_ms=text.begin_ms,
                end_ms=text.end_ms,
                language=text.language,
                words=[
                    messages.Word(text=word.text, begin_ms=word.begin_ms, end_ms=word.end_ms) for word in text.words
                ],
            )
        )
        segment_id, channel = utterance.segment_id, utterance.channel
        if final:
            self._send_all(self._alerts.final(segment_id, channel, text))
        else:
            self._send_all(self._alerts.partial(segment_id, channel, text, text.settled(settled_ms)))

    def _update(self, event: Updated) -> None:
        terms = self.terms
        self.terms = replace(
            terms,
            language=event.language or terms.language,
            roles=event.roles if event.roles and len(event.roles) == terms.audio.channels else terms.roles,
            metadata={**terms.metadata, **(event.metadata or {})},
            categories=terms.categories if event.categories is None else event.categories,
        )
        if event.categories is not None:
            self._send_all(self._alerts.judge_only(event.categories))

    # --- the end ---

    def _hang_up(self, reason: str, before: State) -> None:
        if before is State.PAUSED:
            self._declare_pause()
        if before in (State.NEW, State.LIVE, State.PAUSED):
            self._hangup_reason = reason
        if before in (State.LIVE, State.PAUSED):
            self._effects.append(UploadRecording(self.terms.categories, self.terms.language))

    def _progress(self, event: QcProgressed) -> None:
        if self.state is not State.ENDED and event.state != self._qc_state:
            self._qc_state = event.state
            self._send(messages.QcStatus(session_id=event.session_id, state=event.state, state_desc=event.state_desc))

    def _settled(self) -> bool:
        """Whether nothing is outstanding, the last ack included."""
        self._follow(self._analysis.finish())
        outstanding = self._transcripts.finals_pending or self._labels.pending or self._stored < self.samples
        return self._analysis.finished and (not outstanding or self._impatient)

    def _give_up_settling(self) -> None:
        self._follow(self._analysis.stop_waiting())
        if self._settled():
            return
        self._impatient = True
        self._labels.give_up()
        for wanted in self._transcripts.give_up():
            self._said(wanted.utterance, nothing_heard(wanted.utterance), final=True, settled_ms=0)
        self._send(messages.Warning(code="analysis_incomplete", message="The last words were not transcribed in time."))

    def _end(self, *, judged: bool) -> None:
        verdict = self._verdict
        if verdict is not None:
            updates, missed = self._alerts.reconcile(None if verdict.failure else verdict.result)
            self._send_all(updates)
            self._send(messages.QcResult(session_id=verdict.session_id, result=verdict.result, missed=missed))
        reason = self._hangup_reason
        if judged and (verdict is None or verdict.failure):
            reason = "qc_pending" if verdict is None else "qc_failed"
        duration_ms = self.terms.audio.samples_to_ms(self.samples)
        self._send(messages.Ended(samples=self.samples, duration_ms=duration_ms, reason=reason))
        self._effects.append(EndCall())

    # --- sending ---

    def _send_all(self, drafts: Iterable[ServerMessage]) -> None:
        for draft in drafts:
            self._send(draft)

    def _send(self, draft: ServerMessage) -> None:
        self._effects.append(self._numbered(draft))

    def _numbered(self, draft: ServerMessage) -> Send:
        self._seq += 1
        return Send(msgspec.structs.replace(draft, call_id=self.terms.call_id, seq=self._seq, at_ms=self._now_ms))
