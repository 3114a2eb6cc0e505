"""The harness itself: a server that can be killed and started again, with and without a fault built in."""

import signal

import pytest

from tests.faults.ledger import Entry, table
from tests.faults.servers import Died, Serve


def test_a_server_says_where_it_listens_is_killed_and_comes_again(serve: Serve) -> None:
    server = serve()
    assert server.http.startswith("http://127.0.0.1:")
    assert server.ws.endswith("/v1/calls")
    assert 0 < server.memory_bytes <= server.peak_memory_bytes
    second = server.again()
    assert server.process.returncode == -signal.SIGKILL
    assert second.stop() == 0


def test_a_server_that_cannot_start_has_died(serve: Serve) -> None:
    with pytest.raises(Died, match="expected host:port"):
        serve(http="nowhere")


def test_a_line_of_the_table_says_what_was_tried_and_what_it_cost() -> None:
    head, line = table([Entry(row=17, fault="kill", tried=50, lost_samples=0, outcome="passed", note="as expected")])
    assert head.split()[:3] == ["row", "fault", "tried"]
    assert line.split() == ["17", "kill", "50", "-", "0", "-", "-", "passed", "as", "expected"]
