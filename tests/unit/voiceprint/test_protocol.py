from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import voiceprint as wire
from protocol.voiceprint import AudioFile, Code, Deletion, Listing, NamedVoice, Scope, VoiceprintError

FULL = {"spk_name": "张明", "org_id": "org", "tag_id": "tag"}


def test_the_signature_is_the_documents() -> None:
    # App id, time and signature as in the document's table of parameters, with the secret that gives them.
    assert wire.sign("595f23df", "1512041814", "d9f4aa7ea6d94faca62cd88a28fd5234") == "IrrzsJeOFk1NGfJHW6SkHUoN9CU="


def test_every_code_has_a_message_and_a_cause() -> None:
    assert all(code.message and code.cause for code in Code)


def test_the_retryable_codes_are_those_that_time_may_heal() -> None:
    assert {code.value for code in Code if code.retryable} == {"10000", "10700", "10800", "16003"}


@pytest.mark.parametrize("missing", ["spk_name", "org_id", "tag_id"])
def test_an_enrolment_names_the_field_it_misses(missing: str) -> None:
    for fields in ({**FULL, missing: ""}, {name: value for name, value in FULL.items() if name != missing}):
        with pytest.raises(VoiceprintError, match=f"{missing} is missing") as refused:
            wire.parse_enrolment("acme", fields)
        assert refused.value.code is Code.MISSING_PARAMETER


@pytest.mark.parametrize("field", ["denoise_audio", "denoise_enable"])
@pytest.mark.parametrize(("text", "wanted"), [("1", True), ("True", True), ("0", False), ("false", False), ("", False)])
def test_denoising_is_read_in_every_spelling(field: str, text: str, wanted: bool) -> None:
    assert wire.parse_enrolment("acme", {**FULL, field: text}).denoise is wanted


def test_a_denoising_value_that_means_nothing_is_illegal() -> None:
    with pytest.raises(VoiceprintError, match="denoise_audio") as refused:
        wire.parse_recognition("acme", {**FULL, "denoise_audio": "maybe"})
    assert refused.value.code is Code.ILLEGAL_PARAMETER


def test_fields_that_clients_add_are_tolerated() -> None:
    wire.parse_enrolment("acme", {**FULL, "audio_preprocess": "false", "app_id": "acme"})


def test_a_recognition_without_tag_means_all_tags() -> None:
    assert wire.parse_recognition("acme", {"org_id": "org"}).scope == Scope("acme", "org", None)


@pytest.mark.parametrize("field", ["spk_name", "spk-name"])
def test_voice_url_reads_both_spellings_of_the_name(field: str) -> None:
    fields = {"org_id": "org", "tag_id": "tag", field: "sunny"}
    assert wire.parse_voice_url("acme", fields) == NamedVoice("acme", "org", "tag", "sunny")


def test_the_org_is_the_app_itself_where_the_document_says_so() -> None:
    assert wire.parse_deletion_of_one("acme", {"spk_name": "a", "tag_id": "t"}).org_id == "acme"
    assert wire.parse_listing("acme", {"tag_id": "t"}) == Listing(Scope("acme", "acme", "t"), 0, 20)
    assert wire.parse_count("acme", {}) == Scope("acme", "acme", None)


def test_deleting_without_names_means_all_but_an_empty_name_does_not() -> None:
    fields = {"org_id": "org", "tag_id": "tag"}
    assert wire.parse_deletion("acme", fields, None) == Deletion("acme", "org", "tag", None)
    assert wire.parse_deletion("acme", fields, ["a", "b", "a"]).names == ("a", "b")
    with pytest.raises(VoiceprintError, match="speaker is empty"):
        wire.parse_deletion("acme", fields, [""])


@pytest.mark.parametrize(("field", "text"), [("limit", "0"), ("limit", "10001"), ("offset", "-1"), ("offset", "x")])
def test_paging_out_of_range_is_illegal(field: str, text: str) -> None:
    with pytest.raises(VoiceprintError, match=f"{field} is not a whole number") as refused:
        wire.parse_listing("acme", {"tag_id": "t", field: text})
    assert refused.value.code is Code.ILLEGAL_PARAMETER


@pytest.mark.parametrize("name", ["a\nb", "x" * 129, "\x00", "\udcff"])
def test_a_name_that_cannot_be_shown_is_illegal(name: str) -> None:
    with pytest.raises(VoiceprintError) as refused:
        wire.parse_enrolment("acme", {**FULL, "spk_name": name})
    assert refused.value.code is Code.ILLEGAL_PARAMETER


@pytest.mark.parametrize("url", ["ftp://a/b.wav", "file:///etc/passwd", "hello", "http://", "http://[::1"])
def test_a_link_that_is_not_http_has_its_own_code(url: str) -> None:
    with pytest.raises(VoiceprintError) as refused:
        wire.parse_audio_url(url)
    assert refused.value.code is Code.NOT_HTTP_URL


def test_a_link_shows_its_host() -> None:
    assert wire.parse_audio_url(" HTTPS://Voices.Example:8/a.wav ").host == "voices.example"


@pytest.mark.parametrize(
    ("filename", "kind", "raw"),
    [("A.PCM", "", True), ("a.raw", "audio/wav", True), ("a", "audio/L16", True), ("a.wav", "audio/*", False)],
)
def test_pcm_without_header_must_be_named_or_typed_so(filename: str, kind: str, raw: bool) -> None:
    assert AudioFile(b"", filename, kind).is_raw_pcm is raw


@given(st.dictionaries(st.sampled_from([*FULL, "limit", "offset", "denoise_audio", "spk-name"]), st.text()))
def test_any_fields_are_parsed_or_refused_with_a_code(fields: dict[str, str]) -> None:
    for parse in (wire.parse_enrolment, wire.parse_recognition, wire.parse_listing, wire.parse_count):
        try:
            parse("acme", fields)
        except VoiceprintError as refused:
            assert refused.code in (Code.MISSING_PARAMETER, Code.ILLEGAL_PARAMETER)
