"""What a supervisor is told, in systemd's way (sd_notify(3)): a datagram to the socket that NOTIFY_SOCKET names."""

from __future__ import annotations

import os
import socket
from typing import Literal

import structlog

log = structlog.get_logger(__name__)


def notify(state: Literal["READY=1", "STOPPING=1"]) -> None:
    """Tell the supervisor, if there is one that asked. A fault is logged, and costs nothing else."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as supervisor:
            supervisor.connect(address.replace("@", "\0", 1) if address[0] == "@" else address)
            supervisor.send(state.encode())
    except OSError as fault:
        log.warning("supervisor_not_told", state=state, fault=str(fault))
