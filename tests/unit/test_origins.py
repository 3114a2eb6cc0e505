"""Which pages may open sockets: exactly those whose whole origin is named or ours."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.origins import Origins, OwnOrigins, origin_of_url, parse_origins

HERE = OwnOrigins("http", "127.0.0.1", 8080, public=origin_of_url("https://earshot.example.com/base/"))
ALLOWED = parse_origins("https://ok.com, http://10.1.2.3:8080")
ORIGINS = Origins(ALLOWED, HERE)
WELCOME = [
    None,
    "https://ok.com",
    "http://10.1.2.3:8080",
    "http://127.0.0.1:8080",
    "http://localhost:8080",
    "http://[::1]:8080",
    "https://earshot.example.com",
    "http://127.0.0.1:8081",
]
FOREIGN = [
    "",
    "null",
    "https://ok.com.evil",
    "https://evil-ok.com",
    "http://ok.com",
    "https://ok.com:8443",
    "https://ok.com/",
    "https://OK.com",
    "https://ok.com https://evil.example",
    "https://evil@ok.com",
    "http://127.0.0.1",
    "https://127.0.0.1:8080",
    "http://127.0.0.1:80800",
    "http://earshot.example.com",
    "https://earshot.example.com.evil",
    "file://",
]


@pytest.mark.parametrize("origin", WELCOME)
def test_our_own_and_named_pages_are_welcome(origin: str | None) -> None:
    assert ORIGINS.admit(origin, "127.0.0.1:8081")


@pytest.mark.parametrize("origin", FOREIGN)
def test_everybody_else_is_foreign(origin: str) -> None:
    assert not ORIGINS.admit(origin, "127.0.0.1:8081")


@given(st.sampled_from(sorted(filter(None, WELCOME))), st.text(min_size=1, max_size=5))
def test_what_only_begins_or_ends_like_a_welcome_origin_is_foreign(origin: str, more: str) -> None:
    for changed in (origin + more, more + origin):
        assert not ORIGINS.admit(changed, "127.0.0.1:8081") or changed in WELCOME


def test_a_listener_on_every_address_goes_by_the_one_that_was_used() -> None:
    origins = Origins((), OwnOrigins("http", "0.0.0.0", 8080))
    assert origins.admit("http://earshot.lan:8080", "earshot.lan:8081")
    assert origins.admit("http://[fe80::1]:8080", "[fe80::1]:8081")
    assert not origins.admit("http://other.lan:8080", "earshot.lan:8081")
    assert not origins.admit("http://earshot.lan:9090", "earshot.lan:8081")
    assert not origins.admit("http://:8080", "")


def test_the_usual_port_is_left_out_as_browsers_do() -> None:
    origins = Origins((), OwnOrigins("https", "earshot.lan", 443))
    assert origins.admit("https://earshot.lan", "earshot.lan:8081")
    assert not origins.admit("https://earshot.lan:443", "earshot.lan:8081")


def test_without_anything_named_only_the_socket_s_own_address_is_welcome() -> None:
    assert Origins().admit("http://a:1", "a:1")
    assert not Origins().admit("http://a:2", "a:1")
    assert not Origins().admit("http://", "")


@pytest.mark.parametrize(
    "text",
    [
        "ok.com",
        "https://ok.com/",
        "https://OK.com",
        "https://ok.com:443",
        "*",
        "null",
        "wss://ok.com",
        "https://*.ok.com/x",
    ],
)
def test_an_origin_that_no_browser_would_name_so_is_refused_in_the_settings(text: str) -> None:
    with pytest.raises(ValueError, match="exact origin"):
        parse_origins(f"https://good.example,{text}")
