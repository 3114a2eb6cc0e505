"""Row 1: the cases of the Autobahn test suite against the very listener of the native socket, as an echo."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import msgspec
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from gateway.credentials import Credentials
from gateway.doors.limits import DoorLimits
from gateway.doors.native import NativeDoor
from gateway.session.calls import Calls
from gateway.telemetry import Metrics
from tests.faults.ledger import Ledger

NOT_OURS = ("9.*", "12.*", "13.*")
"""Messages of up to 16 MiB, and compression: over our limit, and not offered."""
ALLOWED_FAILURES = {"7.1.5"}
"""A close in the middle of a fragmented message: we answer it as an error, the suite expects an echo of its code."""


CASES = 247


class EchoDoor(NativeDoor):
    """Says everything back, to everybody."""

    async def _admit(self, connection: ServerConnection, request: Any) -> None:
        return None

    async def _handle(self, connection: ServerConnection) -> None:
        try:
            while True:
                await connection.send(await connection.recv())
        except ConnectionClosed:
            pass


def _echo_door() -> EchoDoor:
    limits = DoorLimits(first_message_timeout_s=10, audio_timeout_s=15, max_call_s=3600)
    # It opens no call and asks nobody for credentials.
    return EchoDoor(cast(Calls, None), cast(Credentials, None), limits, Metrics())


def _serve_any_subprotocol(*arguments: Any, **options: Any) -> Any:
    return serve(*arguments, **{**options, "subprotocols": None, "select_subprotocol": None})


@pytest.mark.row(1)
async def test_the_sockets_stack_passes_the_autobahn_cases(tmp_path: Path, ledger: Ledger) -> None:
    beside_python = str(Path(sys.executable).parent)
    kosoku = shutil.which("kosoku", path=os.pathsep.join([beside_python, os.environ.get("PATH", "")]))
    if kosoku is None:
        pytest.skip("kosoku, which holds the cases, is not installed")
    with patch("gateway.doors.native.serve", _serve_any_subprotocol):
        server = await _echo_door().serve("127.0.0.1", 0, None)
    port = server.sockets[0].getsockname()[1]
    excluded = [argument for case in NOT_OURS for argument in ("-x", case)]
    suite = await asyncio.create_subprocess_exec(
        kosoku,
        *("-m", "fuzzingclient", *excluded, "-p", "4", "-o", str(tmp_path), f"127.0.0.1:{port}"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await suite.communicate()
    server.close()
    await server.wait_closed()
    [cases] = msgspec.json.decode((tmp_path / "index.json").read_bytes()).values()
    failed = {name for name, case in cases.items() if "FAILED" in (case["behavior"], case["behaviorClose"])}
    ledger.add(row=1, fault="Autobahn cases 1 to 7 and 10", tried=len(cases), note=f"but {', '.join(failed)}")
    assert len(cases) == CASES, output.decode()
    assert failed == ALLOWED_FAILURES, output.decode()
