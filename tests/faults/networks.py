"""A network of its own for a server, so that packets can be dropped there and nowhere else. Needs root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Final

SUBNET: Final = "10.203.177"
_number = count()
SERVER, CLIENT = f"{SUBNET}.2", f"{SUBNET}.1"


class Unavailable(Exception):
    """This machine gives us no network namespaces; the text says why."""


@dataclass(frozen=True)
class Network:
    """A namespace joined to ours by one cable. A server wrapped in `wrap` lives in it, at address SERVER."""

    name: str

    @property
    def wrap(self) -> tuple[str, ...]:
        return ("ip", "netns", "exec", self.name)

    def drop_packets_of(self, client_port: int) -> None:
        """From now on nothing of that connection gets through, either way, and neither end is told."""
        self._nft("add table inet faults")
        for chain, direction in (("input", "sport"), ("output", "dport")):
            self._nft(f"add chain inet faults {chain} {{ type filter hook {chain} priority 0; }}")
            self._nft(f"add rule inet faults {chain} tcp {direction} {client_port} drop")

    def _nft(self, command: str) -> None:
        _run(*self.wrap, "nft", command)


@contextmanager
def network() -> Iterator[Network]:
    """Raises Unavailable."""
    unique = f"{os.getpid()}n{next(_number)}"
    name, ours, theirs = f"earshot{unique}", f"es{unique}a", f"es{unique}b"
    try:
        _run("ip", "netns", "add", name)
        try:
            _run("ip", "link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", name)
            _run("ip", "address", "add", f"{CLIENT}/24", "dev", ours)
            _run("ip", "link", "set", ours, "up")
            inside = ("ip", "-n", name)
            _run(*inside, "address", "add", f"{SERVER}/24", "dev", theirs)
            for device in ("lo", theirs):
                _run(*inside, "link", "set", device, "up")
        except Unavailable:
            _run("ip", "netns", "delete", name)
            raise
    except FileNotFoundError as fault:
        raise Unavailable(f"there is no {fault.filename} here") from fault
    try:
        yield Network(name)
    finally:
        # The namespace lives on while a server is in it, but the next cable will have this one's addresses.
        _run("ip", "link", "delete", ours)
        _run("ip", "netns", "delete", name)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"{' '.join(command)}: {done.stderr.strip()}")
