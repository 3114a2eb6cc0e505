"""Who may come in: signatures, secrets, Basic, and that nothing else does."""

import base64
import hashlib
import hmac
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gateway.credentials
from gateway.credentials import AccessDenied, Credentials
from protocol.voiceprint import sign

NOW_S = 1_700_000_000.0
SKEW_S = 300.0
SECRETS = {"shop": ("old-secret", "new-secret"), "银行": ("密码",), "revoked": ()}


class Apps:
    def secrets(self, app_id: str) -> tuple[str, ...]:
        return SECRETS.get(app_id, ())


CREDENTIALS = Credentials(Apps(), skew_s=SKEW_S, now=lambda: NOW_S)


def signed(app_id: str = "shop", secret: str = "new-secret", ts: float = NOW_S) -> tuple[str, str, str]:
    return app_id, str(int(ts)), sign(app_id, str(int(ts)), secret)


def headers(app_id: str, ts: str, signa: str) -> dict[str, str]:
    return {"X-App-Key": app_id, "X-Timestamp": ts, "X-App-Signature": signa}


def basic(text: str, scheme: str = "Basic") -> dict[str, str]:
    return {"Authorization": f"{scheme} {base64.b64encode(text.encode()).decode()}"}


def test_a_signature_is_the_one_of_the_api_document() -> None:
    digest = hashlib.md5(b"595f23df" + b"1512041814").hexdigest()
    expected = base64.b64encode(hmac.new(b"secret", digest.encode(), "sha1").digest()).decode()
    assert sign("595f23df", "1512041814", "secret") == expected


@pytest.mark.parametrize("secret", SECRETS["shop"])
def test_every_live_secret_opens(secret: str) -> None:
    assert CREDENTIALS.check_signature(*signed(secret=secret)) == "shop"
    assert CREDENTIALS.check_secret("shop", secret) == "shop"
    assert CREDENTIALS.from_headers(basic(f"shop:{secret}"), {}) == "shop"


def test_names_and_secrets_need_not_be_ascii() -> None:
    assert CREDENTIALS.from_headers(headers(*signed("银行", "密码")), {}) == "银行"
    assert CREDENTIALS.from_headers(basic("银行:密码"), {}) == "银行"


@pytest.mark.parametrize("off_s", [0, -SKEW_S, SKEW_S])
def test_a_timestamp_within_the_skew_is_taken(off_s: float) -> None:
    assert CREDENTIALS.check_signature(*signed(ts=NOW_S + off_s)) == "shop"


@pytest.mark.parametrize("off_s", [-SKEW_S - 1, SKEW_S + 1, 1e9])
def test_a_timestamp_outside_the_skew_is_not(off_s: float) -> None:
    with pytest.raises(AccessDenied, match="skew"):
        CREDENTIALS.check_signature(*signed(ts=NOW_S + off_s))


def test_the_same_headers_may_come_again() -> None:
    once = headers(*signed())
    assert [CREDENTIALS.from_headers(once, {}) for _ in range(3)] == ["shop"] * 3


@pytest.mark.parametrize(
    "ts", ["1700000000000000", "17e8", "-5", " 1700000000", "1700000000.0", "１７０００００００００", "²"]
)
def test_a_timestamp_that_is_no_unix_time_is_refused(ts: str) -> None:
    with pytest.raises(AccessDenied, match="Unix seconds"):
        CREDENTIALS.check_signature("shop", ts, sign("shop", ts, "new-secret"))


def test_a_signature_wrong_at_any_byte_is_refused() -> None:
    app_id, ts, signa = signed()
    for at, char in enumerate(signa):
        wrong = signa[:at] + ("A" if char != "A" else "B") + signa[at + 1 :]
        with pytest.raises(AccessDenied):
            CREDENTIALS.check_signature(app_id, ts, wrong)
    for wrong in (signa[:-1], signa + "=", signa.lower(), "x"):
        with pytest.raises(AccessDenied):
            CREDENTIALS.check_signature(app_id, ts, wrong)


def test_a_signature_is_good_for_its_app_and_time_alone() -> None:
    app_id, ts, signa = signed()
    with pytest.raises(AccessDenied):
        CREDENTIALS.check_signature("银行", ts, signa)
    with pytest.raises(AccessDenied):
        CREDENTIALS.check_signature(app_id, str(int(ts) + 1), signa)


@pytest.mark.parametrize("missing", ["X-App-Key", "X-Timestamp", "X-App-Signature"])
def test_nothing_may_be_missing(missing: str) -> None:
    given_headers = headers(*signed())
    with pytest.raises(AccessDenied, match="no credentials"):
        CREDENTIALS.from_headers({**given_headers, missing: ""}, {})
    with pytest.raises(AccessDenied, match="no credentials"):
        CREDENTIALS.from_headers({}, {})


def test_the_query_serves_as_well_as_headers() -> None:
    app_id, ts, signa = signed()
    assert CREDENTIALS.from_headers({}, {"appid": app_id, "ts": ts, "signa": signa}) == "shop"


def test_a_plus_that_was_not_escaped_in_the_query_is_still_one() -> None:
    ts, signa = next(
        (ts, signa)
        for ts, signa in ((str(int(NOW_S) + n), sign("shop", str(int(NOW_S) + n), "new-secret")) for n in range(300))
        if "+" in signa
    )
    assert CREDENTIALS.from_headers({}, {"appid": "shop", "ts": ts, "signa": signa.replace("+", " ")}) == "shop"
    with pytest.raises(AccessDenied):
        CREDENTIALS.from_headers(headers("shop", ts, signa.replace("+", " ")), {})


@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC"])
def test_basic_is_known_whatever_its_case(scheme: str) -> None:
    assert CREDENTIALS.from_headers(basic("shop:old-secret", scheme), {}) == "shop"


def test_basic_that_is_wrong_is_not_saved_by_a_good_signature() -> None:
    with pytest.raises(AccessDenied):
        CREDENTIALS.from_headers({**headers(*signed()), **basic("shop:wrong")}, {})


def test_another_scheme_is_no_credential() -> None:
    with pytest.raises(AccessDenied, match="no credentials"):
        CREDENTIALS.from_headers({"Authorization": "Bearer shop"}, {})


@pytest.mark.parametrize("encoded", ["", "%%%", "é", "c2hvcA", base64.b64encode(b"\xff:x").decode(), "c2hv cDp4"])
def test_basic_that_cannot_be_read_is_refused(encoded: str) -> None:
    with pytest.raises(AccessDenied):
        CREDENTIALS.check_basic(encoded)


@pytest.mark.parametrize("secret", ["wrong", "", "old-secre", "old-secret ", "Old-secret", "\0", "old-secret\0"])
def test_a_wrong_secret_is_refused(secret: str) -> None:
    with pytest.raises(AccessDenied, match="unknown app or wrong secret"):
        CREDENTIALS.check_secret("shop", secret)


@pytest.mark.parametrize("app_id", ["nobody", "revoked", ""])
@pytest.mark.parametrize("secret", ["", "\0", "x", gateway.credentials._DECOY_SECRET])
def test_no_secret_opens_an_app_that_has_none(app_id: str, secret: str) -> None:
    with pytest.raises(AccessDenied, match="unknown app or wrong secret"):
        CREDENTIALS.check_secret(app_id, secret)
    for signa in (secret, sign(app_id, str(int(NOW_S)), secret)):
        with pytest.raises(AccessDenied):
            CREDENTIALS.check_signature(app_id, str(int(NOW_S)), signa)


def test_bytes_that_are_no_utf_8_are_refused_like_any_wrong_credential() -> None:
    app_id, ts, signa = signed()
    for wrong in (headers("\udcff", ts, signa), headers(app_id, ts, "\udcff"), headers(app_id, "\udcff", signa)):
        with pytest.raises(AccessDenied):
            CREDENTIALS.from_headers(wrong, {})


@given(st.text(), st.text(), st.text())
def test_arbitrary_credentials_are_refused(app_id: str, ts: str, signa: str) -> None:
    with pytest.raises(AccessDenied):
        CREDENTIALS.from_headers(headers(app_id, ts, signa), {})
    with pytest.raises(AccessDenied):
        CREDENTIALS.from_headers({"Authorization": "Basic " + app_id}, {})


def test_an_unknown_app_costs_the_same_work_as_a_known_one(monkeypatch: pytest.MonkeyPatch) -> None:
    work: list[str] = []

    def counted(app_id: str, ts: str, secret: str) -> str:
        work.append("sign")
        return sign(app_id, ts, secret)

    monkeypatch.setattr(gateway.credentials, "sign", counted)

    class Compare:
        @staticmethod
        def compare_digest(one: Any, other: Any) -> bool:
            work.append("compare")
            return hmac.compare_digest(one, other)

    monkeypatch.setattr(gateway.credentials, "hmac", Compare)
    costs = []
    for app_id in ("银行", "nobody", "revoked"):
        work.clear()
        with pytest.raises(AccessDenied):
            CREDENTIALS.check_signature(app_id, str(int(NOW_S)), "x" * 28)
        with pytest.raises(AccessDenied):
            CREDENTIALS.check_secret(app_id, "x" * 28)
        costs.append(list(work))
    assert costs == [["sign", "compare", "compare"]] * 3


def test_every_secret_is_compared_also_after_one_matched(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []

    class Compare:
        @staticmethod
        def compare_digest(one: bytes, other: bytes) -> bool:
            compared.append(one)
            return hmac.compare_digest(one, other)

    monkeypatch.setattr(gateway.credentials, "hmac", Compare)
    CREDENTIALS.check_secret("shop", "old-secret")
    assert compared == [b"old-secret", b"new-secret"]
