"""The signature of pushed results, made and checked."""

import hashlib
import hmac

from hypothesis import given
from hypothesis import strategies as st

from protocol.quality_callback import DELIVERY_HEADER, SIGNATURE_HEADER, signed_headers, verified_delivery

NOW_S = 1_700_000_000
BODY = '{"error_code":0,"result":{"asr_text":"你好"}}'.encode()
HEADERS = signed_headers(["secret"], "delivery-1", NOW_S, BODY)


def test_it_is_what_the_document_says() -> None:
    expected = hmac.new(b"secret", f"{NOW_S}.delivery-1.".encode() + BODY, hashlib.sha256).hexdigest()
    assert {"X-Earshot-Delivery": "delivery-1", "X-Earshot-Signature": f"t={NOW_S},v1={expected}"} == HEADERS


def test_one_secret_of_several_is_enough() -> None:
    headers = signed_headers(["old", "new"], "d", NOW_S, BODY)
    assert verified_delivery("old", headers, BODY, now_s=NOW_S) == "d"
    assert verified_delivery("new", headers, BODY, now_s=NOW_S) == "d"
    assert verified_delivery("", headers, BODY, now_s=NOW_S) is None


def test_it_holds_for_five_minutes_either_way() -> None:
    for seconds, good in ((299, True), (-299, True), (301, False), (-301, False)):
        assert (verified_delivery("secret", HEADERS, BODY, now_s=NOW_S + seconds) is not None) is good


@given(st.sampled_from([SIGNATURE_HEADER, DELIVERY_HEADER, "body"]), st.integers(0, 200), st.integers(1, 255))
def test_wrong_at_any_byte_it_is_refused(where: str, at: int, change: int) -> None:
    headers, body = dict(HEADERS), BODY
    text = body if where == "body" else headers[where].encode()
    at %= len(text)
    changed = text[:at] + bytes([text[at] ^ change]) + text[at + 1 :]
    if where == "body":
        body = changed
    else:
        headers[where] = changed.decode("latin-1")
    found = verified_delivery("secret", headers, body, now_s=NOW_S)
    assert found is None


@given(st.text(max_size=200))
def test_no_text_is_a_fault_of_ours(text: str) -> None:
    assert verified_delivery("secret", {SIGNATURE_HEADER: text, DELIVERY_HEADER: "d"}, b"", now_s=0) is None
    assert verified_delivery("secret", {}, b"", now_s=0) is None
