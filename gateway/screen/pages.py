"""The routes of `/screen/`: one page for every view, and the files it is made of."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from gateway.screen.assets import Asset, Assets, asset

PAGE: Final = "index.html"
_VERSION_MARK: Final = b"{{version}}"
_VIEW = re.compile(r"(?:|phone|rules|voices|calls/[^/]+)/?")
_HOST = re.compile(r"(?P<name>[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?P<port>:[0-9]{1,5})?")
FOR_GOOD: Final = "public, max-age=31536000, immutable"
ASK_AGAIN: Final = "no-cache"
"""Keep it, and ask each time whether it is still the same."""
_COMMON: Final = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


class ScreenPages:
    """Serves what needs no credentials: the page holds nothing until somebody has signed in."""

    def __init__(self, assets: Assets, socket_url: Callable[[], str]) -> None:
        """`socket_url`: where browsers find this server's own native socket."""
        self._assets = assets
        self._socket_url = socket_url
        page = assets.by_path[PAGE].body.replace(_VERSION_MARK, assets.version.encode())
        self._page = asset(page, "html")

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self._home),
            web.get("/screen", self._home),
            web.get("/screen/{path:.*}", self._any),
            # Where others import the softphone from, whatever becomes of the screen's own addresses.
            web.get(r"/{path:earshot\.js|earshot/.+}", self._any),
        ]

    async def _home(self, _: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("/screen/", headers=_COMMON)

    async def _any(self, request: web.Request) -> web.Response:
        path = request.match_info["path"]
        held = path.removeprefix(f"v-{self._assets.version}/")
        one = self._assets.by_path.get(held) if held != PAGE else None
        if one is not None:
            # Others may embed the softphone, so any page may read these files; they are the same for everybody.
            caching = {"Cache-Control": ASK_AGAIN if held == path else FOR_GOOD}
            shared = {"Access-Control-Allow-Origin": "*", "Cross-Origin-Resource-Policy": "cross-origin"}
            return _sent(request, one, {**_COMMON, **shared, **caching})
        if path.endswith((".js", ".css")):  # of another version: a page would not run, and should say so
            raise web.HTTPNotFound(text="no such file in this version\n", headers=_COMMON)
        known = _VIEW.fullmatch(path) is not None
        return _sent(request, self._page, self._page_headers(request), status=200 if known else 404)

    def _page_headers(self, request: web.Request) -> dict[str, str]:
        return {
            **_COMMON,
            "Cache-Control": ASK_AGAIN,
            "Content-Security-Policy": policy(socket_origins(self._socket_url(), request.host)),
            "Cross-Origin-Opener-Policy": "same-origin",
            "Permissions-Policy": "microphone=(self), camera=(), geolocation=(), payment=()",
            "X-Frame-Options": "DENY",
        }


def policy(origins: list[str]) -> str:
    """The page's Content-Security-Policy. It may connect to its own server and to the sockets at `origins`."""
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self'",
            "media-src 'self' blob:",
            "connect-src 'self' " + " ".join(origins),
            "worker-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def socket_origins(socket_url: str, host: str) -> list[str]:
    """Where the socket may be for a page that was asked for at `host` (what a request says, name and port): at its own
    address, or at its port on the host that the browser knows."""
    url = urlsplit(socket_url)
    origins = [f"{url.scheme}://{url.netloc}"]
    asked = _HOST.fullmatch(host)
    if asked is not None:  # anything else was no browser's, and could be more than one word of the policy
        port = f":{url.port}" if url.port else ""
        origins.append(f"{url.scheme}://{asked['name']}{port}")
    return list(dict.fromkeys(origins))


def _sent(request: web.Request, one: Asset, headers: Mapping[str, str], *, status: int = 200) -> web.Response:
    """The file, or that it is still the same, or the file by gzip."""
    tag = f'W/"{one.digest}"'  # weak: the same content in either encoding
    every = {**headers, "ETag": tag, "Vary": "Accept-Encoding"}
    if status == 200 and any(known.value == one.digest or known.value == "*" for known in request.if_none_match or ()):
        return web.Response(status=304, headers=every)
    every["Content-Type"] = one.content_type
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        return web.Response(status=status, body=one.zipped, headers={**every, "Content-Encoding": "gzip"})
    return web.Response(status=status, body=one.body, headers=every)
