"""What one call sees: its acks, utterances, labels, texts and alerts, each against the moment it was about."""

from __future__ import annotations

from collections import Counter
from typing import Final

from loadtest.figures.catalogue import LATENCIES
from loadtest.figures.histogram import Histogram
from loadtest.softphones.speech import Script
from protocol.messages import Alert, Ended, Error, Segment, ServerMessage, Speaker, Started, Transcript

LABEL_AFTER_MS: Final = 3000
"""Net speech before a first label; an utterance with less has its label when it closes."""
_ENDS_WELL: Final = ("hangup", "qc_pending", "qc_failed")


class Measures:
    """What one process measures, until it is told. Latencies are in seconds."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {name: [] for name in LATENCIES}
        self.lateness_s: list[float] = []
        """How late we ourselves sent each frame."""
        self.counts: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()

    def drain(self) -> tuple[dict[str, Histogram], Histogram]:
        """The latencies since the last time, and our own lateness."""
        told: dict[str, Histogram] = {}
        for name, values in self.values.items():
            if values:
                told[name] = Histogram()
                told[name].add(values)
                values.clear()
        own = Histogram()
        own.add(self.lateness_s)
        self.lateness_s.clear()
        return told, own


class Listener:
    """Times are of one monotonic clock, in seconds. `began_s`: when the audio's first sample was spoken."""

    def __init__(self, measures: Measures, script: Script, first_frame: int, *, slow: bool = False) -> None:
        """`slow`: its ack lag is told apart, and nothing else of it is timed."""
        self.call_id = ""
        self.began_s = 0.0
        self.acked_samples = 0
        self.last_seq = 0
        self.resumes = False
        """Numbers may be missing: acks and texts that later ones replace are not sent again."""
        self.closed_segments: set[str] = set()
        self.alerts: set[str] = set()
        self.ended: Ended | None = None
        self._measures = measures
        self.slow = slow
        self._ack_lags = measures.values["slow_ack_lag" if slow else "ack_lag"]
        self._rate_hz = script.audio.rate_hz
        self._sizes = script.sizes
        self._next_size = first_frame
        self._next_end = script.sizes[first_frame]
        self._unlabelled: set[str] = set()
        """Segments that have no label yet."""

    def due_s(self, at_ms: int) -> float:
        """When the sound at a position of the media clock had been spoken."""
        return self.began_s + at_ms / 1000

    def note_seq(self, seq: int) -> None:
        """Look whether a message is missing before this one."""
        if seq == self.last_seq + 1:
            self.last_seq = seq
        elif seq:
            if seq <= self.last_seq:
                self._measures.counts["messages_disordered"] += 1
            else:
                if not self.resumes:
                    self._measures.counts["messages_lost"] += seq - self.last_seq - 1
                self.last_seq = seq

    def ack(self, samples: int, now_s: float) -> None:
        """Every frame that is covered for the first time has waited since it was due, not since it was sent."""
        end, at, sizes = self._next_end, self._next_size, self._sizes
        while end <= samples:
            self._ack_lags.append(now_s - self.began_s - end / self._rate_hz)
            at += 1
            if at == len(sizes):
                at = 0
            end += sizes[at]
        self._next_end, self._next_size = end, at
        self.acked_samples = samples

    def hear(self, message: ServerMessage, now_s: float) -> None:
        """Any message but an ack, which goes to `ack`."""
        match message:
            case Started():
                self.call_id = message.call_id
            case Segment():
                self._segment(message, now_s)
            case Speaker():
                if message.segment_id in self._unlabelled:
                    self._unlabelled.remove(message.segment_id)
                    first = message.net_speech_ms >= LABEL_AFTER_MS
                    self._note("label" if first else "label_at_close", now_s, message.heard_ms)
            case Transcript():
                self._note("final_text" if message.final else "partial_text", now_s, message.end_ms)
            case Alert():
                self.alerts.add(message.alert_id)
                self._note("alert", now_s, message.heard_ms)
            case Error():
                self._measures.counts[f"error {message.code}"] += 1
            case Ended():
                self.ended = message
            case _:
                pass

    @property
    def fault(self) -> str:
        """Why the call did not end as it should; empty when it did."""
        if self.ended is None:
            return "no `ended`"
        return "" if self.ended.reason in _ENDS_WELL else f"ended: {self.ended.reason}"

    def _segment(self, message: Segment, now_s: float) -> None:
        if message.state == "opened":
            self._unlabelled.add(message.segment_id)
            self._note("segment_opened", now_s, message.begin_ms)
        else:
            self.closed_segments.add(message.segment_id)
            self._note("segment_closed", now_s, message.end_ms)
        self._note("segment_transit", now_s, message.at_ms)

    def _note(self, name: str, now_s: float, at_ms: int) -> None:
        if not self.slow:
            self._measures.values[name].append(now_s - self.due_s(at_ms))
