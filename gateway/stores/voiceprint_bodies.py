"""What is secret about an enrolled voice, as bytes; and how SQLite keeps such bytes so that deleting leaves nothing.

SQLite's `secure_delete` overwrites what is deleted where it stands. But rows that share a page move when the page is
split or merged, and where they stood before is overwritten by nobody: the next deletion does not know of it. What does
not fit into a row's page lies in pages of its own, which never move and are zeroed when they are freed. So all that is
secret is kept there, behind as many zeros as a page can take of a row.
"""

from __future__ import annotations

import sqlite3

import msgspec
import numpy as np

from gateway.ports import Prints, VoiceprintRow

_MARGIN_BYTES = 35
"""Of a table's row, a page of n bytes takes at most n - 35 (SQLite's file format, section 1.6)."""


class _Prints(msgspec.Struct, frozen=True, array_like=True):
    space: str
    clips: int
    vectors: bytes
    """float32, little-endian, one clip after another."""


class _Body(msgspec.Struct, frozen=True, array_like=True):
    name: str
    prints: tuple[_Prints, ...]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Body)


def packed(row: VoiceprintRow) -> bytes:
    """The name and the prints of a voice."""
    prints = tuple(_Prints(one.space, len(one.vectors), one.vectors.astype("<f4").tobytes()) for one in row.prints)
    return _encoder.encode(_Body(row.name, prints))


def unpacked(body: bytes | memoryview) -> tuple[str, tuple[Prints, ...]]:
    """What `packed` was given."""
    found = _decoder.decode(body)
    return found.name, tuple(
        Prints(one.space, np.frombuffer(one.vectors, "<f4").astype(np.float32).reshape(one.clips, -1))
        for one in found.prints
    )


def zeros_ahead(connection: sqlite3.Connection) -> int:
    """How many zeros keep what follows them, in a row's last column, out of the pages that rows share."""
    page_bytes: int = connection.execute("PRAGMA page_size").fetchone()[0]
    return page_bytes - _MARGIN_BYTES


def apart(connection: sqlite3.Connection, secret: bytes) -> tuple[int, bytes]:
    """How many zeros stand ahead of the secret, and the secret behind them."""
    zeros = zeros_ahead(connection)
    return zeros, bytes(zeros) + secret


def secret_of(row: sqlite3.Row) -> memoryview:
    """What is behind the zeros of a row with the columns `zeros` and `body`."""
    return memoryview(row["body"])[row["zeros"] :]
