"""The core of one call: events in, effects out. It never waits, never logs, never looks at a clock.

What may happen in which state is the table in `states`. Time is the number of samples received; every message is
numbered here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Literal

import msgspec

from gateway.call.alerts import AlertLedger
from gateway.call.analysis import Analysis, Happened
from gateway.call.channel import Asked, Began, Ceased, TextWanted, Ticked, Utterance, VoiceGathered
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
    Accepted,
    AudioArrived,
    AudioLost,
    AudioStored,
    ClientSpoke,
    Continued,
    Event,
    HungUp,
    Identified,
    LoadChanged,
    Noted,
    NumbersSkipped,
    Paused,
    QcJudged,
    QcProgressed,
    QcWaitExpired,
    RulesChanged,
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
from gateway.call.transcripts import Said, Transcripts, nothing_heard
from protocol import messages
from protocol.messages import Alert, AlertUpdate, ServerMessage
from protocol.rules.matcher import RuleSet

ROOM_MS = 10_000
"""Audio that may wait for the disk and for the VAD's model together, before the client has to."""


class Call:
    """One call. `receive` is the only way in; the effects it returns are to be carried out in order."""

    def __init__(
        self,
        terms: CallTerms,
        settings: CallSettings,
        rules: RuleSet,
        rules_by_digest: Callable[[str], RuleSet] | None = None,
        *,
        id_prefix: str = "",
    ) -> None:
        """`rules_by_digest` finds the rules that a `RulesChanged` names, raising KeyError; without it they stay.

        `id_prefix` begins every id that this core gives: another one, of which nothing is left, has given some.
        """
        self.state = State.NEW
        self.samples = 0
        self.terms = terms
        self._room_samples = terms.audio.ms_to_samples(ROOM_MS)
        self._instant_bytes = 2 * terms.audio.channels
        self._stored = 0
        self._now_ms = 0
        self._seq = 0
        self._effects: list[Effect] = []
        self._analysis = Analysis(settings, terms, self._follow, id_prefix)
        self._labels = Labels(settings.speaker, terms)
        self._alerts = AlertLedger(
            rules, terms.categories, settings.rule_scope, pinyin=settings.pinyin, id_prefix=id_prefix
        )
        self._rules_by_digest = rules_by_digest
        self._categories = rules.categories
        self._load = 0
        self._transcripts = Transcripts()
        self._transcribes = settings.analysis.transcribes
        self._unheard_ms: dict[int, int] = {}
        """By channel, up to where nobody knows the words; see `_leave_unheard`."""
        self._impatient = False
        self._paused_at = 0
        self._hangup_reason = ""
        self._verdict: QcJudged | None = None
        self._wait_over = False
        self._qc_state: int | None = None

    @property
    def unstored_samples(self) -> int:
        """Instants received that are not known to be safe yet."""
        return self.samples - self._stored

    @property
    def stored_samples(self) -> int:
        """Instants that would survive a power cut."""
        return self._stored

    @property
    def load(self) -> int:
        """How loaded the recogniser is, as far as the call has heard."""
        return self._load

    @property
    def last_seq(self) -> int:
        """The number of the latest message."""
        return self._seq

    def has_room(self, *, ahead_of_time: bool) -> bool:
        """Whether more audio is welcome: what waits for the disk and the VAD's model is bounded.

        A client ahead of real time also waits for final texts; one that keeps time never does.
        """
        waiting_samples = self.samples - self._stored + self._analysis.backlog_samples
        return waiting_samples < self._room_samples and not (ahead_of_time and self.owes_texts)

    @property
    def owes_texts(self) -> bool:
        """Whether so many final texts are awaited that a client ahead of real time has to wait."""
        return self._transcripts.finals_pending > 2

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
            if not self._without_words:
                self._send_all(self._alerts.close(self._now_ms))
            self.state = State.ENDED if self._verdict or self._wait_over else State.JUDGING
        if self.state is State.ENDED and before is not State.ENDED:
            self._end(judged=before is not State.NEW)
        self._keep_in_shadow()
        return self._effects

    def _keep_in_shadow(self) -> None:
        self._effects += [
            KeepInShadow(msgspec.structs.replace(one, call_id=self.terms.call_id, at_ms=self._now_ms))
            for one in self._alerts.take_shadowed()
        ]

    def hear(self, pcm: bytes) -> list[Effect]:
        """As `receive(AudioArrived(pcm))` while the call is live, for a caller who has stored `pcm` at `samples`."""
        assert self.state is State.LIVE, "hear only what a live call hears"
        effects: list[Effect] = []
        self._effects = effects
        self.samples += len(pcm) // self._instant_bytes
        self._analysis.push(pcm)
        if effects:
            self._keep_in_shadow()
        return effects

    def store(self, event: AudioStored) -> list[Effect]:
        """As `receive(event)`, which happens often."""
        if self.state is not State.LIVE:
            return self.receive(event)
        self._stored = event.samples
        self._now_ms = self.terms.audio.samples_to_ms(self.samples)
        self._seq += 1
        ack = messages.Ack(call_id=self.terms.call_id, seq=self._seq, at_ms=self._now_ms, samples=event.samples)
        return [Send(ack)]

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
                self._lose(event.channel, event.from_sample, event.to_sample)
            case AudioStored(samples):
                self._stored = samples
                if before is not State.ENDED:
                    self._send(messages.Ack(samples=samples))
            case SpeechConfirmed():
                self._analysis.answer(event.channel, event.ordinal, event.probabilities)
                self._now_ms = self.terms.audio.samples_to_ms(self.samples)
            case Identified():
                self._identified(event)
            case Transcribed():
                self._transcribed(event)
            case ClientSpoke():
                self._client_spoke(event)
            case LoadChanged(level):
                self._load = level
                self._pace()
            case Updated():
                self._update(event)
            case Noted():
                pass  # the shell keeps it; the core only says when it may happen
            case NumbersSkipped(through):
                self._seq = max(self._seq, through)
            case RulesChanged():
                if self._rules_by_digest is not None:
                    rules = self._rules_by_digest(event.digest)
                    self._categories = rules.categories
                    self._send_all(self._alerts.use(rules))
                    self._pace()
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
        self._analysis.push(pcm)
        self._now_ms = self.terms.audio.samples_to_ms(self.samples)

    def _follow(self, happened: Happened) -> None:
        """Turn what happened on a channel into effects; messages carry the position of the frame, not the packet."""
        self._now_ms = happened.at_ms
        self._effects += self._consequences(happened)

    def _consequences(self, happened: Happened) -> list[Effect]:
        match happened.what:
            case Asked(ordinal, pcm, fresh):
                return [ConfirmSpeech(happened.channel, ordinal, pcm, fresh)]
            case Began(utterance):
                if self._transcribes:
                    self._transcripts.begin(utterance, self.terms.language)
                opened = self._segment(utterance, "opened")
                return self._numbered_all([opened, *self._alerts.opened(utterance.channel, utterance.begin_ms)])
            case Ceased(utterance):
                return self._numbered_all(self._ceased(utterance))
            case Ticked(unheard_ms):
                return self._numbered_all(self._alerts.settled(self._settled_ms(unheard_ms)))
            case VoiceGathered(utterance, pcm, net_speech_ms, end_ms):
                return [Identify(happened.channel, self._labels.ask(utterance, net_speech_ms, end_ms), pcm)]
            case TextWanted() as wanted:
                return self._transcribe(wanted)

    def _transcribe(self, wanted: TextWanted) -> list[Effect]:
        asked = self._transcripts.ask(wanted)
        if asked is None:
            return []
        ordinal, language = asked
        segment_id, foreseen, hurried = wanted.utterance.segment_id, wanted.foreseen, wanted.hurried
        return [Transcribe(segment_id, ordinal, wanted.pcm, language, wanted.kind, foreseen, hurried)]

    def _ceased(self, utterance: Utterance) -> list[ServerMessage]:
        drafts: list[ServerMessage] = [self._segment(utterance, "closed")]
        segment_id = utterance.segment_id
        if not utterance.identified_ms:
            label = self._labels.at_close(utterance, self.terms)
            drafts += [label, *self._alerts.labelled(segment_id, label.name, stable=label.stable, now_ms=self._now_ms)]
        drafts += self._alerts.spoke(segment_id, utterance.channel, utterance.begin_ms, utterance.end_ms)
        if not self._transcribes and not self._transcripts.ceded(utterance.channel):
            drafts += self._leave_unheard(utterance)
        return drafts

    @property
    def _without_words(self) -> bool:
        """Whether people spoke and nobody told what: then nothing can be said to be missing."""
        return bool(self._unheard_ms) and not any(map(self._transcripts.ceded, range(self.terms.audio.channels)))

    def _leave_unheard(self, utterance: Utterance) -> list[Alert | AlertUpdate]:
        """To the rules, speech without words is a hole. Each begins where the last one ended, so they stay one hole."""
        channel = utterance.channel
        begin_ms = self._unheard_ms.get(channel, utterance.begin_ms)
        self._unheard_ms[channel] = utterance.end_ms
        return self._alerts.lost(channel, self.terms.roles[channel], begin_ms, utterance.end_ms)

    def _settled_ms(self, unheard_ms: int) -> int:
        """Everything said before has its final text. In a pause, which will be a hole, nothing settles."""
        bounds = [unheard_ms, self._transcripts.unsettled_ms]
        if self.state is State.PAUSED:
            bounds.append(self.terms.audio.samples_to_ms(self._paused_at))
        return min(bound for bound in bounds if bound is not None)

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
                self._lose(channel, self._paused_at, self.samples)

    def _lose(self, channel: int, from_sample: int, to_sample: int) -> None:
        """What is missing may hide words."""
        to_ms = self.terms.audio.samples_to_ms
        self._send_all(self._alerts.lost(channel, self.terms.roles[channel], to_ms(from_sample), to_ms(to_sample)))

    # --- what engines and people say ---

    def _identified(self, event: Identified) -> None:
        message = self._labels.answer(event, self.terms)
        if message is not None:
            self._send(message)
            label = message.name, message.stable
            self._send_all(self._alerts.labelled(message.segment_id, label[0], stable=label[1], now_ms=self._now_ms))

    def _transcribed(self, event: Transcribed) -> None:
        wanted, said = self._transcripts.answer(event)
        if wanted is not None and wanted.kind == "partial":
            channel, segment_id = wanted.utterance.channel, wanted.utterance.segment_id
            self._analysis.partial_answered(channel, segment_id, self._transcripts.agreed_ends_ms(segment_id))
        for one in said:
            self._said(one)

    def _said(self, said: Said) -> None:
        wanted, final = said.wanted, said.wanted.kind == "final"
        self._show(wanted.utterance, said.shown, said.stable_chars, final=final)
        end_ms = wanted.begin_ms + self.terms.audio.samples_to_ms(len(wanted.pcm) // 2)
        self._judge(wanted.utterance, said.heard, None if final else said.heard.settled(wanted.settled_ms), end_ms)

    def _client_spoke(self, event: ClientSpoke) -> None:
        """From here the softphone's words are the channel's. An empty text says no more than that."""
        forgotten = self._transcripts.cede(event.channel, event.begin_ms)
        if event.text.strip():
            utterance = Utterance(self._analysis.next_segment_id(), event.channel, event.begin_ms, event.end_ms)
            self._say_finally(utterance, Text(event.text, self.terms.language, (), event.begin_ms, event.end_ms))
        for shown in forgotten:
            self._say_finally(shown, nothing_heard(shown))

    def _say_finally(self, utterance: Utterance, text: Text) -> None:
        self._show(utterance, text, len(text.text), final=True)
        self._judge(utterance, text, None, text.end_ms)

    def _show(self, utterance: Utterance, text: Text, stable_chars: int, *, final: bool) -> None:
        self._send(
            messages.Transcript(
                segment_id=utterance.segment_id,
                channel=utterance.channel,
                role=self.terms.roles[utterance.channel],
                text=text.text,
                stable_chars=stable_chars,
                final=final,
                begin_ms=text.begin_ms,
                end_ms=text.end_ms,
                language=text.language,
                words=[
                    messages.Word(text=word.text, begin_ms=word.begin_ms, end_ms=word.end_ms) for word in text.words
                ],
            )
        )

    def _judge(self, utterance: Utterance, text: Text, settled: str | None, text_ms: int) -> None:
        """Hold rules against a text that covers the audio up to `text_ms`; `settled`: what counts of a partial one."""
        segment_id, channel, role = utterance.segment_id, utterance.channel, self.terms.roles[utterance.channel]
        name, stable = self._labels.who(segment_id, channel)
        self._send_all(self._alerts.labelled(segment_id, name, stable=stable, now_ms=self._now_ms))
        if settled is None:
            self._send_all(self._alerts.final(segment_id, channel, text, role=role, text_ms=text_ms))
        else:
            self._send_all(self._alerts.partial(segment_id, channel, text, settled, role=role, text_ms=text_ms))

    def _pace(self) -> None:
        """Partial texts thin out with the load, and sooner where no rule looks at this call's words."""
        wanted = self.terms.categories
        judged = any(category in wanted for category in self._categories) if wanted else bool(self._categories)
        self._analysis.pace(self._load, judged=judged)

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
            self._pace()

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
        self._analysis.finish()
        self._now_ms = self.terms.audio.samples_to_ms(self.samples)
        outstanding = self._transcripts.finals_pending or self._labels.pending or self._stored < self.samples
        return self._analysis.finished and (not outstanding or self._impatient)

    def _give_up_settling(self) -> None:
        self._analysis.stop_waiting()
        self._now_ms = self.terms.audio.samples_to_ms(self.samples)
        if self._settled():
            return
        self._impatient = True
        self._labels.give_up()
        for said in self._transcripts.give_up():
            self._said(said)
        self._send(messages.Warning(code="analysis_incomplete", message="The last words were not transcribed in time."))

    def _end(self, *, judged: bool) -> None:
        verdict = self._verdict
        if verdict is not None:
            updates, missed = self._alerts.reconcile(None if verdict.failure else verdict.result, self.terms.roles)
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

    def _numbered_all(self, drafts: Iterable[ServerMessage]) -> list[Effect]:
        return [self._numbered(draft) for draft in drafts]

    def _numbered(self, draft: ServerMessage) -> Send:
        self._seq += 1
        return Send(msgspec.structs.replace(draft, call_id=self.terms.call_id, seq=self._seq, at_ms=self._now_ms))
