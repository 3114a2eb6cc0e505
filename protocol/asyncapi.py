"""The native socket as an AsyncAPI 3.0 document, made from the message types: `python -m protocol.asyncapi`."""

from __future__ import annotations

import sys
from typing import Any, get_args

import msgspec
from msgspec import Struct

from protocol import descriptions, examples, watching
from protocol.codec import MAX_MESSAGE_BYTES, SUBPROTOCOL
from protocol.errors import CLOSE_CODES, CODES, REFUSALS
from protocol.messages import ClientMessage, ServerMessage
from protocol.watching import ABOUT_A_SOCKET, NOT_FOR_WATCHERS, Told, WatcherMessage

WATCHER_KINDS: tuple[type[Struct], ...] = get_args(WatcherMessage)
TOLD_KINDS: tuple[type[Struct], ...] = get_args(Told)
SCHEMAS = "#/components/schemas/"
CLIENT_KINDS: tuple[type[Struct], ...] = get_args(ClientMessage)
SERVER_KINDS: tuple[type[Struct], ...] = get_args(ServerMessage)
BINARY = ("RawAudio", "FramedAudio")

HEADER_FIELDS = (
    (0, 1, "version", "u8", "1"),
    (1, 1, "channel", "u8", "which channel this frame holds, from 0; 255: all, interleaved"),
    (2, 2, "flags", "u16", "0"),
    (4, 4, "frame number", "u32", "counts the frames sent; for people who read a trace"),
    (8, 8, "first sample", "u64", "index of the first instant in the frame, from the call's start"),
)
"""Offset and size in bytes, name, type (big-endian), meaning."""


def document() -> dict[str, Any]:
    """The whole document, as JSON types. Directions are the server's: it receives what a client sends."""
    client = [kind.__name__ for kind in CLIENT_KINDS] + list(BINARY)
    server = [kind.__name__ for kind in SERVER_KINDS]
    watcher = [kind.__name__ for kind in WATCHER_KINDS]
    of_calls = [kind.__name__ for kind in SERVER_KINDS if kind not in NOT_FOR_WATCHERS + ABOUT_A_SOCKET]
    told = [kind.__name__ for kind in TOLD_KINDS] + of_calls
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Earshot native socket",
            "version": "1.0.0",
            "description": (
                "A softphone streams one call's audio and gets utterances, speakers, text, early alerts and the verdict"
                " of voice QC. Control is JSON in text frames, audio is binary. docs/protocol.md explains it."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"local": _server()},
        "channels": {"calls": _channel([*client, *server]), "watch": _watch_channel([*watcher, *told])},
        "operations": {
            "receiveFromClient": _operation("receive", "What a client sends.", client),
            "sendToClient": _operation("send", "What the server sends.", server),
            "receiveFromWatcher": _operation("receive", "What a watcher sends.", watcher, "watch"),
            "sendToWatcher": _operation("send", "What a watcher is told.", told, "watch"),
        },
        "components": {
            "messages": _messages(),
            "schemas": schemas(),
            "securitySchemes": _security_schemes(),
        },
        "x-watch-error-codes": [msgspec.to_builtins(entry) for entry in watching.CODES.values()],
        "x-error-codes": [msgspec.to_builtins(entry) for entry in CODES.values()],
        "x-upgrade-refusals": [msgspec.to_builtins(refusal) for refusal in REFUSALS],
        "x-close-codes": {str(code): meaning for code, meaning in sorted(CLOSE_CODES.items())},
    }


def text() -> str:
    """The document as `docs/asyncapi.json` holds it."""
    return msgspec.json.format(msgspec.json.encode(document()), indent=2).decode() + "\n"


def schemas() -> dict[str, Any]:
    """The JSON Schema of every type that travels, each class and each field with what it means."""
    kinds: tuple[Any, ...] = (*CLIENT_KINDS, *SERVER_KINDS, *WATCHER_KINDS, *TOLD_KINDS)
    _, components = msgspec.json.schema_components(kinds, ref_template=SCHEMAS + "{name}")
    by_name = {kind.__name__: kind for kind in _with_parts(kinds)}
    for name, schema in components.items():
        kind = by_name[name]
        schema["description"] = descriptions.meaning(kind)
        for field, meaning in descriptions.fields(kind).items():
            described = schema["properties"][field]
            described["description"] = " ".join(filter(None, (meaning, described.get("description"))))
        if "type" in schema["properties"]:
            schema["properties"]["type"]["description"] = "Names the message."
    return components


def _with_parts(kinds: tuple[Any, ...]) -> set[Any]:
    """The kinds and every struct that their fields hold."""
    found = set(kinds)
    for kind in kinds:
        for field in msgspec.structs.fields(kind):
            for part in get_args(field.type):
                if isinstance(part, type) and issubclass(part, Struct):
                    found |= {part}
    return found


def _server() -> dict[str, Any]:
    return {
        "host": "127.0.0.1:8081",
        "protocol": "ws",
        "description": "The default listener of `earshot serve`; wss when it has a certificate.",
        "security": [
            {"$ref": "#/components/securitySchemes/signedHeaders"},
            {"$ref": "#/components/securitySchemes/basic"},
        ],
    }


def _channel(names: list[str]) -> dict[str, Any]:
    header = {"type": "string"}
    return {
        "address": "/v1/calls",
        "description": f"One socket carries one call at a time. Offer the subprotocol {SUBPROTOCOL}.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        "bindings": {
            "ws": {
                "method": "GET",
                "headers": {
                    "type": "object",
                    "properties": {
                        "Sec-WebSocket-Protocol": {"const": SUBPROTOCOL},
                        "X-App-Key": {**header, "description": "The app id."},
                        "X-Timestamp": {**header, "description": "Unix seconds, within 300 s of the server's clock."},
                        "X-App-Signature": {**header, "description": "The `signa`: see securitySchemes."},
                        "Authorization": {**header, "description": "HTTP Basic, instead of the three above."},
                    },
                },
                "bindingVersion": "0.1.0",
            }
        },
    }


def _watch_channel(names: list[str]) -> dict[str, Any]:
    return {
        "address": watching.PATH,
        "description": (
            f"One socket watches calls of one app. Offer the subprotocol {watching.SUBPROTOCOL}. A ticket as `?ticket=`"
            " is as good as credentials in headers."
        ),
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
    }


def _operation(action: str, summary: str, names: list[str], channel: str = "calls") -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in names],
    }


def _messages() -> dict[str, Any]:
    samples = {type(example): example for example in _EXAMPLES}
    described = {
        kind.__name__: {
            "name": kind.__struct_config__.tag,
            "title": kind.__name__,
            "summary": descriptions.meaning(kind),
            "contentType": "application/json",
            "payload": {"$ref": SCHEMAS + kind.__name__},
            "examples": [{"payload": msgspec.to_builtins(samples[kind])}],
        }
        for kind in (*CLIENT_KINDS, *SERVER_KINDS, *WATCHER_KINDS, *TOLD_KINDS)
    }
    return {**described, **_binary_messages()}


_EXAMPLES: tuple[Struct, ...] = (*examples.CLIENT, *examples.SERVER, *examples.WATCHER, *examples.TOLD)


def _binary_messages() -> dict[str, Any]:
    largest = f"A frame holds at most {MAX_MESSAGE_BYTES} bytes."
    payload = {"type": "string", "format": "binary"}
    return {
        "RawAudio": {
            "name": "raw audio",
            "title": "RawAudio",
            "summary": "The next samples of all channels, interleaved, in the encoding of `start`.",
            "description": f"Any cut will do, also inside a sample. {largest}",
            "contentType": "application/octet-stream",
            "payload": payload,
        },
        "FramedAudio": {
            "name": "framed audio",
            "title": "FramedAudio",
            "summary": "A header of 16 bytes, then whole samples of one channel or of all.",
            "description": f"The index in the header makes loss and overlap arithmetic. {largest}",
            "contentType": "application/octet-stream",
            "payload": payload,
            "x-header": [
                {"offset": offset, "bytes": size, "name": name, "type": kind, "meaning": meaning}
                for offset, size, name, kind, meaning in HEADER_FIELDS
            ],
        },
    }


def _security_schemes() -> dict[str, Any]:
    return {
        "signedHeaders": {
            "type": "httpApiKey",
            "name": "X-App-Signature",
            "in": "header",
            "description": (
                "base64(HMAC-SHA1(secret, hex(MD5(app_id + timestamp)))), beside X-App-Key (the app id) and X-Timestamp"
                " (Unix seconds). The query parameters appid, ts and signa mean the same."
            ),
        },
        "basic": {"type": "http", "scheme": "basic", "description": "The app id and its secret."},
    }


if __name__ == "__main__":
    sys.stdout.write(text())
