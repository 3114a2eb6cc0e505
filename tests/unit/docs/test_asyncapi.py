"""The AsyncAPI document: up to date, whole, and true to itself."""

from collections.abc import Iterator
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest

from docs import generate
from protocol import asyncapi, descriptions, messages
from protocol.codec import encode, encode_framed
from protocol.examples import CLIENT, SERVER, TOLD, WATCHER

DOCUMENT: dict[str, Any] = asyncapi.document()


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def at(pointer: str) -> Any:
    assert pointer.startswith("#/")
    found: Any = DOCUMENT
    for key in pointer[2:].split("/"):
        found = found[key]
    return found


def test_the_committed_document_is_what_the_types_say() -> None:
    committed = (generate.HERE / "asyncapi.json").read_text("utf-8")
    assert committed == asyncapi.text(), "stale: run `python -m docs.generate`"


def test_the_document_has_what_asyncapi_3_requires() -> None:
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= DOCUMENT["info"].keys()
    assert all({"host", "protocol"} <= server.keys() for server in DOCUMENT["servers"].values())
    known = {"asyncapi", "id", "info", "servers", "defaultContentType", "channels", "operations", "components"}
    assert all(key in known or key.startswith("x-") for key in DOCUMENT)
    for operation in DOCUMENT["operations"].values():
        assert operation["action"] in ("send", "receive")
        channel = operation["channel"]["$ref"]
        # The specification wants an operation's messages to be a subset of its channel's, by reference.
        assert all(one["$ref"].startswith(f"{channel}/messages/") for one in operation["messages"])


def test_every_reference_leads_somewhere() -> None:
    found = list(references(DOCUMENT))
    assert found
    for pointer in found:
        assert at(pointer)


def test_every_message_of_both_unions_travels_on_the_channel_in_its_direction() -> None:
    def names(operation: str) -> set[str]:
        return {one["$ref"].rpartition("/")[2] for one in DOCUMENT["operations"][operation]["messages"]}

    assert names("receiveFromClient") == {*(kind.__name__ for kind in asyncapi.CLIENT_KINDS), *asyncapi.BINARY}
    assert names("sendToClient") == {kind.__name__ for kind in asyncapi.SERVER_KINDS}


def test_every_class_and_field_says_what_it_means() -> None:
    for schema in DOCUMENT["components"]["schemas"].values():
        assert schema["description"]
        assert all(field["description"] for field in schema["properties"].values())


@pytest.mark.parametrize("example", [*CLIENT, *SERVER, *WATCHER, *TOLD], ids=lambda example: type(example).__name__)
def test_each_example_is_valid_by_its_own_schema(example: msgspec.Struct) -> None:
    schema = {**DOCUMENT, "$ref": f"#/components/schemas/{type(example).__name__}"}
    sent = msgspec.json.decode(encode(example))  # type: ignore[arg-type]
    jsonschema.Draft202012Validator(schema).validate(sent)
    shown = DOCUMENT["components"]["messages"][type(example).__name__]["examples"][0]["payload"]
    assert shown == sent


def test_a_wrong_message_is_invalid_by_its_schema() -> None:
    schema = {**DOCUMENT, "$ref": "#/components/schemas/Start"}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate({"type": "start", "rate": 11025})


def test_the_header_s_layout_is_the_codec_s() -> None:
    frame = encode_framed(b"", number=7, first_sample=8000, channel=1)
    values = {
        name: int.from_bytes(frame[offset : offset + size]) for offset, size, name, _, _ in asyncapi.HEADER_FIELDS
    }
    assert values == {"version": 1, "channel": 1, "flags": 0, "frame number": 7, "first sample": 8000}
    assert sum(size for _, size, *_ in asyncapi.HEADER_FIELDS) == len(frame) == 16


def test_a_field_inherits_its_description_and_a_class_does_not() -> None:
    assert "media clock" in descriptions.fields(messages.Ack)["at_ms"]

    class Silent(messages.Ack, frozen=True, kw_only=True, tag="silent"):
        loudness: int

    with pytest.raises(ValueError, match="Silent does not say what loudness means"):
        descriptions.fields(Silent)
    with pytest.raises(ValueError, match="Silent has no docstring"):
        descriptions.meaning(Silent)
