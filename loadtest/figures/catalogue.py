"""Every figure of a result: its name with its unit, what it means, and which way is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

LATENCIES: Final[dict[str, str]] = {
    "connect": "from when a call was due to begin until the server had started it",
    "ack_lag": "of every frame: from when it was due to be sent until an ack covered it",
    "segment_opened": "from the begin of an utterance (its lead-in included) until the message that it had opened",
    "segment_closed": "from the end of an utterance until the message that it had closed",
    "segment_transit": "of the same messages: behind the audio that decided them, as their at_ms tells",
    "label": "from when 3 s had been spoken, pauses taken out, until an utterance's first speaker label",
    "label_at_close": "from the end of an utterance with less speech than that until its label",
    "partial_text": "from the end of what a text covers until that text, while the utterance goes on",
    "final_text": "from the end of an utterance until its final text",
    "alert": "from when the deciding keyword was said until the alert",
    "ended": "from a hangup until the call has ended",
    "slow_ack_lag": "ack lag as slow readers see it, their own pauses included",
    "watch_transit": "of a watched call's messages at the watcher: behind the audio that decided them",
    "watch_levels_gap": "from one message of levels to the next, at a watcher",
}
"""Latencies, each told as NAME_p50_ms, p95, p99 and max."""
QUANTILES: Final[dict[str, float]] = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}


@dataclass(frozen=True, slots=True)
class Figure:
    """`noise`: a difference below this is none, whatever the ratio."""

    meaning: str
    better: Literal["less", "more", "neither"] = "less"
    noise: float = 0.0


_COUNTS: Final[dict[str, Figure]] = {
    "calls_begun": Figure("calls that the server started", "neither"),
    "calls_at_once": Figure("most calls at a time", "neither"),
    "calls_sustained": Figure("a search's answer: most calls that met the SLO", "more"),
    "calls_refused": Figure("calls that the server would not take"),
    "calls_failed": Figure("calls that broke off, ended otherwise than by their hangup, or were never started"),
    "frames_sent": Figure("audio frames sent", "neither"),
    "frames_per_s": Figure("audio frames sent in a second, mean", "neither"),
    "samples_unacked": Figure("sampling instants sent and not acknowledged when their call had ended"),
    "messages_lost": Figure("numbers (seq) missing among a call's messages, or utterances that only its document has"),
    "messages_disordered": Figure("messages whose number was not above the one before"),
    "cuts": Figure("connections that were cut, each to be resumed", "neither"),
    "recordings_verified": Figure("recordings that hold exactly what was sent", "neither"),
    "recordings_wrong": Figure("recordings that do not"),
    "watchers_failed": Figure("watchers that could not watch, or were cut off"),
    "watch_messages": Figure("messages that watchers got", "neither"),
    "server_cpu_share": Figure("processors the server kept busy, mean; 1 is one", "less", 0.02),
    "server_main_cpu_share": Figure("the same of its busiest process", "less", 0.02),
    "server_cpu_us_per_frame": Figure("server's CPU for a frame, everything included", "less", 0.5),
    "server_cpu_ms_per_call_s": Figure("server's CPU for a second of one call", "less", 0.05),
    "server_rss_max_mb": Figure("most memory (resident) of the server's processes together", "less", 5.0),
    "server_loop_lag_p50_ms": Figure(
        "lateness of the server's event loops, an upper bound, of its metrics", "less", 1.0
    ),
    "server_loop_lag_p99_ms": Figure(
        "lateness of the server's event loops, an upper bound, of its metrics", "less", 1.0
    ),
    "harness_cpu_share": Figure("of one processor, the busiest process of the harness, mean", "neither"),
    "harness_cpu_us_per_frame": Figure("harness's CPU for a frame sent, acks and all else included", "neither"),
    "harness_frames_per_core_s": Figure("frames a second that one processor could send at that cost", "neither"),
    "harness_lag_p99_ms": Figure("how late the harness itself sent its frames", "neither"),
    "harness_lag_max_ms": Figure("how late the harness itself sent its frames", "neither"),
}

FIGURES: Final[dict[str, Figure]] = {
    **_COUNTS,
    **{
        f"{name}_{quantile}_ms": Figure(meaning, "neither" if quantile == "max" else "less", 2.0)
        for name, meaning in LATENCIES.items()
        for quantile in QUANTILES
    },
}
