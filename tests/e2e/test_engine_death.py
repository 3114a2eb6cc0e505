"""An engine process that dies in the middle of a call is replaced, and the call goes on to its verdict."""

import os
import signal
from pathlib import Path

import pytest

from protocol.messages import Ack, Ended, Error, Segment, ServerMessage, Start, Transcript
from tests.client import account, play
from tests.e2e.script import RULES, Recital, prepare
from tests.earshot_process import EarshotProcess

pytestmark = [pytest.mark.models, pytest.mark.timeout(300)]
APPS = {"EARSHOT_APPS": "demo:secret"}


async def test_every_engine_process_may_die_once_and_the_call_is_judged_all_the_same(
    tmp_path: Path, models_dir: Path, script: Recital
) -> None:
    pcm = script.samples[: script.turns[4].begin_ms * script.rate_hz // 1000].tobytes()
    killed: list[int] = []

    with EarshotProcess(tmp_path / "data", {**APPS, "EARSHOT_MODELS_DIR": str(models_dir)}) as server:

        async def kill_the_engines(message: ServerMessage) -> None:
            if isinstance(message, Segment) and message.segment_id == "s2" and not killed:
                killed.extend(children_of(server.process.pid))
                for pid in killed:
                    os.kill(pid, signal.SIGKILL)

        async with account(server.http, server.ws, "demo", "secret") as app:
            await prepare(app, script, RULES)
            start = Start(rate=16000, channels=2, language="en")
            log = await play(app, start, pcm, speed=2.0, on_message=kill_the_engines)
            ready, _ = await app.get("/readyz")
        assert server.stop() == 0

    assert len(killed) >= 4
    assert not log.of(Error), server.log
    assert log.of(Ack)[-1].samples == log.one(Ended).samples
    assert log.one(Ended).reason == "hangup", server.log
    after = [
        one for one in log.of(Transcript) if one.final and one.text and one.begin_ms > script.turns[2].begin_ms - 500
    ]
    assert {one.channel for one in after} == {0, 1}, "both channels were transcribed after the deaths"
    assert "Money back" in log.hits
    assert ready == 200
    assert "engine_process_died" in server.log


def children_of(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
