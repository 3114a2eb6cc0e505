"""When a server has recovered, what a bad network holds back, and what its metrics say of a run."""

import asyncio
from typing import Any, cast

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from loadtest.course import recovered
from loadtest.gathering import Moment
from loadtest.server.probe import ServerProbe
from loadtest.softphones.relay import _End, _Near

METRICS = """# TYPE earshot_loop_lag_seconds histogram
earshot_loop_lag_seconds_bucket{le="0.005"} 40
earshot_loop_lag_seconds_bucket{le="+Inf"} 50
earshot_loop_lag_seconds_count 50
earshot_loop_lag_seconds_sum 9
"""


def moment(*, calls: int, frames_acked: int, ack_lag_p99_ms: float) -> Moment:
    return Moment(
        at_s=1.0,
        calls=calls,
        calls_open=calls,
        frames=50 * calls,
        frames_acked=frames_acked,
        failures=0,
        ack_lag_p99_ms=ack_lag_p99_ms,
        harness_lag_p99_ms=1.0,
        harness_cpu_s=(0.1,),
        server=None,
    )


@pytest.mark.parametrize(
    ("calls", "frames_acked", "ack_lag_p99_ms", "well"),
    [
        (5, 250, 80.0, True),
        (5, 250, 900.0, False),
        (6, 250, 80.0, False),  # the surplus has not gone yet
        (5, 0, 0.0, False),  # a server that says nothing is not in time
        (0, 0, 0.0, True),
    ],
)
def test_a_server_has_recovered_when_it_acknowledges_in_time_again(
    calls: int, frames_acked: int, ack_lag_p99_ms: float, *, well: bool
) -> None:
    seen = moment(calls=calls, frames_acked=frames_acked, ack_lag_p99_ms=ack_lag_p99_ms)
    assert recovered(seen, 5, 250.0) is well


async def test_what_a_server_s_loop_was_late_before_the_run_is_not_the_run_s() -> None:
    app = web.Application()

    async def metrics(request: web.Request) -> web.Response:
        return web.Response(text=METRICS)

    app.router.add_get("/metrics", metrics)
    async with TestServer(app) as server, ClientSession() as session:
        probe = ServerProbe(str(server.make_url("/")), None, session)
        await probe.begin()
        before = probe.sample().loop_lags
        await probe.close()
    assert before.count == 50
    assert before.since(before).count == 0


class Reading:
    """Of a transport, whether it reads."""

    reads = True

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True


async def test_a_stall_lasts_though_another_begins_in_it_or_the_way_on_is_free_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timers: list[tuple[Any, ...]] = []
    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", lambda *timer: timers.append(timer))
    near, far = _Near(("127.0.0.1", 9), 0.0, set()), _End(0.0)
    near.other, far.other = far, near
    softphones, servers = Reading(), Reading()
    near.transport, far.transport = cast(asyncio.Transport, softphones), cast(asyncio.Transport, servers)
    near.stall(2.0)
    near.stall(2.0)
    far.resume_writing()
    near.resume_writing()
    assert [softphones.reads, servers.reads] == [False, False]
    assert [timer[0] for timer in timers] == [2.0, 2.0]
    for _, back, *arguments in timers:
        back(*arguments)
    assert [softphones.reads, servers.reads] == [True, True]
