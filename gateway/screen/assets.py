"""The screen's own files, read once. There is no build step; browsers keep files for as long as they stay the same."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

_TYPES: Final = {
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "svg": "image/svg+xml",
}
_DIGEST_CHARS = 16


@dataclass(frozen=True, slots=True)
class Asset:
    """One file as it is sent."""

    body: bytes
    zipped: bytes
    """The same, by gzip."""
    content_type: str
    digest: str
    """Of its content, in hex."""


def asset(body: bytes, kind: str) -> Asset:
    """`body` as a file whose name ends in `kind`."""
    digest = hashlib.sha256(body).hexdigest()[:_DIGEST_CHARS]
    return Asset(body, gzip.compress(body, 9, mtime=0), _TYPES[kind], digest)


@dataclass(frozen=True, slots=True)
class Assets:
    """All files by their path in the folder, such as `views/board.js`."""

    by_path: Mapping[str, Asset]
    version: str
    """Of all of them together, in hex: a path that holds it names the same content for good."""


def installed_assets() -> Assets:
    """Those of this installation. Blocking."""
    found = dict(sorted(_found(files("gateway.screen").joinpath("static"), "")))
    whole = hashlib.sha256("\n".join(f"{path} {one.digest}" for path, one in found.items()).encode())
    return Assets(found, whole.hexdigest()[:_DIGEST_CHARS])


def _found(folder: Traversable, prefix: str) -> list[tuple[str, Asset]]:
    found: list[tuple[str, Asset]] = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _found(entry, f"{prefix}{entry.name}/")
        elif (kind := entry.name.rpartition(".")[2]) in _TYPES:
            found.append((prefix + entry.name, asset(entry.read_bytes(), kind)))
    return found
