"""A call on the terminal: what is settled stands out from what may still change."""

import io

from rich.console import Console

from gateway.terminal.timeline import Timeline
from protocol.messages import Transcript


def printed(*messages: Transcript) -> str:
    written = io.StringIO()
    timeline = Timeline(Console(file=written, force_terminal=True, color_system="standard", width=200), lambda _: None)
    for message in messages:
        timeline.show(message)
    return written.getvalue()


def transcript(text: str, stable_chars: int, *, final: bool = False) -> Transcript:
    return Transcript(
        segment_id="s1", channel=0, role="agent", text=text, stable_chars=stable_chars, final=final, begin_ms=0,
        end_ms=900, language="en", words=[],
    )  # fmt: skip


def test_the_stable_part_of_a_partial_is_plain_and_the_tentative_tail_dim() -> None:
    shown = printed(transcript("I want a refund", 8))
    assert "\x1b[3mI want a\x1b[0m" in shown
    assert "\x1b[2;3m refund ...\x1b[0m" in shown


def test_a_final_text_is_shown_whole_and_a_partial_that_says_nothing_new_not_at_all() -> None:
    shown = printed(transcript("I want", 1), transcript("I want", 1), transcript("I want it", 9, final=True))
    assert shown.count("want") == 2
    assert "I want it" in shown
