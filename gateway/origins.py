"""Which pages may open sockets here, by the Origin that their browser names (RFC 6454)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from yarl import URL

_WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - compared with, not listened on
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


class Origins:
    """Compares whole origins, letter by letter: a name that only begins or ends like ours is another's."""

    def __init__(self, allowed: Iterable[str] = (), own: OwnOrigins | None = None) -> None:
        """`allowed` as `parse_origins` gives them; `own` is where our own pages come from."""
        self._allowed = frozenset(allowed)
        self._own = own

    def admit(self, origin: str | None, host: str) -> bool:
        """Whether a page of `origin` may open a socket at `host` (the request's Host); no browser sends no origin."""
        if origin is None or origin in self._allowed:
            return True
        if host and origin in (f"http://{host}", f"https://{host}"):
            return True  # a page that came from the socket's own address
        return self._own is not None and self._own.include(origin, host)


@dataclass(frozen=True, slots=True)
class OwnOrigins:
    """The origins of the pages that our HTTP listener serves."""

    scheme: str
    """http or https."""
    host: str
    """That the listener is bound to."""
    port: int
    public: str = ""
    """The origin of `public_url`, if there is one."""

    def include(self, origin: str, host: str) -> bool:
        """`host` is that of the socket's request: bound to every address, we go by the one that was used."""
        if origin == self.public and origin:
            return True
        return any(origin == origin_of(self.scheme, name, self.port) for name in self._names(host))

    def _names(self, host: str) -> tuple[str, ...]:
        bound = f"[{self.host}]" if ":" in self.host else self.host
        if self.host in _WILDCARDS:
            name = host.rpartition(":")[0] if _has_port(host) else host
            return (name,) if name else ()
        return _LOOPBACK if bound in _LOOPBACK else (bound,)


def _has_port(host: str) -> bool:
    return host.rpartition(":")[2].isdigit()


def origin_of(scheme: str, host: str, port: int) -> str:
    """An origin as browsers write it: without the scheme's own port."""
    usual = {"http": 80, "https": 443}[scheme]
    return f"{scheme}://{host}" if port == usual else f"{scheme}://{host}:{port}"


def origin_of_url(url: str) -> str:
    """The origin of an absolute http(s) URL; nothing for an empty one."""
    return str(URL(url).origin()) if url else ""


def parse_origins(text: str) -> tuple[str, ...]:
    """The entries of "https://crm.example.com,http://10.1.2.3:8080". Raises ValueError naming the one at fault."""
    parsed = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        try:
            url = URL(entry)
            exact = url.scheme in ("http", "https") and str(url.origin()) == entry.lower() == entry
        except ValueError:
            exact = False
        if not exact:
            raise ValueError(
                f"origins has {entry!r}; expected an exact origin as browsers name it, in lower case and without a "
                "path, such as https://crm.example.com or http://10.1.2.3:8080"
            )
        parsed.append(entry)
    return tuple(parsed)
