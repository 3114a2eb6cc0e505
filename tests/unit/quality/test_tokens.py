"""Access tokens: what proves an app, and what no longer does."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.credentials import AccessDenied, Credentials
from gateway.quality.tokens import AccessTokens
from protocol.quality import ErrorCode, QualityFault
from tests.quality_world import APP, SECRET, FixedApps, FixedClock


def _tokens(clock: FixedClock, apps: FixedApps, key: bytes = b"k" * 32) -> AccessTokens:
    return AccessTokens(key, Credentials(apps, skew_s=300, now=clock.wall), apps, clock.wall)


def _code(tokens: AccessTokens, token: str) -> ErrorCode:
    with pytest.raises(QualityFault) as raised:
        tokens.verify(token)
    return raised.value.code


def test_a_token_proves_its_app_for_thirty_days() -> None:
    clock = FixedClock()
    tokens = _tokens(clock, FixedApps())
    token = tokens.mint(APP, SECRET)
    clock.seconds += 2_591_999
    assert tokens.verify(token) == APP
    clock.seconds += 1
    assert _code(tokens, token) == ErrorCode.TOKEN_EXPIRED


def test_a_wrong_secret_and_an_unknown_app_get_no_token() -> None:
    tokens = _tokens(FixedClock(), FixedApps())
    for client_id, secret in ((APP, "wrong"), ("nobody", SECRET), ("", ""), ("nobody", "\0")):
        with pytest.raises(AccessDenied):
            tokens.mint(client_id, secret)


def test_the_token_of_an_app_that_is_gone_proves_nothing() -> None:
    apps = FixedApps()
    tokens = _tokens(FixedClock(), apps)
    token = tokens.mint(APP, SECRET)
    del apps.known[APP]
    assert _code(tokens, token) == ErrorCode.TOKEN_INVALID


def test_a_token_of_another_key_or_with_changed_claims_is_invalid() -> None:
    clock, apps = FixedClock(), FixedApps()
    tokens = _tokens(clock, apps)
    token = tokens.mint(APP, SECRET)
    assert _code(tokens, _tokens(clock, apps, b"x" * 32).mint(APP, SECRET)) == ErrorCode.TOKEN_INVALID
    _, claims, signature = token.split(".")
    forged = base64.urlsafe_b64encode(b'{"app_id":"app-2","expires_s":9999999999}').decode().rstrip("=")
    assert _code(tokens, f"24.{forged}.{signature}") == ErrorCode.TOKEN_INVALID
    assert _code(tokens, f"25.{claims}.{signature}") == ErrorCode.TOKEN_INVALID


@given(st.text("24.aé=_-\0") | st.text("aZ0_-.").map("24.{}".format))
def test_any_other_text_is_an_invalid_token(text: str) -> None:
    assert _code(_tokens(FixedClock(), FixedApps()), text) == ErrorCode.TOKEN_INVALID


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 32"):
        _tokens(FixedClock(), FixedApps(), b"short")
