"""Which addresses this server may call on somebody else's word."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Sequence
from typing import Any

from yarl import URL

from gateway.ports import Rejected
from gateway.settings import FetchAllowed

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""RFC 6052: the last 32 bits are an IPv4 address."""

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class AddressRefused(OSError):
    """A connection to an address that this server must not call was not even begun.

    Its text is always the same, and tells nobody what a name means inside this network.
    """

    def __init__(self) -> None:
        super().__init__(errno.EACCES, "the address is not a public one, nor one that fetch_allow names")


class FetchTargets:
    """Public addresses, and those that the setting `fetch_allow` names."""

    def __init__(self, allowed: Sequence[FetchAllowed] = ()) -> None:
        self._allowed = allowed

    def checked_url(self, text: str) -> URL:
        """The URL, if its form is one that may be called; where it leads is judged at the socket. Raises Rejected."""
        try:
            url = URL(text)
            port = url.port
        except ValueError as fault:
            raise Rejected(f"not a URL: {fault}") from fault
        if url.scheme not in ("http", "https"):
            raise Rejected(f"the address begins with {url.scheme or 'no scheme'!r}, expected http or https")
        if not url.host or not port:
            raise Rejected("the address names no host")
        if url.user is not None or url.password is not None:
            raise Rejected("the address holds a user or a password; leave them out")
        return url.with_fragment(None)

    def permits(self, host: str, port: int) -> bool:
        """Whether the numeric address `host`, as it stands in a socket address, may be called at `port`."""
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return False  # what is no plain number might mean anything to the system
        inner = _embedded(address)
        return any(one.covers(address, port) for one in self._allowed) or (
            _is_public(address) and (inner is None or _is_public(inner))
        )

    def open_socket(self, target: tuple[int, int, int, str, tuple[Any, ...]]) -> socket.socket:
        """A socket for the very address that is about to be connected to. Raises AddressRefused.

        Asked here, after the name was resolved and by the code that connects, a name that changes its meaning between
        look-up and connection (DNS rebinding) gains nothing.
        """
        family, kind, protocol, _, (host, port, *_) = target
        if not self.permits(str(host), int(port)):
            raise AddressRefused
        return socket.socket(family, kind, protocol)


def _is_public(address: _Address) -> bool:
    site_local = isinstance(address, ipaddress.IPv6Address) and address.is_site_local
    return address.is_global and not (
        address.is_multicast or address.is_reserved or address.is_unspecified or site_local
    )


def _embedded(address: _Address) -> _Address | None:
    """The IPv4 address that an IPv6 address leads to by mapping or translation; None when it leads to none."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)
