"""Whether there is a server to load, and whether it lets us in: asked once, before thousands of softphones do."""

from __future__ import annotations

import ssl
from urllib.parse import urlsplit

import msgspec
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from loadtest.softphones.socket import Target
from protocol.codec import SUBPROTOCOL
from protocol.voiceprint import signed_headers

PATIENCE_S = 10.0


class NotAdmitted(Exception):
    """No load test can begin; the text says whose fault it is."""


async def check_admission(target: Target, tls: ssl.SSLContext | None, now_s: float) -> None:
    """Shake hands and leave, without a call. Raises NotAdmitted."""
    parts = urlsplit(target.url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname or not parts.path.strip("/"):
        raise NotAdmitted(f"{target.url} is no address of a server; expected ws(s)://host:port/v1/calls")
    try:
        async with connect(
            target.url,
            additional_headers=signed_headers(target.app_id, target.secret, now_s),
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,
            proxy=None,
            ssl=tls,
            open_timeout=PATIENCE_S,
        ):
            return
    except InvalidStatus as refusal:
        status = refusal.response.status_code
        told = _message(refusal.response.body or b"")
        whose = {
            401: f"the server refused the credentials of app {target.app_id!r}: look at --app",
            404: f"the server has no {parts.path}: look at --url",
        }.get(status, f"the server at {target.url} answered HTTP {status}")
        raise NotAdmitted(f"{whose}{f' ({told})' if told else ''}") from refusal
    except InvalidHandshake as fault:
        raise NotAdmitted(f"what answers at {target.url} is no Earshot: {fault}") from fault
    except ssl.SSLError as fault:
        raise NotAdmitted(f"TLS with {target.url} failed: {fault}; for a certificate of your own: --ca FILE") from fault
    except (OSError, TimeoutError) as fault:
        reason = getattr(fault, "strerror", None) or str(fault) or "no answer in time"
        raise NotAdmitted(f"no server at {target.url}: {reason}. Is `earshot serve` running there?") from fault


def _message(body: bytes | bytearray) -> str:
    try:
        return msgspec.json.decode(body, type=dict[str, str]).get("message", "")
    except msgspec.DecodeError:
        return ""
