"""Any sequence of events whatever: what every call owes, and what no event may break."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.call.effects import EndCall, Identify, Transcribe, UploadRecording
from gateway.call.events import (
    AudioArrived,
    AudioLost,
    AudioStored,
    ClientSpoke,
    Continued,
    Event,
    HeardWord,
    Hit,
    HungUp,
    Identified,
    LoadChanged,
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
from gateway.call.settings import CallSettings
from gateway.call.states import TRANSITIONS, IllegalEvent, State
from gateway.call.vad import VadSettings
from protocol.messages import Ack, Alert, AlertUpdate, Ended, QcResult, Segment, Transcript
from protocol.rules.matcher import RuleSet
from tests.unit.call.shell import ACCEPTED, Shell
from tests.unit.call.sound import LoudnessGate, confirmed, make_call, quiet, silence, stereo, voice

RULES = RuleSet.from_categories({"c": ["red", "red&&!blue", "!green"], "d": ["blue&&green||red"]}, 1, pinyin=True)
SENTENCES = st.lists(st.sampled_from(["red", "blue", "green", "sky"]), max_size=3).map(" ".join)
RESULTS = st.sampled_from(
    [
        {},
        {"detection_result": [{"category": "c", "keyword": ["red"]}, {"category": "x", "keyword": ["y"]}]},
        {"detection_result": [{"category": "d", "keyword": [], "detail": [{"content": "!green", "keyword": []}]}]},
    ]
)
NEXT_STATUS = {
    "provisional": {"provisional", "final", "retracted", "confirmed", "not_confirmed", "indeterminate"},
    "final": {"final", "confirmed", "not_confirmed", "indeterminate"},
}


class AnyLife(RuleBasedStateMachine):
    """Events are thrown at a call whether its state allows them or not; the test plays engines, disk and voice QC."""

    @initialize(
        channels=st.integers(1, 2),
        mode=st.sampled_from(["webrtc", "webrtc+silero", "silero"]),
        scope=st.sampled_from(["recording", "sentence"]),
        accepted=st.sampled_from([True, True, True, False]),
    )
    def opened(self, channels: int, mode: Any, scope: Any, accepted: bool) -> None:
        call_settings = CallSettings(gate=LoudnessGate, vad=VadSettings(mode), rule_scope=scope)
        call = make_call(RULES, call_settings, channels=channels)
        self.channels = channels
        self.shell = Shell(call, accepted=accepted)
        self.patience_ended = False
        self.answered: list[Event] = []
        self.ceded: set[int] = set()

    def happens(self, event: Event) -> None:
        call = self.shell.call
        before = call.state, call.samples, call._seq, call._stored
        effects = len(self.shell.effects)
        if before[0] in TRANSITIONS[type(event)]:
            self.shell.tell(event)
            self.patience_ended |= isinstance(event, SettlingExpired)
            return
        try:
            self.shell.tell(event)
        except IllegalEvent as refused:
            assert refused.state is before[0]
            assert (call.state, call.samples, call._seq, call._stored) == before
            assert len(self.shell.effects) == effects
        else:
            raise AssertionError(f"{event} was taken in {before[0]}")

    # --- the client ---

    @rule()
    def accepted(self) -> None:
        self.happens(ACCEPTED)

    @rule(sound=st.sampled_from([voice, quiet]), ms=st.integers(1, 2500))
    def sounds_arrive(self, sound: Any, ms: int) -> None:
        pcm: bytes = sound(ms)
        self.happens(AudioArrived(pcm if self.channels == 1 else stereo(pcm, silence(ms))))

    @rule(ms=st.sampled_from([300, 1200, 3300]), pause_ms=st.sampled_from([100, 700]))
    def someone_speaks(self, ms: int, pause_ms: int) -> None:
        for pcm in (voice(ms), quiet(pause_ms)):
            self.happens(AudioArrived(pcm if self.channels == 1 else stereo(quiet(len(pcm) // 16), pcm)))
            self.shell.confirm_all()

    @rule(samples=st.integers(1, 8000))
    def samples_are_lost(self, samples: int) -> None:
        here = self.shell.call.samples
        self.happens(AudioLost(0, here, here + samples, "network"))

    @rule(text=SENTENCES, last=st.booleans())
    def the_client_speaks(self, text: str, last: bool) -> None:
        channel = self.channels - 1 if last else 0
        if self.shell.call.state in TRANSITIONS[ClientSpoke]:
            self.ceded.add(channel)
        self.happens(ClientSpoke(channel, text, 0, 1000))

    @rule(categories=st.none() | st.lists(st.sampled_from(["c", "d", "x"]), max_size=2).map(tuple))
    def the_client_updates(self, categories: tuple[str, ...] | None) -> None:
        self.happens(Updated(language="zh", roles=("agent",), metadata={"a": 1}, categories=categories))

    @rule(level=st.integers(0, 7))
    def the_load_changes(self, level: int) -> None:
        self.happens(LoadChanged(level))

    @rule(event=st.sampled_from([Paused(), Continued(), Continued(), Warned("code", "message")]))
    def something_simple_happens(self, event: Event) -> None:
        self.happens(event)

    @rule(reason=st.sampled_from(["hangup", "lost"]), really=st.sampled_from([True, False, False]))
    def the_client_hangs_up(self, reason: str, really: bool) -> None:
        if really or not self.shell.is_in(State.LIVE, State.PAUSED):
            self.happens(HungUp(reason))

    # --- the disk and the engines ---

    @rule(share=st.sampled_from([0.5, 1.0]))
    def audio_is_stored(self, share: float) -> None:
        call = self.shell.call
        self.happens(AudioStored(max(call._stored, int(call.samples * share))))

    @rule(known=st.booleans(), channel=st.integers(0, 1))
    def speech_is_confirmed(self, known: bool, channel: int) -> None:
        waiting = self.shell.confirms[channel]
        if waiting:
            answer = confirmed(waiting.popleft())
            self.happens(answer if known else SpeechConfirmed(answer.channel, answer.ordinal, None))

    @rule(at=st.integers(0, 5), text=SENTENCES, how=st.sampled_from(["text", "superseded", "failed"]))
    def words_are_found(self, at: int, text: str, how: str) -> None:
        wanted = self.shell.transcribes
        if not wanted:
            return
        one = wanted.pop(at % len(wanted))
        words = tuple(HeardWord(" " + word, 10 * nth, 10 * nth + 10) for nth, word in enumerate(text.split()))
        event = Transcribed(one.segment_id, one.ordinal, text, "en", words)
        if how == "failed" or (how == "superseded" and one.kind == "partial"):
            event = Transcribed(one.segment_id, one.ordinal, superseded=how == "superseded", failed="broken")
        self.answered.append(event)
        self.happens(event)

    @rule(at=st.integers(0, 5), refused=st.sampled_from(["", "too_short"]), score=st.sampled_from([0.0, 57.0, 90.0]))
    def a_voice_is_identified(self, at: int, refused: str, score: float) -> None:
        wanted = self.shell.identifies
        if wanted:
            one = wanted.pop(at % len(wanted))
            hits = () if refused else (Hit("ann", score), Hit("bob", score / 2))
            event = Identified(one.channel, one.ordinal, hits, refused)
            self.answered.append(event)
            self.happens(event)

    @rule(at=st.integers(0, 20))
    def an_answer_comes_twice(self, at: int) -> None:
        if self.answered:
            self.happens(self.answered[at % len(self.answered)])

    # --- the end ---

    @rule(event=st.sampled_from([SettlingExpired(), QcWaitExpired(), QcProgressed("c1", 1, "")]))
    def waiting_is_over(self, event: Event) -> None:
        self.happens(event)

    @rule(result=RESULTS, failure=st.sampled_from(["", "dead letter"]))
    def voice_qc_judges(self, result: dict[str, Any], failure: str) -> None:
        self.happens(QcJudged("c1", result, failure))

    # --- what always holds ---

    @invariant()
    def messages_are_numbered_without_holes(self) -> None:
        messages = self.shell.messages
        assert [message.seq for message in messages] == list(range(1, len(messages) + 1))
        assert all(message.call_id == "c1" for message in messages)

    @invariant()
    def ended_is_the_last_word_and_comes_with_the_end(self) -> None:
        messages = self.shell.messages
        ended = [at for at, message in enumerate(messages) if isinstance(message, Ended)]
        assert ended in ([], [len(messages) - 1])
        assert len(ended) == self.shell.done(EndCall) == self.shell.is_in(State.ENDED)
        if ended and not self.patience_ended:
            acked = max((ack.samples for ack in self.shell.sent(Ack)), default=0)
            assert acked == self.shell.call.samples

    @invariant()
    def it_is_uploaded_once_from_hangup_on(self) -> None:
        hung_up = self.shell.is_in(State.SETTLING, State.JUDGING, State.ENDED)
        accepted = bool(self.shell.messages) and not isinstance(self.shell.messages[0], Ended)
        assert self.shell.done(UploadRecording) == (hung_up and accepted)

    @invariant()
    def a_segment_opens_closes_and_gets_its_final_text_in_this_order_and_once(self) -> None:
        steps: dict[str, list[str]] = {}
        channels: dict[str, int] = {}
        for message in self.shell.messages:
            if isinstance(message, Segment):
                steps.setdefault(message.segment_id, []).append(message.state)
                channels[message.segment_id] = message.channel
            elif isinstance(message, Transcript) and message.final:
                steps.setdefault(message.segment_id, []).append("final")
        told = ["opened", "closed", "final"]
        over = self.shell.is_in(State.JUDGING, State.ENDED)
        for segment_id, had in steps.items():
            if channels.get(segment_id) in self.ceded:  # the client's words are the channel's
                assert had.count("final") <= 1
                assert [step for step in had if step != "final"] == told[: 2 if over else len(set(had) - {"final"})]
            else:
                assert had in ([told] if over else [told[:1], told[:2], told]) or had == ["final"]

    @invariant()
    def what_was_shown_of_a_segment_is_settled_by_a_final_text_and_its_stable_part_is_kept(self) -> None:
        shown: dict[str, Transcript] = {}
        for message in self.shell.sent(Transcript):
            before = shown.get(message.segment_id)
            if before is not None and not message.final:
                assert not before.final
                assert message.stable_chars >= before.stable_chars
                assert message.text[: before.stable_chars] == before.text[: before.stable_chars]
            assert message.stable_chars <= len(message.text)
            shown[message.segment_id] = message
        if self.shell.is_in(State.JUDGING, State.ENDED):
            assert all(message.final for message in shown.values())

    @invariant()
    def alerts_live_by_their_life_cycle(self) -> None:
        status: dict[str, str] = {}
        standing: Counter[tuple[str, str]] = Counter()
        rule_of: dict[str, tuple[str, str]] = {}
        for message in self.shell.messages:
            if isinstance(message, Alert):
                assert message.alert_id not in status
                status[message.alert_id] = message.certainty
                rule_of[message.alert_id] = message.category, message.rule
                standing[rule_of[message.alert_id]] += 1
                assert standing[rule_of[message.alert_id]] == 1
            elif isinstance(message, AlertUpdate):
                assert message.status in NEXT_STATUS[status[message.alert_id]]
                status[message.alert_id] = message.status
                standing[rule_of[message.alert_id]] -= message.status == "retracted"
        if self.shell.sent(QcResult):
            assert set(status.values()) <= {"retracted", "confirmed", "not_confirmed", "indeterminate"}

    @invariant()
    def questions_are_asked_once(self) -> None:
        asked = [effect.ordinal for effect in self.shell.effects if isinstance(effect, Transcribe)]
        named = [effect.ordinal for effect in self.shell.effects if isinstance(effect, Identify)]
        assert asked == list(range(1, len(asked) + 1))
        assert named == list(range(1, len(named) + 1))

    def teardown(self) -> None:
        """Whatever happened: a hangup and every answer bring the call to its end."""
        shell = self.shell
        self.happens(HungUp("hangup"))
        if shell.is_in(State.ENDED):
            return
        shell.answer_all()
        shell.tell(AudioStored(shell.call.samples))
        assert shell.is_in(State.JUDGING, State.ENDED)
        self.happens(QcJudged("c1", {}))
        assert shell.is_in(State.ENDED)
        for check in (
            self.messages_are_numbered_without_holes,
            self.ended_is_the_last_word_and_comes_with_the_end,
            self.it_is_uploaded_once_from_hangup_on,
            self.a_segment_opens_closes_and_gets_its_final_text_in_this_order_and_once,
            self.alerts_live_by_their_life_cycle,
            self.what_was_shown_of_a_segment_is_settled_by_a_final_text_and_its_stable_part_is_kept,
        ):
            check()


TestAnyLife = AnyLife.TestCase
TestAnyLife.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
