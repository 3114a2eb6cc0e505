"""The queue in front of engine processes, with real processes that load a toy."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import uvloop

from gateway.engines.pool import JobKilled, Pool
from gateway.engines.process import EngineProcess, ProcessDied
from gateway.engines.worker import EngineSpec, Job
from gateway.ports import Unavailable

TOY = "tests.unit.engines.toys:Toy"


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[Pool]:
    pool = Pool("toy", EngineSpec(TOY), **options)
    await pool.start()
    try:
        yield pool
    finally:
        await pool.stop()


@asynccontextmanager
async def occupied(pool: Pool, gate: Path) -> AsyncIterator[None]:
    """Keep the pool's only process busy inside the block."""
    holding = asyncio.create_task(pool.run("wait_for", gate))
    await until(lambda: bool(pool.running))
    yield
    await asyncio.to_thread(gate.touch)
    assert await holding == gate.name


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what other processes bring about; the test's own timeout is the only bound."""
    while not condition():  # noqa: ASYNC110 -- there is no event to wait on: it happens outside this process
        await asyncio.sleep(0.001)


async def settled() -> None:
    """Let every task that was just created reach its first wait."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_finals_go_before_partials_and_earlier_deadlines_before_later_ones(tmp_path: Path) -> None:
    done: list[str] = []
    async with running() as pool:

        async def job(name: str, rank: int, deadline_s: float) -> None:
            done.append(await pool.run("echo", name, rank=rank, deadline_s=deadline_s))

        async with asyncio.TaskGroup() as jobs, occupied(pool, tmp_path / "gate"):
            for name, rank, deadline_s in [("late partial", 1, 9), ("partial", 1, 2), ("final", 0, 8), ("first", 0, 7)]:
                jobs.create_task(job(name, rank, deadline_s))
            await settled()
            assert pool.queued == 4
    assert done == ["first", "final", "partial", "late partial"]
    assert pool.completed == 5


async def test_a_newer_partial_takes_the_place_of_a_queued_one_and_a_final_that_of_both(tmp_path: Path) -> None:
    async with running() as pool:
        async with occupied(pool, tmp_path / "gate"):
            first = asyncio.create_task(pool.run("echo", 1, rank=1, key="a", replaceable=True))
            other = asyncio.create_task(pool.run("echo", 2, rank=1, key="b", replaceable=True))
            await settled()
            second = asyncio.create_task(pool.run("echo", 3, rank=1, key="a", replaceable=True))
            assert await first is None
            final = asyncio.create_task(pool.run("echo", 4, rank=0, key="a"))
            assert await second is None
        assert await other == 2
        assert await final == 4
        assert pool.dropped == 2


async def test_a_partial_that_runs_is_not_replaced(tmp_path: Path) -> None:
    async with running() as pool:
        gate = tmp_path / "gate"
        older = asyncio.create_task(pool.run("wait_for", gate, rank=1, key="a", replaceable=True))
        await until(lambda: bool(pool.running))
        newer = asyncio.create_task(pool.run("echo", 2, rank=1, key="a", replaceable=True))
        await settled()
        gate.touch()
        assert await older == "gate"
        assert await newer == 2


async def test_a_full_queue_drops_the_partial_due_last_and_then_refuses(tmp_path: Path) -> None:
    async with running(queue_limit=2) as pool:
        async with occupied(pool, tmp_path / "gate"):
            soon = asyncio.create_task(pool.run("echo", "soon", rank=1, deadline_s=1, key="a", replaceable=True))
            later = asyncio.create_task(pool.run("echo", "later", rank=1, deadline_s=5, key="b", replaceable=True))
            await settled()
            assert await pool.run("echo", "last", rank=1, deadline_s=9, key="c", replaceable=True) is None
            final = asyncio.create_task(pool.run("echo", "final", rank=0, deadline_s=9))
            assert await later is None
            another = asyncio.create_task(pool.run("echo", "another", rank=0, deadline_s=9))
            assert await soon is None
            with pytest.raises(Unavailable, match="overloaded") as refusal:
                await pool.run("echo", "too much")
            assert refusal.value.retry_after_s is not None
        assert await final == "final"
        assert await another == "another"


async def test_a_job_that_comes_to_its_turn_too_late_gives_way(tmp_path: Path) -> None:
    now_s = 100.0
    async with running(clock=lambda: now_s) as pool:
        async with occupied(pool, tmp_path / "gate"):
            late = asyncio.create_task(pool.run("echo", "late", deadline_s=98.0, patience_s=1.5))
            patient = asyncio.create_task(pool.run("echo", "patient", deadline_s=98.0))
            await settled()
            assert pool.overdue_s == 2.0
        assert await late is None
        assert await patient == "patient"
        assert pool.dropped == 1


async def test_how_late_each_job_begins_is_told(tmp_path: Path) -> None:
    now_s = 100.0
    told: list[float] = []
    async with running(clock=lambda: now_s) as pool:
        pool.on_begun = told.append
        await pool.run("echo", 1, deadline_s=99.0)
        await pool.run("echo", 1, deadline_s=100.5)
    assert told == [1.0, -0.5]


async def test_a_job_whose_awaiter_left_is_not_run(tmp_path: Path) -> None:
    async with running() as pool:
        async with occupied(pool, tmp_path / "gate"):
            left = asyncio.create_task(pool.run("die"))
            await settled()
            left.cancel()
            await asyncio.gather(left, return_exceptions=True)
            assert pool.queued == 0
        assert await pool.run("echo", "alive") == "alive"
        assert pool.restarts == 0


async def test_a_dead_process_is_replaced_and_its_job_tried_once_more(tmp_path: Path) -> None:
    async with running() as pool:
        before = await pool.run("pid")
        assert await pool.run("die_once", tmp_path / "marker") == "lived"
        assert await pool.run("pid") != before
        assert pool.restarts == 1


async def test_a_job_that_kills_twice_is_given_up_and_the_next_one_runs() -> None:
    async with running() as pool:
        with pytest.raises(JobKilled, match="2 times"):
            await pool.run("die")
        assert await pool.run("echo", "alive") == "alive"
        assert pool.ready == 1


async def test_a_job_that_takes_too_long_is_ended_and_not_tried_again() -> None:
    async with running(job_timeout_s=0.05) as pool:
        with pytest.raises(JobKilled, match=r"no answer within 0\.05 s"):
            await pool.run("hang")
        await until(lambda: bool(pool.ready))
        assert pool.restarts == 1


async def test_a_single_use_process_serves_one_job_and_the_next_waits_for_a_fresh_one() -> None:
    async with running(jobs_per_process=1) as pool:
        pids = await asyncio.gather(*(pool.run("pid") for _ in range(3)))
        assert len(set(pids)) == 3
        assert pool.restarts == 0


async def test_what_the_engine_raises_reaches_whoever_asked() -> None:
    async with running() as pool:
        with pytest.raises(ValueError, match="no such thing"):
            await pool.run("fail")
        with pytest.raises(RuntimeError, match="OfThisProcessOnly: gone"):
            await pool.run("fail_unportably")
        assert await pool.run("print") == "printed"
        assert await pool.run("environment", "OMP_NUM_THREADS") == "1"


async def test_start_raises_what_loading_raised(tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    pool = Pool("toy", EngineSpec(TOY, {"broken": tmp_path / "broken"}), processes=2)
    with pytest.raises(FileNotFoundError, match="the toy is broken"):
        await pool.start()
    with pytest.raises(Unavailable, match="is not started"):
        await pool.run("echo", 1)


async def test_jobs_are_refused_while_no_process_can_be_started_and_taken_again_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.engines.pool.FIRST_BACKOFF_S", 0.01)
    broken = tmp_path / "broken"
    pool = Pool("toy", EngineSpec(TOY, {"broken": broken}))
    await pool.start()
    try:
        broken.touch()
        with pytest.raises(Unavailable, match="could not be restarted"):
            await pool.run("die")
        with pytest.raises(Unavailable, match="could not be restarted"):
            await pool.run("echo", 1)
        broken.unlink()
        await until(lambda: bool(pool.available))
        assert await pool.run("echo", 1) == 1
    finally:
        await pool.stop()


async def test_stopping_tells_whoever_waits_or_runs(tmp_path: Path) -> None:
    pool = Pool("toy", EngineSpec(TOY))
    await pool.start()
    runs = asyncio.create_task(pool.run("hang"))
    waits = asyncio.create_task(pool.run("echo", 1))
    await until(lambda: bool(pool.running))
    await pool.stop()
    for task in (runs, waits):
        with pytest.raises(Unavailable, match="is stopping"):
            await task
    with pytest.raises(Unavailable, match="is stopping"):
        await pool.run("echo", 1)


async def test_lag_is_how_late_the_last_job_began() -> None:
    now_s = 100.0
    async with running(clock=lambda: now_s) as pool:
        await pool.run("echo", 1, deadline_s=97.5)
        assert pool.lag_s == 2.5
        await pool.run("echo", 1, deadline_s=103.0)
        assert pool.lag_s == 0.0


async def test_the_signals_that_stop_a_server_are_left_to_the_server() -> None:
    async with running() as pool:
        pid = await pool.run("pid")
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
        assert await pool.run("pid") == pid


async def test_a_terminal_s_signals_do_not_reach_an_engine_whose_niceness_counts_beside_the_server() -> None:
    async with running() as pool:
        pid = await pool.run("pid")
        assert os.getpgid(pid) == pid, "a terminal sends to the server's group"
        assert os.getsid(pid) == os.getsid(0), (
            "Linux shares processors out between sessions without asking for niceness"
        )


PARENT = """
import asyncio
from gateway.engines.pool import Pool
from gateway.engines.process import EngineProcess, ProcessDied
from gateway.engines.worker import EngineSpec, Job

async def main():
    pool = Pool("toy", EngineSpec("tests.unit.engines.toys:Toy"), processes=2)
    await pool.start()
    print(*{await pool.run("pid") for _ in range(20)}, flush=True)
    await asyncio.gather(pool.run("hang"), pool.run("hang"))

asyncio.run(main())
"""


async def test_a_killed_server_leaves_no_engine_process_behind() -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, stdout=asyncio.subprocess.PIPE, env=environment
    )
    assert parent.stdout is not None
    pids = [int(pid) for pid in (await parent.stdout.readline()).split()]
    assert pids
    assert all(_exists(pid) for pid in pids)
    parent.kill()
    await parent.wait()
    await until(lambda: not any(_exists(pid) for pid in pids))


def _exists(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_process_that_died_with_nothing_to_do_costs_no_job_an_attempt(run: Callable[..., None]) -> None:
    processes: list[EngineProcess] = []
    start = EngineProcess.start

    async def noted(spec: EngineSpec, timeout_s: float, name: str) -> EngineProcess:
        processes.append(await start(spec, timeout_s, name))
        return processes[-1]

    async def two_jobs_around_a_death() -> None:
        async with running(retries=0) as pool:
            os.kill(await pool.run("pid"), signal.SIGKILL)
            await until(lambda: not processes[0].alive)
            assert await pool.run("echo", "again") == "again"
            assert pool.restarts == 1

    with patch.object(EngineProcess, "start", noted):
        run(two_jobs_around_a_death())


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_job_handed_to_a_dead_process_is_told_so_on_either_event_loop(run: Callable[..., None]) -> None:
    async def job_for_the_dead() -> None:
        process = await EngineProcess.start(EngineSpec(TOY), timeout_s=60)
        await process.kill()
        with pytest.raises(ProcessDied):
            await process.run(Job("echo", ("anyone",)), timeout_s=60)

    run(job_for_the_dead())
