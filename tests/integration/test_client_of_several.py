"""The client SDK with several servers to choose from."""

from pathlib import Path

import pytest

from protocol.client import CallClient, CallRefused
from protocol.messages import Ended, GoingAway, Start
from tests.integration.world import SECRETS, Options, running
from tests.unit.call.sound import silence

NOBODY = "ws://127.0.0.1:9/v1/calls"


def client(*urls: str) -> CallClient:
    return CallClient(urls, Start(rate=8000), app_id="demo", secret=SECRETS["demo"])


async def test_a_client_starts_its_call_where_somebody_answers(tmp_path: Path) -> None:
    async with running(tmp_path) as world, client(NOBODY, world.url) as call:
        await call.send_audio(silence(100))
        await call.hang_up()
        assert isinstance([message async for message in call][-1], Ended)


async def test_a_client_goes_on_to_the_next_when_one_is_full(tmp_path: Path) -> None:
    async with (
        running(tmp_path / "full", Options(max_calls=0)) as full,
        running(tmp_path / "free") as free,
        client(full.url, free.url) as call,
    ):
        assert len(free.calls) == 1
        await call.hang_up()


async def test_a_client_asks_nobody_else_once_it_is_told_what_it_did_wrong(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        with pytest.raises(CallRefused, match="access_denied"):
            async with CallClient([world.url, NOBODY], Start(), app_id="demo", secret="wrong"):
                pass


async def test_a_client_hears_of_the_last_fault_when_nobody_answers() -> None:
    with pytest.raises(OSError, match="9"):
        async with client(NOBODY, NOBODY):
            pass


async def test_a_client_leaves_a_server_that_goes_away_for_the_next(tmp_path: Path) -> None:
    async with running(tmp_path) as world, client(world.url, NOBODY) as call:
        (session,) = world.calls.sessions
        session.say_goodbye(1000)
        async for message in call:
            if isinstance(message, GoingAway):
                break
        await call.hang_up()  # nobody is at the next; it comes round to the first again
        assert isinstance([message async for message in call][-1], Ended)


def test_a_client_needs_a_server() -> None:
    with pytest.raises(ValueError, match="no url"):
        client()
