"""What a data folder holds in secret: the server's key, and the app of a server that nobody configured."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path


def local_app(data: Path) -> tuple[str, str]:
    """The app of a server that nobody configured: made once, kept in the data folder, good on loopback only."""
    path = data / "local-app"
    if not path.exists():
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(f"local:{secrets.token_hex(16)}\n")
    app_id, _, secret = path.read_text().strip().partition(":")
    return app_id, secret


def server_key(data: Path) -> bytes:
    """32 random bytes that tokens and links are signed with; made once, kept in the data folder."""
    path = data / "server-key"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_bytes(secrets.token_bytes(32))
    return path.read_bytes()


def cluster_key(text: str) -> bytes:
    """The 32 bytes that the nodes of a cluster sign with, from the setting that they share."""
    return hashlib.blake2b(text.encode(), digest_size=32, person=b"earshot-cluster").digest()


def subkey(key: bytes, purpose: str) -> bytes:
    """A key for one purpose, so that what is signed for one proves nothing for another."""
    return hashlib.blake2b(purpose.encode(), key=key, digest_size=32).digest()
