"""Watching calls over a real socket: a board's summaries, a call's own messages, levels, and who may not see what."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from gateway.doors.connection import NativeConnection
from gateway.ports import CallRecord, Unavailable
from gateway.tickets import Ticket
from protocol.messages import (
    Ack,
    Alert,
    Continue,
    Ended,
    Hangup,
    Pause,
    QcResult,
    Segment,
    Speaker,
    Started,
    Transcript,
    Update,
)
from protocol.watching import (
    CODES,
    MAX_WATCHES,
    SUBPROTOCOL,
    CallGone,
    CallInBrief,
    CaughtUp,
    Levels,
    WatchError,
    WatchGoingAway,
    Watching,
)
from tests.integration import hummed
from tests.integration.test_native_socket import CONVERSATION, pieces
from tests.integration.world import SECRETS, Options, World, running, signed
from tests.unit.call.sound import silence, voice
from tests.watching import Onlooker, onlooker

RULES = {"debt": ["refund"], "talk": ["weather"]}
TEXTS = {"s1": "i want a refund now", "s2": "nice weather today"}


@asynccontextmanager
async def looking_at(world: World, app_id: str = "demo") -> AsyncIterator[Onlooker]:
    async with onlooker(world.url, app_id=app_id, secret=SECRETS[app_id]) as one:
        yield one


@pytest.fixture
async def talk(tmp_path: Path) -> AsyncIterator[World]:
    """A server whose calls say something that rules ask for."""
    verdict = {"detection_result": [{"category": "debt", "keyword": ["refund"]}]}
    async with running(tmp_path, Options(rules=RULES, qc_result=verdict)) as world:
        world.recognizer.partials, world.recognizer.finals = {"s1": "i want a"}, TEXTS
        yield world


async def eventually(holds: Callable[[], bool]) -> None:
    """Return once it is so: for what nobody announces."""

    async def held() -> bool:
        return holds()

    await hummed.eventually(held)


# --- a board -----------------------------------------------------------------------------------------------------


async def test_a_board_sees_calls_that_are_there_and_those_that_come(world: World) -> None:
    async with world.call(metadata={"agent": "Anna"}, channels=2) as first, looking_at(world) as board:
        await board.client.watch(watch_id="b")
        assert await board.until(Watching) == Watching(id="b")
        seen = await board.until(CallInBrief)
        assert (seen.call_id, seen.state, seen.agent) == (first.started.call_id, "live", "Anna")
        assert (seen.roles, seen.rate, seen.channels, seen.connected) == (["agent", "customer"], 8000, 2, True)
        assert (seen.alerts, seen.latest, seen.speaking, seen.ended_at_ms) == ([], None, [], None)
        async with world.call() as second:
            seen = await board.until(CallInBrief, lambda brief: brief.call_id == second.started.call_id)
            assert (seen.agent, seen.roles) == ("", ["mixed"])


async def test_a_board_sees_a_call_to_its_verdict(talk: World) -> None:
    async with looking_at(talk) as board, talk.call() as wire:
        await board.client.watch()
        for piece in pieces(CONVERSATION):
            await wire.send(piece)
        await wire.until(Alert, lambda alert: alert.category == "talk")
        brief = await board.until(CallInBrief, lambda brief: len(brief.alerts) == 2)
        assert [alert.category for alert in brief.alerts] == ["debt", "talk"]
        assert brief.latest is not None
        assert brief.latest.text == TEXTS["s2"]
        assert brief.speakers == {"mixed": "Anna"}
        await wire.send(Hangup())
        await wire.until(Ended)
        gone = await board.until(CallGone)
        last = board.of(CallInBrief)[-1]
        assert (gone.call_id, last.call_id) == (wire.started.call_id, wire.started.call_id)
        assert (last.state, last.duration_ms, last.seq) == ("judged", 8000, wire.log[-1].seq)
        assert [alert.status for alert in last.alerts] == ["confirmed", "not_confirmed"]
        assert last.ended_at_ms is not None


async def test_a_board_sees_pauses_lost_softphones_and_new_terms(world: World) -> None:
    async with looking_at(world) as board:
        await board.client.watch()
        async with world.call() as wire:
            await board.until(CallInBrief)
            await wire.send(Pause())
            await board.until(CallInBrief, lambda brief: brief.state == "paused")
            await wire.send(Continue())
            await wire.send(Update(metadata={"agent": "Ben"}, roles=["customer"]))
            await board.until(CallInBrief, lambda brief: (brief.agent, brief.roles) == ("Ben", ["customer"]))
        await board.until(CallInBrief, lambda brief: not brief.connected)


async def test_a_board_of_one_agent_sees_that_agent_s_calls_and_loses_one_that_becomes_another_s(world: World) -> None:
    async with looking_at(world) as board, world.call(metadata={"agent": "Ben"}):
        await board.client.watch(agent="Anna")
        async with world.call(metadata={"agent": "Anna"}) as wire:
            seen = await board.until(CallInBrief)
            assert seen.call_id == wire.started.call_id
            await wire.send(Update(metadata={"agent": "Ben"}))
            assert (await board.until(CallGone)).call_id == wire.started.call_id
            await wire.send(Update(metadata={"agent": "Anna"}))
            await board.until(CallInBrief)
    assert {brief.agent for brief in board.of(CallInBrief)} == {"Anna"}


async def test_a_board_that_ends_its_watch_hears_no_more_and_may_begin_another(world: World) -> None:
    async with looking_at(world) as board, world.call():
        await board.client.watch(watch_id="one")
        await board.until(CallInBrief)
        await board.client.unwatch("one")
        await board.client.watch(watch_id="two", agent="nobody")
        await board.until(Watching)
        async with world.call(metadata={"agent": "nobody"}) as wire:
            assert (await board.until(CallInBrief)).call_id == wire.started.call_id
        assert len({brief.call_id for brief in board.of(CallInBrief)}) == 2


async def test_levels_come_while_somebody_wants_them_and_no_meter_runs_otherwise(world: World) -> None:
    async with world.call(channels=1) as wire, looking_at(world) as board:

        def metered() -> bool:
            return world.calls.sessions[0].meter is not None

        assert not metered()
        await board.client.watch(levels=True)
        await board.until(Levels)
        assert metered()
        await wire.send(voice(1000))
        loud = await board.until(Levels, lambda levels: levels.calls[wire.started.call_id] > [-90])
        assert -90 < loud.calls[wire.started.call_id][0] <= 0
        await board.client.watch()
        await board.until(Watching)
        await eventually(lambda: not metered())


# --- one call ----------------------------------------------------------------------------------------------------


def may_be_left_out(message: object) -> bool:
    """Whether a newer message may stand for this one."""
    return isinstance(message, Speaker) or (isinstance(message, Transcript) and not message.final)


async def test_who_watches_a_call_is_told_what_its_client_is_told_but_acks_and_its_token(talk: World) -> None:
    async with talk.call() as wire, looking_at(talk) as early:
        call_id = wire.started.call_id
        await early.client.watch(watch_id="c", call_id=call_id)
        for piece in pieces(CONVERSATION):
            await wire.send(piece)
        await wire.send(Hangup())
        await wire.until(Ended)
        await early.until(Ended)
        wanted = [message for message in wire.log if not isinstance(message, Ack)]
        started = early.of(Started)[0]
        assert started == msgspec.structs.replace(wire.started, resume_token="")
        told = [message for message in early.told if not isinstance(message, Started | Watching | CaughtUp)]
        rest: Iterator[object] = iter(wanted)
        assert all(message in rest for message in told), "the very same messages, in their order"
        assert not [one for one in wanted[1:] if one not in told and not may_be_left_out(one)]
        [caught_up] = early.of(CaughtUp)
        assert (caught_up.id, caught_up.call_id, caught_up.live) == ("c", call_id, True)


async def test_a_call_is_told_from_where_it_was_left_and_from_any_number(talk: World) -> None:
    async with talk.call() as wire:
        call_id = wire.started.call_id
        for piece in pieces(CONVERSATION):
            await wire.send(piece)
        await wire.until(Alert, lambda alert: alert.category == "talk")
        whole = [message.seq for message in wire.log if isinstance(message, Segment | Alert | Speaker)]
        for from_seq in (0, whole[len(whole) // 2], wire.log[-1].seq):
            async with looking_at(talk) as page:
                await page.client.watch(call_id=call_id, from_seq=from_seq)
                caught_up = await page.until(CaughtUp)
                assert caught_up.live
                assert caught_up.seq >= wire.log[-1].seq
                seqs = [one.seq for one in page.told if isinstance(one, Segment | Alert | Speaker)]
                expected = [seq for seq in whole if seq > from_seq]
                assert seqs[: len(expected)] == expected


async def test_a_call_that_has_ended_is_caught_up_with_and_nothing_follows(talk: World) -> None:
    async with talk.call() as wire:
        for piece in pieces(CONVERSATION):
            await wire.send(piece)
        await wire.send(Hangup())
        await wire.until(Ended)
    call_id = wire.started.call_id
    async with looking_at(talk) as page:
        await page.client.watch(call_id=call_id)
        caught_up = await page.until(CaughtUp)
        assert not caught_up.live
        assert len(page.of(QcResult)) == len(page.of(Ended)) == 1
        talk.feed.forgotten(call_id)  # the window to resume it has passed
        await page.client.watch(call_id=call_id)
        assert await page.until(CaughtUp) == CaughtUp(id="", call_id=call_id, seq=0, live=False)
        assert len(page.of(Ended)) == 1


async def test_the_levels_of_one_call_are_told_to_who_watches_it(world: World) -> None:
    async with world.call(channels=2) as wire, world.call(), looking_at(world) as page:
        await page.client.watch(call_id=wire.started.call_id, levels=True)
        levels = await page.until(Levels)
        assert levels.calls == {wire.started.call_id: [-90, -90]}
        await page.client.unwatch()
        await page.client.watch(call_id=wire.started.call_id)
        await page.until(CaughtUp)


# --- who may see what --------------------------------------------------------------------------------------------


async def test_another_app_sees_nothing_and_cannot_tell_a_foreign_call_from_one_that_is_not_there(world: World) -> None:
    async with looking_at(world, "other") as stranger, world.call() as wire:
        await stranger.client.watch(levels=True)
        await stranger.until(Watching)
        await stranger.client.watch(watch_id="c", call_id=wire.started.call_id)
        foreign = await stranger.until(WatchError)
        await stranger.client.watch(watch_id="c", call_id="nowhere")
        absent = await stranger.until(WatchError)
        assert (foreign.code, foreign.retryable, foreign.id) == ("unknown_call", False, "c")
        assert foreign.message.replace(wire.started.call_id, "") == absent.message.replace("nowhere", "")
        async with world.call(app_id="other") as own:
            brief = await stranger.until(CallInBrief)
            assert brief.call_id == own.started.call_id
            await own.send(Hangup())
            await stranger.until(CallGone)
    assert {type(one) for one in stranger.told} <= {Watching, WatchError, CallInBrief, CallGone, Levels}
    assert {brief.call_id for brief in stranger.of(CallInBrief)} == {own.started.call_id}


# --- what watchers do wrong --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", "bad_json"),
        ("[]", "bad_json"),
        ('"watch"', "bad_json"),
        ("{}", "unknown_type"),
        ('{"type":"start"}', "unknown_type"),
        ('{"type":7}', "unknown_type"),
        ('{"type":"watch","from_seq":-1}', "bad_message"),
        ('{"type":"watch","call_id":"no id"}', "bad_message"),
        ('{"type":"watch","call_id":"c","agent":"a"}', "bad_message"),
        ('{"type":"watch","more":1}', "bad_message"),
        (b"\x00\x01", "bad_message"),
        ("[" * 100_000, "bad_json"),
    ],
)
async def test_a_message_that_is_none_is_told_apart_and_closes_the_socket(
    world: World, text: str | bytes, code: str
) -> None:
    async with looking_at(world) as one:
        await one.client.connection.send(text)
        assert (await one.until(WatchError)).code == code
        assert await one.closed() == (CODES[code].close, code)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(max_size=60) | st.binary(max_size=60), min_size=1, max_size=5))
def test_whatever_a_watcher_sends_no_call_suffers(junk: list[str | bytes]) -> None:
    from protocol.watching import WatchFault, decode_watcher

    for one in junk:
        try:
            decode_watcher(one)
        except WatchFault as fault:
            assert fault.code in ("bad_json", "unknown_type", "bad_message")


async def test_a_socket_holds_so_many_watches_and_one_more_is_refused(world: World) -> None:
    async with looking_at(world) as one:
        for number in range(MAX_WATCHES):
            await one.client.watch(watch_id=f"w{number}")
        await one.client.watch(watch_id="more")
        assert (await one.until(WatchError)).code == "too_many_watches"
        await one.client.watch(watch_id="w3", agent="Anna")
        await one.until(Watching, lambda told: told.id == "w3")


async def test_who_asks_too_often_is_cut_off(world: World) -> None:
    async with looking_at(world) as one:
        for _ in range(4 * MAX_WATCHES):
            await one.client.unwatch("nothing")
        assert (await one.until(WatchError)).code == "too_fast"
        assert await one.closed() == (1008, "too_fast")


async def test_who_says_nothing_is_cut_off(tmp_path: Path) -> None:
    async with running(tmp_path, Options(first_message_timeout_s=0.05)) as world, looking_at(world) as one:
        assert await one.closed() == (1008, "timeout")


async def test_there_may_be_so_many_watchers(tmp_path: Path) -> None:
    async with running(tmp_path, Options(door={"max_watchers": 2})) as world:
        async with looking_at(world) as one, looking_at(world):
            await one.client.watch()
            await one.until(Watching)
            with pytest.raises(InvalidStatus) as refused:
                async with looking_at(world):
                    pass
            assert refused.value.response.status_code == 503
        async with looking_at(world) as again:
            await again.client.watch()
            await again.until(Watching)


@pytest.mark.parametrize("offered", ["earshot.v1", "chat"])
async def test_a_watcher_offers_its_own_subprotocol(world: World, offered: str) -> None:
    url = world.url.replace("/v1/calls", "/v1/watch")
    with pytest.raises(InvalidStatus) as refused:
        async with connect(url, additional_headers=signed("demo"), subprotocols=[Subprotocol(offered)], proxy=None):
            pass
    assert refused.value.response.status_code == 400
    assert SUBPROTOCOL in (refused.value.response.body or b"").decode()


# --- slow and leaving --------------------------------------------------------------------------------------------


async def test_a_watcher_that_reads_nothing_harms_no_call_and_no_other_watcher(tmp_path: Path) -> None:
    """Row 12. What it is not told piles up no further than the bound."""
    door = {"max_queued_messages": 100, "max_queued_bytes": 1 << 20, "slow_reader_grace_s": 0.1}
    async with running(tmp_path, Options(door=door)) as world, world.call() as wire:
        call_id = wire.started.call_id
        async with looking_at(world) as slow, looking_at(world) as quick:
            for one in (slow, quick):
                await one.client.watch(call_id=call_id)
                await one.until(CaughtUp)
            transport = slow.client.connection.transport
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            for served in world.server.connections:
                served.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            transport.pause_reading()
            sent = 0
            while not world.metrics.watchers_dropped.labels("too_slow")._value.get():
                for _ in range(20):
                    await wire.send({"type": "transcript", "text": "x" * 4000, "begin_ms": 0, "end_ms": sent})
                    sent += 1
                assert sent < 2000, "it is never cut off"
                latest = sent - 1
                await wire.until(Transcript, lambda text, latest=latest: text.end_ms == latest)  # type: ignore[misc]
                await quick.until(Transcript, lambda text, latest=latest: text.end_ms == latest)  # type: ignore[misc]
            await wire.send(silence(200))
            await wire.until(Ack, lambda ack: ack.samples == 1600)
            finals = quick.of(Transcript)
            assert len(finals) == sent
            transport.abort()
        metrics = generate_latest(world.metrics.registry).decode()
        assert 'earshot_watchers_dropped_total{code="too_slow"} 1.0' in metrics


async def test_a_server_that_goes_away_tells_its_watchers(world: World) -> None:
    async with looking_at(world) as board:
        await board.client.watch()
        await board.until(Watching)
        world.watching.drain(5000)
        assert await board.until(WatchGoingAway) == WatchGoingAway(deadline_ms=5000)
        assert await board.closed() == (1012, "shutting_down")


async def test_what_is_watched_is_counted(talk: World) -> None:
    async with looking_at(talk) as board, talk.call():
        await board.client.watch()
        await board.until(CallInBrief)
        assert "earshot_watchers 1.0" in generate_latest(talk.metrics.registry).decode()
    await eventually(lambda: "earshot_watchers 0.0" in generate_latest(talk.metrics.registry).decode())
    assert talk.metrics.watch_messages._value.get() >= 2


async def test_a_watcher_that_is_cut_off_leaves_nothing_behind(world: World) -> None:
    async with world.call() as wire:
        async with looking_at(world) as page:
            await page.client.watch(watch_id="b", levels=True)
            await page.client.watch(watch_id="c", call_id=wire.started.call_id, levels=True)
            await page.until(CaughtUp)
            page.client.connection.transport.abort()
            with pytest.raises(ConnectionClosed):
                while True:
                    await page.client.receive()
        await eventually(lambda: not (world.feed._apps or world.feed._watchers))
        assert world.calls.sessions[0].meter is None


async def test_a_ticket_for_one_agent_s_calls_outlasts_a_store_that_is_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve = world.watching.serve
    ticket = Ticket(app_id="demo", purpose="watch", mark="m", expires_at_ms=0, agent="Anna")

    async def with_ticket(connection: NativeConnection) -> None:
        connection.ticket = ticket
        await serve(connection)

    async def away(app_id: str, call_id: str) -> CallRecord | None:
        raise Unavailable("Redis is away")

    monkeypatch.setattr(world.watching, "serve", with_ticket)
    monkeypatch.setattr(world.records, "get", away)
    async with looking_at(world) as page, world.call(metadata={"agent": "Anna"}) as wire:
        await page.client.watch(watch_id="theirs", call_id="at-another-node")
        refused = await page.until(WatchError)
        assert (refused.code, refused.id, refused.retryable) == ("cluster_unavailable", "theirs", True)
        await page.client.watch(watch_id="ours", call_id=wire.started.call_id)
        assert (await page.until(CaughtUp)).id == "ours"
