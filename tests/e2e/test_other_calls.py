"""The other wire formats and the other language, each once through the whole system."""

import asyncio
import io
import wave

import numpy as np
import pytest
from numpy.typing import NDArray
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from gateway.demo.check import stages
from gateway.demo.material import categories, demo_call
from gateway.ports import StoredCategory
from gateway.terminal.softphone import read_audio
from protocol.audio import AudioFormat, compress
from protocol.codec import SUBPROTOCOL, decode_server, encode, encode_framed
from protocol.messages import Ack, Ended, Error, Gap, Hangup, QcResult, Segment, Speaker, Start, Started
from tests.client import CALL_TIMEOUT_S, Account, CallLog, play
from tests.e2e.script import AGENT, ESCALATION, NOTICE, REFUND, RULES, VISIT, Recital, prepare
from tests.e2e.words import word_error_rate

pytestmark = [pytest.mark.models, pytest.mark.timeout(400)]

SPEED = 4.0
"""Faster than speech: what is asserted here depends on what is said, not on when."""
HIT = {one.category for one in RULES if one.contents[0] in (REFUND, ESCALATION, VISIT, NOTICE)}


async def recorded(app: Account, log: CallLog) -> tuple[int, int, bytes]:
    """Rate, channels and samples of the recording."""
    status, body = await app.get(f"/v1/calls/{log.call_id}/recording")
    assert status == 200
    with wave.open(io.BytesIO(body)) as wav:
        return wav.getframerate(), wav.getnchannels(), wav.readframes(wav.getnframes())


def script_was_heard(log: CallLog, script: Recital) -> None:
    assert not log.of(Error)
    assert log.of(Ack)[-1].samples == log.one(Ended).samples
    numbered = [message.seq for message in log.messages if message.seq]
    assert numbered == list(range(1, len(numbered) + 1))
    said = " ".join(turn.text for turn in script.turns)
    assert word_error_rate(said, log.one(QcResult).result["asr_text"]) < 0.2
    assert log.hits == HIT


@pytest.mark.parametrize("app", ["line"], indirect=True)
async def test_a_telephone_line_that_carries_both_parties_is_heard_and_judged(app: Account, script: Recital) -> None:
    line = script.at(8000)
    await prepare(app, line, RULES)
    start = Start(encoding="pcmu", rate=8000, channels=1, language="en", metadata={"agent": AGENT})
    log = await play(app, start, line.mono.tobytes(), speed=SPEED)

    script_was_heard(log, script)
    assert {one.role for one in log.of(Segment)} == {"mixed"}
    assert AGENT in {one.name for one in log.of(Speaker) if one.state == "known"}
    law = AudioFormat("pcmu", 8000, 1)
    assert await recorded(app, log) == (8000, 1, law.to_pcm(compress("pcmu", log.pcm)))


@pytest.mark.parametrize("app", ["wide"], indirect=True)
async def test_framed_stereo_at_48_khz_is_heard_and_judged(app: Account, script: Recital) -> None:
    wide = script.at(48000)
    await prepare(app, wide, RULES)
    log = await framed_call(app, wide.samples)

    script_was_heard(log, script)
    assert not log.of(Gap)
    assert {one.role for one in log.of(Segment)} == {"agent", "customer"}
    assert {one.name for one in log.of(Speaker) if one.state == "known"} == {AGENT}
    assert await recorded(app, log) == (48000, 2, log.pcm)


async def framed_call(app: Account, samples: NDArray[np.int16]) -> CallLog:
    """Each channel in frames of its own, 100 ms each, as a client without the SDK would send them."""
    log = CallLog(samples.tobytes())
    step = 4800
    start = Start(rate=48000, channels=2, language="en", framing="framed", metadata={"agent": AGENT})
    async with (
        asyncio.timeout(CALL_TIMEOUT_S),
        connect(
            app.ws,
            additional_headers=app.headers,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,
            proxy=None,
        ) as socket,
        asyncio.TaskGroup() as group,
    ):
        await socket.send(encode(start), text=True)

        async def speak() -> None:
            for number, at in enumerate(range(0, len(samples), step)):
                for channel in (0, 1):
                    payload = np.ascontiguousarray(samples[at : at + step, channel]).tobytes()
                    await socket.send(encode_framed(payload, 2 * number + channel, at, channel))
            await socket.send(encode(Hangup()), text=True)

        async for payload in socket:
            log.messages.append(decode_server(payload))
            if isinstance(log.messages[-1], Started):
                group.create_task(speak())
    return log


@pytest.mark.parametrize("app", ["zh"], indirect=True)
async def test_a_mandarin_call_passes_every_stage_of_the_demo(app: Account) -> None:
    call = demo_call("zh")
    enrolment = call.enrolment.read_bytes()
    await app.voices.register(app.app_id, app.app_id, "agents", call.agent.name, enrolment, filename="agent.flac")
    for one in categories("zh"):
        await app.quality.add_rule(app.app_id, StoredCategory(one.name, one.description, one.contents))
    pcm, _ = read_audio(call.audio, 16000, 2)
    start = Start(rate=16000, channels=2, language="zh", metadata={"agent": call.agent.name})
    log = await play(app, start, pcm, speed=SPEED)

    # Played faster than speech, an alert may come after the hangup; all else must have happened.
    faults = {
        stage.name: stage.fault
        for stage in stages(call, log.messages, len(pcm) // 4, log.before_hangup)
        if stage.name != "alerts pushed before hangup"
    }
    assert not any(faults.values()), faults
