"""What weighs on the server, and on whom it falls: floods, slow readers, full disks, too many calls."""

import asyncio
import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from itertools import cycle
from pathlib import Path

import msgspec
import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from gateway.doors.limits import DoorLimits
from gateway.session.admission import KEPT_PER_CALL
from gateway.stores.durable_files import Disk
from gateway.stores.journal import JournalLimits
from protocol.client import CallClient
from protocol.codec import SUBPROTOCOL, decode_client, encode
from protocol.errors import CODES
from protocol.messages import (
    Ack,
    ClientTranscript,
    Ended,
    Error,
    Flow,
    Hangup,
    Mark,
    Ping,
    Pong,
    Resume,
    Resumed,
    Start,
    Started,
    Transcript,
)
from protocol.messages import (
    Warning as Warned,
)
from tests.integration.hummed import eventually
from tests.integration.world import PATIENCE_S, Options, Wire, World, running, signed
from tests.unit.call.sound import silence, voice


async def cut_off(wire: Wire) -> Error:
    """The error that ends the socket; close code and reason are those of its code."""
    code, reason = await wire.closed()
    error = wire.log[-1]
    assert isinstance(error, Error)
    assert (code, reason) == (CODES[error.code].close, error.code)
    return error


async def resumed(world: World, first: Wire, *, last_seq: int = 0) -> Wire:
    """The call of `first` on a new socket, which the caller closes."""
    connection = await connect(
        world.url, additional_headers=signed("demo"), subprotocols=[Subprotocol(SUBPROTOCOL)], proxy=None
    )
    wire = Wire(connection)
    started = first.started
    await wire.send(Resume(call_id=started.call_id, resume_token=started.resume_token, last_seq=last_seq))
    await wire.until(Resumed)
    return wire


# --- floods ------------------------------------------------------------------------------------------------------


async def send_until_cut(wire: Wire, kind: str) -> None:
    try:
        for _ in range(20_000):
            if kind == "websocket ping":
                await wire.connection.ping()
            elif kind == "ping":
                await wire.send(Ping())
            else:
                await wire.send(b"\0")
    except ConnectionClosed:
        pass


@pytest.mark.parametrize("kind", ["websocket ping", "ping", "tiny audio"])
async def test_a_flood_is_cut_off_and_a_call_beside_it_loses_nothing(tmp_path: Path, kind: str) -> None:
    pcm = voice(2000)
    async with running(tmp_path, Options(door={"max_messages_per_s": 10})) as world, world.call() as good:
        async with world.call() as bad:
            flooding = asyncio.create_task(send_until_cut(bad, kind))
            for at in range(0, len(pcm), 320):
                await good.send(pcm[at : at + 320])
            error = await cut_off(bad)
            await flooding
        assert (error.code, error.retryable) == ("too_fast", True)
        await good.send(Hangup())
        ended = await good.until(Ended)
        assert ended.samples == len(pcm) // 2
        assert world.recorded_pcm(good.started.call_id) == pcm
        assert good.logged(Error) == []
        session = world.calls.find("demo", bad.started.call_id)
        assert session is not None
        assert session.live, "a flood costs the socket, not the call"


async def test_a_flood_before_the_first_message_is_cut_off_too(tmp_path: Path) -> None:
    async with running(tmp_path, Options(door={"max_messages_per_s": 1})) as world, world.wire() as wire:
        await send_until_cut(wire, "websocket ping")
        assert (await cut_off(wire)).code == "too_fast"


async def test_frames_with_ten_milliseconds_of_audio_are_no_flood(tmp_path: Path) -> None:
    pcm = voice(2000)
    async with running(tmp_path, Options(door={"max_messages_per_s": 1})) as world, world.call() as wire:
        for at in range(0, len(pcm), 160):
            await wire.send(pcm[at : at + 160])
        await wire.until(Ack, lambda ack: ack.samples == len(pcm) // 2)


async def test_fragments_count_as_messages(tmp_path: Path) -> None:
    async with running(tmp_path, Options(door={"max_messages_per_s": 10})) as world, world.call() as wire:
        with suppress(ConnectionClosed):
            await wire.connection.send(b"x" for _ in range(5000))
        assert (await cut_off(wire)).code == "too_fast"


async def test_a_header_that_claims_a_tebibyte_is_refused_before_anything_of_it_is_kept(world: World) -> None:
    async with world.call() as wire:
        wire.connection.transport.write(b"\x82\xff" + (1 << 40).to_bytes(8, "big") + b"\0\0\0\0" + bytes(1000))
        assert (await wire.closed())[0] == 1009


async def test_compression_is_declined_so_that_nothing_can_be_inflated(world: World) -> None:
    async with world.wire(compression="deflate") as wire:
        assert wire.connection.protocol.extensions == []
        assert wire.connection.response is not None
        assert "Sec-WebSocket-Extensions" not in wire.connection.response.headers


async def test_what_a_client_says_in_one_call_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.doors.conversation.MAX_SAID_BYTES", 1000)
    async with world.call() as wire:
        for _ in range(40):
            await wire.send(Mark(name="x" * 20))
        assert (await cut_off(wire)).code == "said_too_much"
        session = world.calls.find("demo", wire.started.call_id)
        assert session is not None
        again = await resumed(world, wire)
        await again.send(Ping())
        await again.until(Pong)
        await again.send(Mark(name="x"))
        assert (await cut_off(again)).code == "said_too_much", "a new socket begins no new count"


# --- slow readers and silent peers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("bound", [{"max_queued_messages": 20}, {"max_queued_bytes": 100_000}])
async def test_a_client_that_does_not_read_is_cut_off_and_finds_everything_when_it_comes_back(
    tmp_path: Path, bound: dict[str, int]
) -> None:
    door = {"max_messages_per_s": 0, "slow_reader_grace_s": 0.01, **bound}
    pcm = voice(1000)
    async with running(tmp_path, Options(door=door)) as world:
        async with world.call() as wire:
            await wire.send(pcm)
            await wire.until(Ack, lambda ack: ack.samples == len(pcm) // 2)
            wire.connection.transport.pause_reading()
            said = 0
            try:
                async with asyncio.timeout(PATIENCE_S):
                    while True:
                        await wire.send(ClientTranscript(text="x" * 4096, begin_ms=said, end_ms=said + 1))
                        said += 1
            except ConnectionClosed:
                pass
        assert world.metrics.refused.labels("too_slow")._value.get() == 1
        session = world.calls.find("demo", wire.started.call_id)
        assert session is not None
        await eventually(lambda: _is(not session.attached))
        again = await resumed(world, wire)
        await again.send(Hangup())
        await again.until(Ended)
        texts = [one.begin_ms for one in again.logged(Transcript) if one.text]
        assert len(texts) > 20, "more than may wait in the queue came again"
        assert texts == list(range(len(texts)))
        assert world.recorded_pcm(wire.started.call_id) == pcm


async def _is(fact: bool) -> bool:
    return fact


async def test_a_peer_that_answers_no_ping_is_given_up_and_its_call_sealed(tmp_path: Path) -> None:
    pcm = voice(500)
    options = Options(door={"ping_interval_s": 0.5, "ping_timeout_s": 1}, resume_window_s=0, audio_timeout_s=3600)
    async with running(tmp_path, options) as world, world.call() as wire:
        await wire.send(pcm)
        await wire.until(Ack, lambda ack: ack.samples == len(pcm) // 2)
        wire.connection.transport.pause_reading()  # so it never sees a ping
        async with asyncio.timeout(PATIENCE_S):
            await world.records.judged.wait()
        assert world.recorded_pcm(wire.started.call_id) == pcm
        record = await world.records.get("demo", wire.started.call_id)
        assert record is not None
        assert record.document["reason"] == "lost"
        wire.connection.transport.abort()


async def test_a_peer_that_answers_pings_stays(tmp_path: Path) -> None:
    options = Options(door={"ping_interval_s": 0.001, "ping_timeout_s": PATIENCE_S})
    async with running(tmp_path, options) as world, world.call() as wire:
        [connection] = world.server.connections
        await wire.send(Ping())
        await wire.until(Pong)
        await eventually(lambda: _is(connection.latency > 0))
        await wire.send(Ping())
        await wire.until(Pong)


async def test_while_a_client_is_held_back_the_keep_alive_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Callable[[], bool]] = []

    async def spy(_: ServerConnection, __: DoorLimits, held: Callable[[], bool]) -> None:
        asked.append(held)

    monkeypatch.setattr("gateway.doors.native.keep_alive", spy)
    async with running(tmp_path, Options(door={"flow_after_s": 0})) as world, world.call() as wire:
        [held] = asked
        assert not held()
        world.confirmer.free.clear()
        sending = asyncio.create_task(_send_in_pieces(wire, voice(20_000)))
        await wire.until(Flow)
        assert held()
        world.confirmer.free.set()
        await wire.until(Flow, lambda flow: flow.state == "xon")
        await sending
        await wire.until(Ack, lambda ack: ack.samples == 160_000)
        assert not held()


# --- holding back --------------------------------------------------------------------------------------------------


async def test_a_client_that_must_wait_is_told_so_and_told_when_it_may_go_on(tmp_path: Path) -> None:
    pcm = voice(20_000)
    async with running(tmp_path, Options(door={"flow_after_s": 0})) as world, world.call() as wire:
        world.confirmer.free.clear()
        sending = asyncio.create_task(_send_in_pieces(wire, pcm))
        held = await wire.until(Flow)
        assert (held.state, held.seq) == ("xoff", 0)
        world.confirmer.free.set()
        await wire.until(Flow, lambda flow: flow.state == "xon")
        await sending
        await wire.until(Ack, lambda ack: ack.samples == len(pcm) // 2)


async def _send_in_pieces(wire: Wire, pcm: bytes) -> None:
    for at in range(0, len(pcm), 8000):
        await wire.send(pcm[at : at + 8000])


async def test_audio_far_ahead_of_real_time_is_taken_at_a_bounded_speed_and_none_of_it_lost(tmp_path: Path) -> None:
    pcm = silence(60_000)
    options = Options(door={"catch_up_speed": 100, "flow_after_s": 0})
    async with running(tmp_path, options) as world, world.call() as wire:
        begun_s = time.monotonic()
        await _send_in_pieces(wire, pcm)
        await wire.until(Ack, lambda ack: ack.samples == len(pcm) // 2)
        assert time.monotonic() - begun_s >= (60 - 30 - 1) / 100
        assert "xoff" in {flow.state for flow in wire.logged(Flow)}


async def test_the_client_keeps_audio_while_it_is_held_back_and_sends_it_in_order_before_anything_else() -> None:
    pcm = b"".join(number.to_bytes(2, "little") for number in range(3000))
    arrived: list[str | bytes] = []
    kept = asyncio.Event()

    async def server(connection: ServerConnection) -> None:
        await connection.recv()
        started = Started(call_id="c", seq=1, resume_token="t", resume_window_s=9, rate=8000, channels=1, limits={})
        await connection.send(encode(started), text=True)
        arrived.append(await connection.recv())
        await connection.send(encode(Flow(call_id="c", state="xoff", window_samples=0)), text=True)
        await kept.wait()
        await connection.send(encode(Flow(call_id="c", state="xon", window_samples=0)), text=True)
        async for message in connection:
            arrived.append(message)
            if isinstance(message, str) and isinstance(decode_client(message), Hangup):
                await connection.send(
                    encode(Ended(call_id="c", seq=2, samples=1, duration_ms=1, reason="x")), text=True
                )

    async with (
        asyncio.timeout(PATIENCE_S),
        serve(server, "127.0.0.1", 0, subprotocols=[Subprotocol(SUBPROTOCOL)]) as one,
    ):
        url = f"ws://127.0.0.1:{one.sockets[0].getsockname()[1]}/v1/calls"
        async with CallClient(url, Start(rate=8000), app_id="a", secret="s") as call:
            await call.send_audio(pcm[:1000])
            messages = aiter(call)
            while not isinstance(await anext(messages), Flow):
                pass
            for at in range(1000, 6000, 1000):
                await call.send_audio(pcm[at : at + 1000])
            hanging_up = asyncio.create_task(call.hang_up())
            kept.set()
            async for message in messages:
                assert isinstance(message, Flow | Ended)
            await hanging_up
    audio = [message for message in arrived if isinstance(message, bytes)]
    assert audio == [pcm[:1000], pcm[1000:]], "what was kept went in one piece: none of it went before xon"
    assert isinstance(arrived[-1], str), "the hangup came last"


# --- the disk ------------------------------------------------------------------------------------------------------


class FailingDisk:
    """The real system calls, which fail as long as `fault` is set; notes which files failed to sync."""

    def __init__(self) -> None:
        self.fault: int | None = None
        self.failed: set[str] = set()
        self.tried_again: set[str] = set()
        self.writes_failed = 0

    def as_disk(self) -> Disk:
        return Disk(write=self.write, fdatasync=self.fdatasync)

    def write(self, descriptor: int, data: bytes) -> int:
        if self.fault == errno.ENOSPC:
            self.writes_failed += 1
            raise OSError(errno.ENOSPC, "No space left on device")
        return os.write(descriptor, data)

    def fdatasync(self, descriptor: int) -> None:
        path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        if path in self.failed:
            self.tried_again.add(path)
        if self.fault == errno.EIO:
            self.failed.add(path)
            raise OSError(errno.EIO, "Input/output error")
        os.fdatasync(descriptor)


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EIO])
async def test_a_call_outlives_a_failing_disk_and_its_acks_catch_up(tmp_path: Path, fault: int) -> None:
    disk = FailingDisk()
    options = Options(disk=disk.as_disk(), journal=JournalLimits(commit_interval_ms=1, retry_interval_ms=1))
    before, during = voice(1000), voice(1500)
    async with running(tmp_path, options) as world, world.call() as wire:
        await wire.send(before)
        await wire.until(Ack, lambda ack: ack.samples == len(before) // 2)
        disk.fault = fault
        await wire.send(during)
        warning = await wire.until(Warned)
        assert warning.code == "degraded"
        await wire.send(Ping())
        await wire.until(Pong)
        assert max(ack.samples for ack in wire.logged(Ack)) == len(before) // 2, "what is not safe is not acked"
        async with world.wire() as late:
            await late.send(Start())
            assert (await cut_off(late)).code == "overloaded"
        with pytest.raises(InvalidStatus) as refused:
            async with world.wire(app_id="other"):
                pass
        assert refused.value.response.status_code == 503
        disk.fault = None
        await wire.until(Ack, lambda ack: ack.samples == len(before + during) // 2)
        assert len(wire.logged(Warned)) == 1
        assert bool(disk.failed) == (fault == errno.EIO)
        assert disk.tried_again == set(), "after a failed sync the pages of a file may be gone: another takes its place"
        await wire.send(Hangup())
        await wire.until(Ended)
        assert world.recorded_pcm(wire.started.call_id) == before + during


async def test_a_full_journal_memory_holds_calls_back_and_harms_none(tmp_path: Path) -> None:
    disk = FailingDisk()
    options = Options(
        disk=disk.as_disk(),
        door={"flow_after_s": 0.01},
        journal=JournalLimits(commit_interval_ms=1, retry_interval_ms=1, max_unsynced_bytes=1 << 18),
    )
    pcm = voice(9000)
    async with running(tmp_path, options) as world, world.call() as first, world.call() as second:
        disk.fault = errno.ENOSPC
        sending = [asyncio.create_task(_send_in_pieces(wire, pcm)) for wire in (first, second)]
        for wire in (first, second):
            assert (await wire.until(Flow)).state == "xoff"
        disk.fault = None
        await asyncio.gather(*sending)
        for wire in (first, second):
            await wire.until(Ack, lambda ack: ack.samples == len(pcm) // 2)
            await wire.send(Hangup())
            await wire.until(Ended)
            assert wire.logged(Error) == []
            assert world.recorded_pcm(wire.started.call_id) == pcm


async def test_a_call_that_hangs_up_while_the_disk_is_full_is_judged_once_there_is_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.session.handing_in.RETRY_S", 0.01)
    disk = FailingDisk()
    options = Options(disk=disk.as_disk(), journal=JournalLimits(commit_interval_ms=1, retry_interval_ms=1))
    pcm = voice(500)
    async with running(tmp_path, options) as world, world.call() as wire:
        disk.fault = errno.ENOSPC
        await wire.send(pcm)
        await wire.until(Warned)
        await wire.send(Hangup())
        await wire.send(Ping())
        await wire.until(Pong)
        enough = disk.writes_failed + 10
        await eventually(lambda: _is(disk.writes_failed > enough))  # so the sealing has been tried, and failed
        disk.fault = None
        await wire.until(Ended)
        assert wire.logged(Error) == []
        assert world.recorded_pcm(wire.started.call_id) == pcm


# --- too many ------------------------------------------------------------------------------------------------------


async def test_one_call_more_than_an_app_may_have_is_refused_and_its_place_is_free_after_a_hangup(
    tmp_path: Path,
) -> None:
    options = Options(max_calls_per_app=2, qc_result=None)
    async with running(tmp_path, options) as world, world.call() as first, world.call() as second:
        async with world.wire() as third:
            await third.send(Start())
            error = await cut_off(third)
        assert (error.code, error.retry_after_ms) == ("too_many_calls", 5000)
        assert error.message == "app demo has 2 calls going on, as many as it may (10800)"
        async with world.call(app_id="other"):
            pass
        await first.send(Hangup())
        await first.send(Ping())
        await first.until(Pong)
        async with world.call():  # though the first still waits for its verdict
            await second.send(Ping())
            await second.until(Pong)


async def test_calls_that_wait_for_their_verdict_take_no_place_but_are_not_kept_without_number(tmp_path: Path) -> None:
    async with running(tmp_path, Options(max_calls=1, qc_result=None)) as world:
        for _ in range(KEPT_PER_CALL):
            async with world.call() as wire:
                await wire.send(Hangup())
                await wire.send(Ping())
                await wire.until(Pong)
        async with world.wire() as more:
            await more.send(Start())
            error = await cut_off(more)
        assert error.code == "overloaded"
        assert "wait for their verdict" in error.message


async def test_under_pressure_new_calls_are_refused_and_running_ones_go_on_and_can_be_resumed(tmp_path: Path) -> None:
    reasons = ["42 MiB of disk are free"]
    pressed: Iterator[str] | None = None
    options = Options(pressure=lambda: "" if pressed is None else next(pressed))
    async with running(tmp_path, options) as world, world.call() as wire:
        pressed = cycle(reasons)
        with pytest.raises(InvalidStatus) as refused:
            async with world.wire(app_id="other"):
                pass
        response = refused.value.response
        assert (response.status_code, response.headers["Retry-After"]) == (503, "5")
        assert msgspec.json.decode(response.body or b"") == {"code": "overloaded", "message": reasons[0]}
        async with world.wire() as fresh:
            await fresh.send(Start())
            assert (await cut_off(fresh)).message == reasons[0]
        again = await resumed(world, wire)
        await again.send(voice(300))
        await again.send(Hangup())
        ended = await again.until(Ended)
        assert ended.samples == 2400
        pressed = None
        async with world.call(app_id="other"):
            pass


async def test_fifty_peers_that_drip_their_headers_are_cut_and_a_call_beside_them_goes_on(tmp_path: Path) -> None:
    async with running(tmp_path, Options(door={"handshake_timeout_s": 0.3})) as world:
        port = world.server.sockets[0].getsockname()[1]
        async with world.call() as wire:
            drippers = [await asyncio.open_connection("127.0.0.1", port) for _ in range(50)]
            for _, writer in drippers:
                writer.write(b"GET /v1/calls HTTP/1.1\r\nHost: x\r\n")
            await wire.send(voice(1000))
            await wire.until(Ack, lambda ack: ack.samples == 8000)
            async with asyncio.timeout(PATIENCE_S):
                for reader, writer in drippers:
                    with pytest.raises((ConnectionResetError, EOFError)):
                        _ = await reader.readexactly(1)
                    writer.close()
            await wire.send(Ping())
            await wire.until(Pong)


async def test_of_too_many_silent_peers_the_oldest_go_and_a_newcomer_gets_in(tmp_path: Path) -> None:
    async with running(tmp_path, Options(door={"max_strangers": 5})) as world:
        port = world.server.sockets[0].getsockname()[1]
        with ExitStack() as held:
            peers = []
            for _ in range(20):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                held.callback(writer.close)
                peers.append(reader)
            async with asyncio.timeout(PATIENCE_S):
                for reader in peers[:14]:
                    with pytest.raises((ConnectionResetError, EOFError)):
                        _ = await reader.readexactly(1)
            async with world.call() as wire:
                await wire.send(Ping())
                await wire.until(Pong)
