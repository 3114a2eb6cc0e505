"""The signature under a result that voice QC pushes to a `callback_url`, for both sides (ours; the vendor has none).

The header `X-Earshot-Signature` reads `t=<Unix s>,v1=<hex>`, with one `v1` for each live secret of the app:
HMAC-SHA256, keyed with the secret, over `<t>.<delivery id>.<body>`. `X-Earshot-Delivery` is the delivery id; another
attempt at the same delivery has the same id and another time.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping

SIGNATURE_HEADER = "X-Earshot-Signature"
DELIVERY_HEADER = "X-Earshot-Delivery"
SKEW_S = 300


def signed_headers(secrets: Iterable[str], delivery_id: str, unix_s: int, body: bytes) -> dict[str, str]:
    """What goes with a delivery."""
    marks = (f"v1={_mark(secret, delivery_id, unix_s, body)}" for secret in secrets)
    return {DELIVERY_HEADER: delivery_id, SIGNATURE_HEADER: ",".join((f"t={unix_s}", *marks))}


def verified_delivery(
    secret: str, headers: Mapping[str, str], body: bytes, *, now_s: float, skew_s: float = SKEW_S
) -> str | None:
    """The delivery id of a push that was signed with `secret` within `skew_s` of `now_s`; None for any other.

    `headers` must look names up whatever their case. A push taken twice within the skew is a replay or a repeated
    attempt: both show by a delivery id seen before.
    """
    delivery_id = headers.get(DELIVERY_HEADER, "")
    time, *marks = headers.get(SIGNATURE_HEADER, "").split(",")
    text = time.removeprefix("t=")
    if not (time.startswith("t=") and text.isascii() and text.isdigit() and len(text) <= 12 and delivery_id):
        return None
    if abs(now_s - int(text)) > skew_s:
        return None
    expected = f"v1={_mark(secret, delivery_id, int(text), body)}".encode()
    good = [hmac.compare_digest(expected, mark.strip().encode()) for mark in marks]
    return delivery_id if any(good) else None


def _mark(secret: str, delivery_id: str, unix_s: int, body: bytes) -> str:
    return hmac.new(secret.encode(), f"{unix_s}.{delivery_id}.".encode() + body, hashlib.sha256).hexdigest()
