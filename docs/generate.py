"""Writes what the documents take from the code: `python -m docs.generate`.

`docs/asyncapi.json` and `docs/openapi-voiceprint.json` are written whole; in `docs/protocol.md` and
`docs/voiceprint.md` the blocks between `<!-- generated: NAME -->` and `<!-- end -->` are filled in. A test fails when
one is stale.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from gateway.call import diagram
from protocol import asyncapi, reference, voiceprint_openapi, voiceprint_reference

HERE = Path(__file__).parent
BLOCKS = {
    "client messages": reference.client_messages,
    "server messages": reference.server_messages,
    "parts": reference.parts,
    "watcher messages": reference.watcher_messages,
    "told messages": reference.told_messages,
    "watch parts": reference.watch_parts,
    "watch errors": reference.watch_errors,
    "framed header": reference.framed_header,
    "errors": reference.errors,
    "refusals": reference.refusals,
    "close codes": reference.close_codes,
    "states": lambda: f"```mermaid\n{diagram.mermaid()}\n```",
    "transitions": diagram.table,
}
VOICEPRINT_BLOCKS = {"operations": voiceprint_reference.operations, "codes": voiceprint_reference.codes}
_BLOCK = re.compile(r"(<!-- generated: ([a-z ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text: str, blocks: Mapping[str, Callable[[], str]] = BLOCKS) -> str:
    """The text with every generated block as it should be. Raises KeyError for a block of an unknown name."""
    return _BLOCK.sub(lambda block: f"{block[1]}\n{blocks[block[2]]()}\n\n{block[3]}", text)


def main() -> None:
    protocol = HERE / "protocol.md"
    protocol.write_text(filled(protocol.read_text("utf-8")), "utf-8")
    voiceprint = HERE / "voiceprint.md"
    voiceprint.write_text(filled(voiceprint.read_text("utf-8"), VOICEPRINT_BLOCKS), "utf-8")
    (HERE / "asyncapi.json").write_text(asyncapi.text(), "utf-8")
    (HERE / "openapi-voiceprint.json").write_text(voiceprint_openapi.text(), "utf-8")


if __name__ == "__main__":
    main()
