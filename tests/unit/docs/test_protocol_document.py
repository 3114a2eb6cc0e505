"""docs/protocol.md: its generated parts are fresh, and everything in it that can be checked is true."""

import re
from typing import get_args

import msgspec
import pytest

from docs import generate
from gateway.call.diagram import BY_ITSELF, mermaid, table
from gateway.call.states import TRANSITIONS, State
from gateway.settings import Settings
from protocol.audio import AudioFormat
from protocol.codec import MAX_MESSAGE_BYTES, decode_client, decode_framed, decode_server
from protocol.messages import AlertStatus
from protocol.voiceprint import sign
from protocol.watching import decode_told, decode_watcher

TEXT = (generate.HERE / "protocol.md").read_text("utf-8")
FENCED = re.findall(r"^```(\w+) (\w+)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


def lines(side: str) -> list[str]:
    return [line for kind, who, body in FENCED if (kind, who) == ("json", side) for line in body.splitlines()]


def test_the_generated_parts_are_what_the_code_says() -> None:
    assert generate.filled(TEXT) == TEXT, "stale: run `python -m docs.generate`"


def test_every_generated_part_is_in_the_document() -> None:
    assert set(re.findall(r"<!-- generated: ([a-z ]+) -->", TEXT)) == set(generate.BLOCKS)


def test_an_unknown_part_is_an_error() -> None:
    with pytest.raises(KeyError):
        generate.filled("<!-- generated: nothing known -->\n<!-- end -->")


@pytest.mark.parametrize("line", lines("client"))
def test_each_example_of_a_client_s_message_is_one(line: str) -> None:
    decode_client(line)


@pytest.mark.parametrize("line", lines("server"))
def test_each_example_of_a_server_s_message_is_one_and_whole(line: str) -> None:
    message = decode_server(line)
    assert msgspec.json.decode(line) == msgspec.to_builtins(message)


@pytest.mark.parametrize("line", lines("watcher"))
def test_each_example_of_a_watcher_s_message_is_one(line: str) -> None:
    decode_watcher(line)


@pytest.mark.parametrize("line", lines("told"))
def test_each_example_of_what_a_watcher_is_told_is_one_and_whole(line: str) -> None:
    assert msgspec.json.decode(line) == msgspec.to_builtins(decode_told(line))


def test_the_worked_signature_is_right() -> None:
    assert f"X-App-Signature: {sign('demo', '1700000000', 'demo-secret')}" in TEXT


def test_the_frame_in_hexadecimal_is_what_the_text_says() -> None:
    [body] = [body for kind, who, body in FENCED if (kind, who) == ("hex", "framed")]
    frame = decode_framed(bytes.fromhex(body), AudioFormat("pcm_s16le", 8000, 1))
    assert (frame.number, frame.first_sample, frame.channel) == (7, 8000, 255)
    assert memoryview(frame.pcm).cast("h").tolist() == [16, -16]


def test_each_alert_status_and_setting_named_exists() -> None:
    section = TEXT[TEXT.index("## Alerts") : TEXT.index("## Gaps")]
    assert all(f"| `{status}` |" in section for status in get_args(AlertStatus))
    limits = TEXT[TEXT.index("## Limits and time-outs") : TEXT.index("## HTTP")]
    named = re.findall(r"`(\w+)` \|$", limits, re.MULTILINE)
    assert named
    assert set(named) <= set(Settings.__struct_fields__)
    assert f"{MAX_MESSAGE_BYTES} bytes" in limits


def test_the_diagram_holds_every_change_of_state_and_no_other() -> None:
    drawn = set(re.findall(r"^ +(\w+) --> (\w+):", mermaid(), re.MULTILINE))
    by_table = {
        (before.value, after.value)
        for moves in TRANSITIONS.values()
        for before, after in moves.items()
        if before is not after
    }
    by_itself = {(before.value, after.value) for before, ends in BY_ITSELF.items() for after in ends}
    assert drawn == by_table | by_itself


def test_the_table_of_transitions_has_a_row_for_each_event_and_a_column_for_each_state() -> None:
    head, _, *rows = table().splitlines()
    assert [cell.strip() for cell in head.strip("|").split("|")] == ["event", *(state.value for state in State)]
    assert len(rows) == len(TRANSITIONS)
    hangup = next(row for row in rows if row.startswith("| HungUp |"))
    assert hangup == "| HungUp | ended | settling | settling | settling | judging | ended |"
