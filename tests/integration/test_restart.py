"""A server is killed or replaced while calls go on: each goes on where it was, and its client hardly notices."""

import asyncio
import io
import signal
import socket
import wave
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from gateway.ports import StoredCategory
from gateway.stores.journal_records import Kind, Located, scan
from protocol.client import CallClient, CallRefused
from protocol.messages import (
    Ack,
    Alert,
    AlertUpdate,
    Continue,
    Dtmf,
    Ended,
    Gap,
    GoingAway,
    Mark,
    Pause,
    QcResult,
    Segment,
    ServerMessage,
    Start,
    Update,
)
from tests.client import Account, account
from tests.earshot_process import HUMMED, EarshotProcess
from tests.integration.hummed import RATE_HZ, eventually, humming

START = Start(rate=RATE_HZ, channels=1, language="en", metadata={"agent": "Anna"})
BEFORE = humming((0, 400), (130, 1500), (0, 1500), (100, 900))
AFTER = humming((100, 1000), (0, 1200), (200, 1000), (0, 1000))
M = TypeVar("M")


def free_ports() -> tuple[str, str]:
    """Two addresses that nobody listens at: a server that is replaced comes back at its own."""
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{one.getsockname()[1]}", f"127.0.0.1:{two.getsockname()[1]}"


@dataclass
class Replaceable:
    """A data folder and two addresses, and the process that serves them at the moment."""

    data: Path
    environment: dict[str, str] = field(default_factory=dict)
    http: str = ""
    ws: str = ""
    process: EarshotProcess | None = None

    def start(self, **environment: str) -> EarshotProcess:
        if not self.http:
            self.http, self.ws = free_ports()
        settings = {"EARSHOT_APPS": "demo:secret", "EARSHOT_QC_POLL_S": "0.05", **self.environment, **environment}
        self.process = EarshotProcess(self.data, settings, module=HUMMED, http=self.http, ws=self.ws)
        self.process.wait_until_listening()
        return self.process

    async def replace(self, number: signal.Signals, **environment: str) -> None:
        """End the process, and start the next one at the same addresses."""
        assert self.process is not None
        self.process.signal(number)
        await asyncio.to_thread(self.process.process.wait, 30)
        await asyncio.to_thread(self.start, **environment)

    @property
    def log(self) -> str:
        assert self.process is not None
        return self.process.log

    def account(self) -> Any:
        assert self.process is not None
        return account(self.process.http, self.process.ws, "demo", "secret")

    def client(self) -> CallClient:
        assert self.process is not None
        return CallClient(self.process.ws, START, app_id="demo", secret="secret")


@pytest.fixture
def server(tmp_path: Path) -> Any:
    one = Replaceable(tmp_path / "data")
    yield one
    if one.process is not None:
        one.process.kill()


class Listening:
    """Reads a call's messages in the background, and lets a test wait for one."""

    def __init__(self, client: CallClient) -> None:
        self.messages: list[ServerMessage] = []
        self._more = asyncio.Condition()
        self._task = asyncio.create_task(self._listen(client))

    async def _listen(self, client: CallClient) -> None:
        try:
            async for message in client:
                async with self._more:
                    self.messages.append(message)
                    self._more.notify_all()
        finally:
            async with self._more:
                self._more.notify_all()

    def of(self, kind: type[M]) -> list[M]:
        return [message for message in self.messages if isinstance(message, kind)]

    async def until(self, kind: type[M], wanted: Callable[[M], bool] = lambda _: True) -> M:
        async with asyncio.timeout(100), self._more:
            while True:
                for message in self.of(kind):
                    if wanted(message):
                        return message
                if self._task.done():
                    await self._task
                    raise AssertionError(f"the call ended without such a {kind.__name__}")
                await self._more.wait()

    async def failure(self) -> BaseException | None:
        async with asyncio.timeout(60):
            await asyncio.wait([self._task])
        return self._task.exception()

    def is_one_unbroken_call(self) -> None:
        numbered = [message.seq for message in self.messages if message.seq]
        assert numbered == sorted(set(numbered)), "no number is used twice"
        missed = set(range(1, numbered[-1] + 1)) - set(numbered)
        assert len(missed) <= len(self.of(Ack)), "of what was missed only acks are not sent again"
        opened = [one.segment_id for one in self.of(Segment) if one.state == "opened"]
        assert opened == [f"s{number + 1}" for number in range(len(opened))]
        closed = [one.segment_id for one in self.of(Segment) if one.state == "closed"]
        assert sorted(closed) == sorted(opened), "every utterance is closed once"


async def told_of(app: Account, call_id: str) -> dict[str, Any]:
    status, body = await app.get(f"/v1/calls/{call_id}")
    assert status == 200
    told: dict[str, Any] = msgspec.json.decode(body)
    return told


async def recorded(app: Account, call_id: str) -> bytes:
    status, body = await app.get(f"/v1/calls/{call_id}/recording")
    assert status == 200
    with wave.open(io.BytesIO(body)) as wav:
        return bytes(wav.readframes(wav.getnframes()))


async def judged(app: Account, call_id: str) -> dict[str, Any]:
    async def told() -> dict[str, Any] | None:
        document = await told_of(app, call_id)
        return document if document["state"] == "judged" else None

    document = await eventually(told, patience_s=90)
    assert document is not None
    return document


async def a_call(
    server: Replaceable, then: Callable[[CallClient, Listening], Awaitable[None]]
) -> tuple[Listening, dict[str, Any], bytes]:
    """Speak, let something happen to the server, speak on and hang up: the messages, the document, the recording."""
    server.start()
    async with server.account() as app:
        await app.quality.add_rule("demo", StoredCategory("Money back", "", ("refund",)))
        async with server.client() as client:
            heard = Listening(client)
            await client.send_audio(BEFORE)
            await heard.until(Alert)
            await then(client, heard)
            await client.send_audio(AFTER)
            await client.hang_up()
            await heard.until(Ended)
            document = await judged(app, client.call_id)
            recording = await recorded(app, client.call_id)
    heard.is_one_unbroken_call()
    return heard, document, recording


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_call_goes_on_in_the_next_process(server: Replaceable, number: signal.Signals) -> None:
    async def replace_it(client: CallClient, heard: Listening) -> None:
        await server.replace(number)

    heard, document, recording = await a_call(server, replace_it)
    assert recording == BEFORE + AFTER
    assert len(heard.of(GoingAway)) == (number is signal.SIGTERM)
    (alert,) = heard.of(Alert)
    assert [one.status for one in heard.of(AlertUpdate) if one.alert_id == alert.alert_id][-1] == "confirmed"
    assert heard.of(QcResult)[0].missed == []
    ended = heard.of(Ended)[0]
    assert (ended.samples, ended.reason) == (len(recording) // 2, "hangup")
    assert document["alerts"][0]["status"] == "confirmed"
    assert document["gaps"] == []
    assert [one["text"] for one in document["segments"]] == [
        "I want a refund.",
        "How can I help you?",
        "Goodbye.",
    ]
    assert server.log.count("quality_task_finished") == 1
    assert "Traceback" not in server.log


async def test_a_call_outlives_its_server_again_and_again(server: Replaceable) -> None:
    async def keep_killing_it(client: CallClient, heard: Listening) -> None:
        for pitch_hz in (100, 160, 200):
            await server.replace(signal.SIGKILL)
            await client.send_audio(humming((pitch_hz, 700), (0, 1000)))

    _, document, recording = await a_call(server, keep_killing_it)
    assert len(recording) == len(BEFORE) + len(AFTER) + 2 * RATE_HZ * 51 // 10
    assert document["alerts"][0]["status"] == "confirmed"
    assert server.log.count("quality_task_finished") == 1


async def test_what_the_client_said_beside_its_audio_is_not_lost_either(server: Replaceable) -> None:
    async def say_much(client: CallClient, heard: Listening) -> None:
        await client.send(Dtmf(digit="5"))
        async with server.account() as app:  # it was taken, and no ack has said so

            async def noted() -> bool:
                return bool((await told_of(app, client.call_id))["notes"])

            await eventually(noted)
        await server.replace(signal.SIGKILL)
        await client.send(Update(metadata={"order": 7}, roles=["customer"]))
        await client.send(Pause())
        await client.send_audio(humming((160, 1000)))
        await server.replace(signal.SIGKILL)
        await client.send(Mark(name="card read"))
        await client.send_audio(humming((160, 500)))
        await client.send(Continue())

    heard, document, recording = await a_call(server, say_much)
    assert recording == BEFORE + bytes(2 * RATE_HZ * 3 // 2) + AFTER
    begin, end = len(BEFORE) // 2, len(BEFORE) // 2 + RATE_HZ * 3 // 2
    assert [(one.from_sample, one.to_sample, one.cause) for one in heard.of(Gap)] == [(begin, end, "pause")]
    assert document["metadata"] == {"agent": "Anna", "order": 7}
    assert document["roles"] == ["customer"]
    assert document["notes"] == [
        {"kind": "dtmf", "value": "5", "at_ms": begin * 1000 // RATE_HZ},
        {"kind": "mark", "value": "card read", "at_ms": (begin + RATE_HZ) * 1000 // RATE_HZ},
    ]


@pytest.mark.parametrize("hung_up_first", [True, False])
async def test_a_hangup_around_a_kill_leads_to_one_verdict(server: Replaceable, hung_up_first: bool) -> None:
    server.start()
    async with server.account() as app:
        await app.quality.add_rule("demo", StoredCategory("Money back", "", ("refund",)))
        async with server.client() as client:
            heard = Listening(client)
            await client.send_audio(BEFORE)
            await heard.until(Alert)
            if hung_up_first:
                await client.hang_up("done")
                await server.replace(signal.SIGKILL)
            else:
                assert server.process is not None
                server.process.kill()
                await client.hang_up("done")
                await asyncio.to_thread(server.start)
            ended = await heard.until(Ended)
            await judged(app, client.call_id)
            assert await recorded(app, client.call_id) == BEFORE
    heard.is_one_unbroken_call()
    assert (ended.samples, ended.reason) == (len(BEFORE) // 2, "done")
    assert heard.of(AlertUpdate)[-1].status == "confirmed"
    assert server.log.count("quality_task_finished") == 1


async def test_a_call_whose_client_does_not_come_back_is_hung_up_and_judged(server: Replaceable) -> None:
    server.environment = {"EARSHOT_RESUME_WINDOW_S": "1"}
    server.start()
    async with server.account() as app:
        await app.quality.add_rule("demo", StoredCategory("Money back", "", ("refund",)))
        async with server.client() as client:
            heard = Listening(client)
            await client.send_audio(BEFORE)
            await heard.until(Alert)
            assert server.process is not None
            server.process.kill()
        await asyncio.to_thread(server.start)
        document = await judged(app, client.call_id)
        assert (document["reason"], document["alerts"][0]["status"]) == ("lost", "confirmed")
        assert [one["text"] for one in document["segments"]] == ["I want a refund.", "How can I help you?"]
        assert BEFORE.startswith(await recorded(app, client.call_id))
    assert server.log.count("quality_task_finished") == 1


async def test_a_call_that_the_next_program_would_decide_otherwise_is_hung_up_and_its_client_told(
    server: Replaceable,
) -> None:
    server.start()
    async with server.account() as app:
        await app.quality.add_rule("demo", StoredCategory("Money back", "", ("refund",)))
        async with server.client() as client:
            heard = Listening(client)
            await client.send_audio(BEFORE)
            await heard.until(Alert)
            await server.replace(signal.SIGKILL, HUMMED_SEGMENTS="other-")
            fault = await heard.failure()
        assert isinstance(fault, CallRefused)
        assert (fault.code, fault.retryable) == ("not_resumable", False)
        document = await judged(app, client.call_id)
        assert document["reason"] == "node_lost"
        assert document["alerts"][0]["status"] == "confirmed"
        assert BEFORE.startswith(await recorded(app, client.call_id))
    assert "call_not_resumable" in server.log
    assert server.log.count("quality_task_finished") == 1


async def test_a_call_with_a_damaged_part_is_hung_up_with_its_gap_declared(server: Replaceable) -> None:
    server.start()
    async with server.account() as app:
        async with server.client() as client:
            heard = Listening(client)
            for at in range(0, len(BEFORE), 8000):
                await client.send_audio(BEFORE[at : at + 8000])
                sent = min(len(BEFORE), at + 8000) // 2
                await heard.until(Ack, lambda ack, sent=sent: ack.samples >= sent)  # type: ignore[misc]
            assert server.process is not None
            server.process.kill()
            damage(server.data, 8000)
            await asyncio.to_thread(server.start)
            fault = await heard.failure()
        assert isinstance(fault, CallRefused)
        assert fault.code == "not_resumable"
        document = await judged(app, client.call_id)
        recording = await recorded(app, client.call_id)
    (gap,) = document["gaps"]
    begin, end = 2 * gap["from_sample"], 2 * gap["to_sample"]
    assert (gap["cause"], begin <= 16_000 < end) == ("node", True)
    assert recording == BEFORE[:begin] + bytes(end - begin) + BEFORE[end:]
    assert (document["samples"], document["reason"]) == (len(BEFORE) // 2, "node_lost")


def damage(data: Path, sample: int) -> None:
    """Flip a bit of the audio record that holds a sample."""
    (segment,) = data.glob("journal/*/*.log")
    content = bytearray(segment.read_bytes())
    for found in scan(bytes(content)):
        assert isinstance(found, Located)
        record = found.record
        if record.kind is Kind.AUDIO and record.number <= sample < record.number + len(record.payload) // 2:
            content[found.offset_bytes + found.size_bytes // 2] ^= 1
    segment.write_bytes(content)
