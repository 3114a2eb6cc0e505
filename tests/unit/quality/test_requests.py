"""What a request may say, and how a fault in it is named."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.quality import (
    ERROR_MESSAGES,
    ErrorCode,
    QualityFault,
    parse_rule,
    parse_rule_query,
    parse_task,
    parse_task_query,
)
from protocol.quality_result import TaskState, describe, state_from_answer

# A small alphabet: the whole of Unicode takes a fresh checkout longer to prepare than the test to run.
_TEXT = st.text("a1 类，\0")

TASK: dict[str, Any] = {"session_id": "s", "pid": 80006, "speech_data": "AAAA"}


def test_a_task_has_the_defaults_of_the_document() -> None:
    task = parse_task(TASK)
    assert (task.sample_rate, task.role_num, task.callback_url, task.categories) == (8000, 1, "", ())
    assert not (task.enable_detection or task.enable_detection_detail or task.is_split_channel)
    assert task.language == "auto"


def test_numbers_and_booleans_may_come_as_text_and_null_counts_as_absent() -> None:
    task = parse_task(TASK | {"pid": "80006", "enable_detection": "true", "categories": None, "callback_url": ""})
    assert task.pid == 80006
    assert task.enable_detection
    assert task.categories == ()


@pytest.mark.parametrize(
    ("change", "code", "named"),
    [
        ({"session_id": None}, ErrorCode.PARAMETER_MISSING, "session_id"),
        ({"session_id": "  "}, ErrorCode.PARAMETER_MISSING, "session_id"),
        ({"session_id": "x" * 257}, ErrorCode.PARAMETER_INVALID, "session_id"),
        ({"session_id": 7}, ErrorCode.PARAMETER_INVALID, "session_id"),
        ({"pid": None}, ErrorCode.PARAMETER_MISSING, "pid"),
        ({"pid": 1537}, ErrorCode.PARAMETER_INVALID, "pid must be 80006 or 8953"),
        ({"pid": "model"}, ErrorCode.PARAMETER_INVALID, "pid"),
        ({"sample_rate": 44100}, ErrorCode.PARAMETER_INVALID, "sample_rate"),
        ({"role_num": 0}, ErrorCode.PARAMETER_INVALID, "role_num"),
        ({"org_id": "o" * 257}, ErrorCode.PARAMETER_INVALID, "org_id is longer than 256"),
        ({"speaker_names": "perhaps"}, ErrorCode.PARAMETER_INVALID, "speaker_names"),
        ({"role_num": 3}, ErrorCode.PARAMETER_INVALID, "role_num"),
        ({"pid": 8953, "role_num": 2}, ErrorCode.PARAMETER_INVALID, "role_num must be 1 with pid 8953"),
        ({"pid": 8953, "is_split_channel": True}, ErrorCode.PARAMETER_INVALID, "is_split_channel must be false"),
        ({"speech_data": ""}, ErrorCode.PARAMETER_MISSING, "speech_data or speech_url"),
        ({"speech_url": "ftp://host/a.wav"}, ErrorCode.PARAMETER_INVALID, "speech_url"),
        ({"speech_url": "http://" + "a" * 2048}, ErrorCode.PARAMETER_INVALID, "speech_url is longer than 2048 bytes"),
        ({"callback_url": "javascript:0"}, ErrorCode.PARAMETER_INVALID, "callback_url"),
        ({"enable_detection": "perhaps"}, ErrorCode.PARAMETER_INVALID, "enable_detection"),
        ({"categories": "类别1"}, ErrorCode.PARAMETER_INVALID, "categories"),
        ({"categories": [1]}, ErrorCode.PARAMETER_INVALID, "categories[0]"),
        ({"language": "fr"}, ErrorCode.PARAMETER_INVALID, "language"),
    ],
)
def test_a_fault_in_a_task_names_its_field(change: dict[str, Any], code: ErrorCode, named: str) -> None:
    with pytest.raises(QualityFault) as raised:
        parse_task(TASK | change)
    assert raised.value.code == code
    assert named in raised.value.message
    assert raised.value.message.startswith(ERROR_MESSAGES[code])


@given(
    st.dictionaries(
        st.sampled_from(["session_id", "pid", "speech_data", "sample_rate", "role_num", "categories", "other"]),
        st.none() | st.booleans() | st.integers() | _TEXT | st.lists(_TEXT) | st.floats(),
    )
)
def test_any_fields_give_a_task_or_a_coded_fault(fields: dict[str, Any]) -> None:
    try:
        task = parse_task(fields)
    except QualityFault as fault:
        assert fault.code in (ErrorCode.PARAMETER_MISSING, ErrorCode.PARAMETER_INVALID)
    else:
        assert task.pid in (80006, 8953)


def test_a_query_needs_a_session() -> None:
    with pytest.raises(QualityFault, match="session_id"):
        parse_task_query({})


def test_rules_are_taken_as_contents_or_content() -> None:
    fields = {"category": "类别1", "description": "", "content": ["贷款"]}
    assert parse_rule(fields).contents == ("贷款",)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"description": "", "contents": ["a"]}, "category"),
        ({"category": " ", "description": "", "contents": ["a"]}, "category"),
        ({"category": "c", "contents": ["a"]}, "description"),
        ({"category": "c", "description": ""}, "contents"),
        ({"category": "c", "description": "", "contents": []}, "contents"),
        ({"category": "c", "description": "", "contents": ["a"] * 1001}, "contents"),
        ({"category": "c", "description": "", "contents": "a"}, "contents"),
    ],
)
def test_a_fault_in_a_rule_names_its_field(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(QualityFault, match=named):
        parse_rule(fields)


@pytest.mark.parametrize("fields", [{"page_no": 0}, {"page_size": 0}, {"page_size": 1001}, {"page_no": 10**7}])
def test_pages_count_from_one_and_are_bounded(fields: dict[str, int]) -> None:
    with pytest.raises(QualityFault, match=next(iter(fields))):
        parse_rule_query(fields)


def test_the_texts_that_clients_compare_are_exact() -> None:
    assert describe(TaskState.SUBMITTED) == "任务已提交，排队等待中"
    assert describe(TaskState.RUNNING) == "执行中"
    assert describe(TaskState.SUCCEEDED) == "处理成功"


def test_the_text_of_a_state_counts_for_more_than_its_number() -> None:
    assert state_from_answer(0, "处理成功") == 2
    assert state_from_answer(7, "任务已提交,排队等待中") == 0
    assert state_from_answer(3, "音频下载失败") == 3


def test_every_error_code_has_a_message() -> None:
    assert set(ERROR_MESSAGES) == set(ErrorCode)


def test_the_documentation_lists_every_error_code_with_its_message() -> None:
    page = (Path(__file__).parents[3] / "docs" / "voice-qc.md").read_text(encoding="utf-8")
    for code, message in ERROR_MESSAGES.items():
        assert f"| {int(code)} | {message} |" in page


@pytest.mark.parametrize(
    ("fields", "apart"),
    [
        ({}, False),
        ({"role_num": 2}, True),
        ({"pid": 8953}, True),
        ({"role_num": 2, "is_split_channel": True}, False),
    ],
)
def test_speakers_of_one_channel_are_told_apart_where_the_document_says_so(fields: dict[str, Any], apart: bool) -> None:
    task = parse_task({"session_id": "s", "pid": 80006, "speech_data": "AA", **fields})
    assert task.tells_speakers_apart is apart
    assert (task.speaker_names, task.org_id, task.tag_id) == (False, "", "")
