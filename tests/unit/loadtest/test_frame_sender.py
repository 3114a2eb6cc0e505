"""The lines of bench_ingest find answers and acks wherever the system cuts what comes."""

import socket
from collections.abc import Iterator

import pytest

from loadtest.frame_sender import FrameSender, Lags, Line, Upgrade

TOLD = b'\x81\x12{"type":"pong","id":"p7"}\x81\x20{"type":"ack","seq":3,"samples":640}'


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        yield near, far


@pytest.mark.parametrize("cut", range(1, len(TOLD)))
def test_what_is_told_is_read_however_it_is_cut(cut: int, ends: tuple[socket.socket, socket.socket]) -> None:
    near, far = ends
    sender, line, lags = FrameSender(9, Upgrade(), [b""]), Line(near, 0), Lags()
    sender._asked_at[7] = 0.0
    for part in (TOLD[:cut], TOLD[cut:]):
        far.sendall(part)
        sender._read(line, lags)
    assert len(lags.lag_ms) == 1
    assert line.acked_samples == 640
    sender.close()
