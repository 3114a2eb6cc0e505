"""Whether there is a server to load, and whether it lets us in: asked once, before thousands of softphones do."""

from __future__ import annotations

import ssl
from urllib.parse import SplitResult, urlsplit

import aiohttp
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
    if parts.scheme not in ("ws", "wss") or not parts.hostname or not parts.path.strip("/") or not _has_port(parts):
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


async def check_recordings(http_url: str, session: aiohttp.ClientSession) -> None:
    """Whether the server's HTTP side is there, from which recordings are had. Raises NotAdmitted."""
    try:
        async with session.get(f"{http_url.rstrip('/')}/healthz", timeout=aiohttp.ClientTimeout(PATIENCE_S)):
            return
    except (aiohttp.ClientError, TimeoutError) as fault:
        raise NotAdmitted(
            f"nobody answers at {http_url}, where recordings are to be had ({str(fault) or 'no answer in time'}):"
            " give --data or --http-url, or --verify 0 for none"
        ) from fault


def _has_port(parts: SplitResult) -> bool:
    """Whether the port, if one is named, can be one."""
    try:
        return parts.port != 0
    except ValueError:
        return False


def _message(body: bytes | bytearray) -> str:
    try:
        return msgspec.json.decode(body, type=dict[str, str]).get("message", "")
    except msgspec.DecodeError:
        return ""
