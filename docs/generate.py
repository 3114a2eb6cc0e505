"""Writes what the documents take from the code: `python -m docs.generate`.

`docs/asyncapi.json` and `docs/openapi-voiceprint.json` are written whole; in `docs/protocol.md` the blocks between
`<!-- generated: NAME -->` and `<!-- end -->` are filled in. A test fails when one is stale.
"""

from __future__ import annotations

import re
from pathlib import Path

from gateway.call import diagram
from protocol import asyncapi, reference, voiceprint_openapi

HERE = Path(__file__).parent
BLOCKS = {
    "client messages": reference.client_messages,
    "server messages": reference.server_messages,
    "parts": reference.parts,
    "framed header": reference.framed_header,
    "errors": reference.errors,
    "refusals": reference.refusals,
    "close codes": reference.close_codes,
    "states": lambda: f"```mermaid\n{diagram.mermaid()}\n```",
    "transitions": diagram.table,
}
_BLOCK = re.compile(r"(<!-- generated: ([a-z ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text: str) -> str:
    """The text with every generated block as it should be. Raises KeyError for a block of an unknown name."""
    return _BLOCK.sub(lambda block: f"{block[1]}\n{BLOCKS[block[2]]()}\n\n{block[3]}", text)


def main() -> None:
    protocol = HERE / "protocol.md"
    protocol.write_text(filled(protocol.read_text("utf-8")), "utf-8")
    (HERE / "asyncapi.json").write_text(asyncapi.text(), "utf-8")
    (HERE / "openapi-voiceprint.json").write_text(voiceprint_openapi.text(), "utf-8")


if __name__ == "__main__":
    main()
