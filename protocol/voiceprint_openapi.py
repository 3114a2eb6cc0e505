"""The voiceprint API as an OpenAPI 3.1 document, made from the table of its operations."""

from __future__ import annotations

from typing import Any

import msgspec

from protocol.voiceprint import MAX_NAME_CHARS, Code
from protocol.voiceprint_operations import ALWAYS, OPERATIONS, Field, Operation

PATH = "/voiceid/openapi.json"
"""Where a server has the document."""
AUDIO = "/voiceid/audio/{print_id}.flac"
_SCHEMAS = "#/components/schemas/"
_NO_CONTROLS = r"^[^\u0000-\u001f\u007f]*$"
_KEYS = ("X-App-Key", "X-Timestamp", "X-App-Signature"), ("appid", "ts", "signa")
_MEANINGS = ("App id.", "Unix seconds.", "base64(hmac_sha1(secret, hex(md5(app id + timestamp)))).")


def document() -> dict[str, Any]:
    """The whole document, as JSON types."""
    telling = [one for one in OPERATIONS if one.data is not None]
    schemas, components = msgspec.json.schema_components(
        [one.data for one in telling], ref_template=_SCHEMAS + "{name}"
    )
    data = dict(zip((one.path for one in telling), schemas, strict=True))
    paths = {one.path.value: {one.method.lower(): _operation(one, data.get(one.path))} for one in OPERATIONS}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Earshot voiceprint service",
            "version": "1.0.0",
            "description": (
                "Enrol voices, say whose voice is in a clip, manage what is enrolled. Every operation answers HTTP 200"
                ' with `code` ("0": done), `msg` and, where there is something to say, `data`. A POST that is answered'
                " 10000 goes on; the same request sent again answers with its result. docs/voiceprint.md explains it."
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "http://127.0.0.1:8080", "description": "`earshot serve`"}],
        "security": [{name: [] for name in names} for names in _KEYS] + [{"basic": []}],
        "paths": {**paths, AUDIO: {"get": _playback()}, PATH: {"get": _itself()}},
        "components": {
            "schemas": {**components, "Refusal": _refusal_data()},
            "securitySchemes": _security_schemes(),
        },
        "x-codes": {code.value: {"msg": code.message, "cause": code.cause} for code in Code},
    }


def text() -> str:
    """The document as `docs/openapi-voiceprint.json` holds it."""
    return msgspec.json.format(msgspec.json.encode(document()), indent=2).decode() + "\n"


def _operation(operation: Operation, data: dict[str, Any] | None) -> dict[str, Any]:
    described: dict[str, Any] = {"operationId": operation.name, "summary": operation.summary}
    if operation.method == "GET":
        described["parameters"] = [
            parameter for field in operation.fields if field.kind != "ignored" for parameter in _parameters(field)
        ]
    else:
        multipart, encoded = _form(operation, files=True), _form(operation, files=False)
        described["requestBody"] = {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": multipart},
                "application/x-www-form-urlencoded": {"schema": encoded},
            },
        }
    described["responses"] = {"200": _answers(operation, data)}
    return described


def _parameters(field: Field) -> list[dict[str, Any]]:
    schema = _schema(field, files=False)
    told = {"name": field.name, "in": "query", "required": field.required, "schema": schema}
    others = [
        {"name": name, "in": "query", "description": f"Another spelling of {field.name}.", "schema": schema}
        for name in field.also
    ]
    return [{**told, "description": field.meaning}, *others]


def _form(operation: Operation, *, files: bool) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for field in operation.fields:
        schema = _schema(field, files=files)
        properties[field.name] = {"description": field.meaning, **schema}
        properties |= {name: {"description": f"Another spelling of {field.name}.", **schema} for name in field.also}
    required = [field.name for field in operation.fields if field.required]
    return {"type": "object", "properties": properties, "required": required}


def _schema(field: Field, *, files: bool) -> dict[str, Any]:
    shape = _shape(field, files=files)
    return shape if field.default is None else {**shape, "default": field.default}


def _shape(field: Field, *, files: bool) -> dict[str, Any]:
    match field.kind:
        case "audio":
            link = {"type": "string", "format": "uri", "pattern": "^https?://"}
            one = {"type": "string", "format": "binary"} if files else link
            return one if field.most == 1 else {"type": "array", "items": one, "minItems": 1, "maxItems": field.most}
        case "flag":
            return {"type": "string", "enum": ["0", "1", "false", "true"]}
        case "choice":
            return {"type": "string", "enum": list(field.choices)}
        case "integer":
            return {"type": "integer", "minimum": field.least, "maximum": field.most}
        case "names":
            return {"type": "array", "items": _name_schema()}
        case "name":
            return _name_schema()
        case "ignored":
            return {"type": "string"}


def _name_schema() -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "maxLength": MAX_NAME_CHARS, "pattern": _NO_CONTROLS}


def _answers(operation: Operation, data: dict[str, Any] | None) -> dict[str, Any]:
    refusals = [code for code in (*ALWAYS, *operation.codes) if code is not Code.SUCCESS]
    success = {"code": {"const": Code.SUCCESS.value}, "msg": {"const": Code.SUCCESS.message}}
    refused = {
        "code": {"enum": sorted(code.value for code in refusals)},
        "msg": {"type": "string", "description": "The code's own words, then the cause."},
        "data": {"$ref": _SCHEMAS + "Refusal"},
    }
    whole = {**success, "data": data} if data else success
    choices = [
        {"type": "object", "properties": whole, "required": list(whole), "additionalProperties": False},
        {"type": "object", "properties": refused, "required": ["code", "msg"], "additionalProperties": False},
    ]
    codes = "; ".join(f"{code.value}: {code.cause}" for code in sorted(refusals))
    return {"description": codes, "content": {"application/json": {"schema": {"oneOf": choices}}}}


def _refusal_data() -> dict[str, Any]:
    number = {"type": "number"}
    return {
        "type": "object",
        "description": "Why audio is refused, for programs.",
        "properties": {
            "reason": {"enum": ["too_short", "silence", "too_quiet", "clipped", "no_speech"]},
            "measured": {
                "type": "object",
                "description": "Of the recording: ms, dBFS, and the share of samples that are cut off (0 to 1).",
                "properties": {
                    "duration_ms": {"type": "integer"},
                    "level_dbfs": number,
                    "peak_dbfs": number,
                    "clipped_share": number,
                    "speech_ms": {"type": "integer"},
                },
            },
            "audio": {"type": "integer", "minimum": 1, "description": "Which recording, where several were sent."},
        },
    }


def _playback() -> dict[str, Any]:
    def query(name: str, meaning: str, schema: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
        return {"name": name, "in": "query", "required": required, "description": meaning, "schema": schema}

    refused = {"application/json": {"schema": {"type": "object", "required": ["code", "msg"]}}}
    return {
        "operationId": "playAudio",
        "summary": "Play what a voice was enrolled from; the signed link is the permission",
        "security": [],
        "parameters": [
            {
                "name": "print_id",
                "in": "path",
                "required": True,
                "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
            },
            query("expires", "Unix seconds.", {"type": "string"}),
            query("sig", "Our signature.", {"type": "string"}),
            query("clip", "Which recording, from 0.", {"type": "string", "pattern": "^[0-9]{1,2}$"}, required=False),
            {"name": "Range", "in": "header", "schema": {"type": "string"}, "description": "One range of bytes."},
        ],
        "responses": {
            "200": {"description": "The whole recording.", "content": {"audio/flac": {}}},
            "206": {"description": "The range asked for.", "content": {"audio/flac": {}}},
            "403": {"description": "The link is not ours, or has expired.", "content": refused},
            "404": {"description": "The audio was deleted or replaced.", "content": refused},
            "416": {"description": "The range lies behind the end."},
            "503": {"description": "The database could not be reached.", "content": refused},
        },
    }


def _itself() -> dict[str, Any]:
    answer = {"description": "OpenAPI 3.1.", "content": {"application/json": {"schema": {"type": "object"}}}}
    return {
        "operationId": "openapi",
        "summary": "This document",
        "security": [],
        "responses": {"200": answer},
    }


def _security_schemes() -> dict[str, Any]:
    schemes: dict[str, Any] = {"basic": {"type": "http", "scheme": "basic", "description": "App id and secret."}}
    for names, where in zip(_KEYS, ("header", "query"), strict=True):
        for name, meaning in zip(names, _MEANINGS, strict=True):
            schemes[name] = {"type": "apiKey", "in": where, "name": name, "description": meaning}
    return schemes
