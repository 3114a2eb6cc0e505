"""The native socket's good paths: a call from `start` to `ended` over a real connection."""

from pathlib import Path

import pytest

from gateway.ports import Candidate, Unavailable
from protocol.audio import compress
from protocol.codec import encode_framed
from protocol.messages import (
    Ack,
    Alert,
    AlertUpdate,
    ClientTranscript,
    Continue,
    Dtmf,
    Ended,
    Gap,
    Hangup,
    Mark,
    Pause,
    Ping,
    Pong,
    QcResult,
    QcStatus,
    Segment,
    ServerMessage,
    Speaker,
    Start,
    Started,
    Transcript,
    Update,
)
from tests.integration.world import Options, World, running
from tests.unit.call.sound import silence, stereo, voice

CONVERSATION = silence(500) + voice(4000) + silence(1000) + voice(1500, seed=2) + silence(1000)


def pieces(pcm: bytes, size: int = 3200) -> list[bytes]:
    return [pcm[at : at + size] for at in range(0, len(pcm), size)]


async def test_a_call_starts_before_any_audio_and_names_its_terms(world: World) -> None:
    async with world.wire() as wire:
        await wire.send(Start(rate=16000, channels=2))
        started = await wire.until(Started)
    assert (started.seq, started.at_ms, started.rate, started.channels) == (1, 0, 16000, 2)
    assert started.resume_window_s == 60
    assert started.limits == {"max_message_bytes": 262144, "max_call_s": 3600, "max_unacked_ms": 10000}
    assert started.call_id
    assert started.resume_token


async def test_acks_reach_the_number_of_samples_sent(world: World) -> None:
    async with world.call() as wire:
        for piece in pieces(silence(3000), 997):
            await wire.send(piece)
        await wire.until(Ack, lambda ack: ack.samples == 24000)
    acked = [ack.samples for ack in wire.logged(Ack)]
    assert acked == sorted(set(acked))


async def test_speech_brings_segments_text_speakers_alerts_and_a_verdict_in_order(tmp_path: Path) -> None:
    verdict = {"detection_result": [{"category": "debt", "keyword": ["refund"]}]}
    rules = {"debt": ["refund"], "talk": ["weather"]}
    async with running(tmp_path, Options(rules=rules, qc_result=verdict)) as world:
        world.recognizer.partials = {"s1": "i want a"}
        world.recognizer.finals = {"s1": "i want a refund now", "s2": "nice weather today"}
        async with world.call(org_id="bank") as wire:
            for piece in pieces(CONVERSATION):
                await wire.send(piece)
            await wire.send(Hangup())
            assert await wire.closed() == (1000, "ended")
        check_log(wire.log)
        assert world.voiceprint.asked[0] == ("demo", "bank", None)
        record = world.records.records["demo", wire.started.call_id]
        assert record.state == "judged"
        assert [alert["status"] for alert in record.document["alerts"]] == ["confirmed", "not_confirmed"]
        assert world.recorded_pcm(wire.started.call_id) == CONVERSATION


def check_log(log: list[ServerMessage]) -> None:
    numbered = [message.seq for message in log]
    assert numbered == list(range(1, len(log) + 1))
    of_kind = {kind: [one for one in log if isinstance(one, kind)] for kind in {type(one) for one in log}}
    segments = [one for one in log if isinstance(one, Segment)]
    assert [(one.segment_id, one.state) for one in segments] == [
        ("s1", "opened"), ("s1", "closed"), ("s2", "opened"), ("s2", "closed"),
    ]  # fmt: skip
    finals = [one for one in log if isinstance(one, Transcript) and one.final]
    assert [one.text for one in finals] == ["i want a refund now", "nice weather today"]
    assert "".join(word.text for word in finals[0].words) == finals[0].text
    assert next(one.text for one in log if isinstance(one, Transcript) and not one.final) == "i want a"
    labels = [one for one in log if isinstance(one, Speaker)]
    assert labels[0].state == "known"
    assert (labels[0].name, labels[0].net_speech_ms) == ("Anna", 3000)
    alerts = [one for one in log if isinstance(one, Alert)]
    assert [(one.category, one.rule, one.keywords) for one in alerts] == [
        ("debt", "refund", ["refund"]), ("talk", "weather", ["weather"]),
    ]  # fmt: skip
    assert alerts[0].evidence[0].text[alerts[0].evidence[0].begin : alerts[0].evidence[0].end] == "refund"
    # The text made in the closing silence may come before the segment closes: then the alert is provisional first.
    updates = [one for one in log if isinstance(one, AlertUpdate)]
    for alert, verdict in zip(alerts, ("confirmed", "not_confirmed"), strict=True):
        statuses = [alert.certainty, *(one.status for one in updates if one.alert_id == alert.alert_id)]
        assert statuses in (["provisional", "final", verdict], ["final", verdict])
    assert [one.state for one in log if isinstance(one, QcStatus)] == [1, 2]
    assert isinstance(log[-2], QcResult)
    ended = log[-1]
    assert isinstance(ended, Ended)
    assert (ended.samples, ended.duration_ms, ended.reason) == (len(CONVERSATION) // 2, 8000, "hangup")
    assert Ack in of_kind


async def test_two_channels_carry_their_roles_and_one_voice_on_both_is_a_conflict(world: World) -> None:
    world.voiceprint.candidates = (Candidate("Anna", 81.0),)
    both = stereo(voice(4000) + silence(1000), silence(500) + voice(4000, seed=3) + silence(500))
    async with world.call(channels=2) as wire:
        for piece in pieces(both):
            await wire.send(piece)
        await wire.send(Hangup())
        await wire.until(Ended)
    assert {(one.channel, one.role) for one in wire.logged(Segment)} == {(0, "agent"), (1, "customer")}
    assert wire.logged(Speaker)[-1].state == "conflict"


@pytest.mark.parametrize("encoding", ["pcmu", "pcma"])
async def test_companded_audio_is_recorded_as_linear(world: World, encoding: str) -> None:
    payload = compress(encoding, voice(200))  # type: ignore[arg-type]
    async with world.call(encoding=encoding) as wire:
        await wire.send(payload)
        await wire.send(Hangup())
        await wire.until(Ended)
    recorded = world.recorded_pcm(wire.started.call_id)
    assert len(recorded) == 2 * len(payload)
    assert compress(encoding, recorded) == payload  # type: ignore[arg-type]


async def test_a_frame_missing_on_the_way_is_a_declared_gap(world: World) -> None:
    pcm = voice(300)
    async with world.call(framing="framed") as wire:
        await wire.send(encode_framed(pcm[:1600], 0, 0))
        await wire.send(encode_framed(pcm[3200:], 2, 1600))
        gap = await wire.until(Gap)
        await wire.send(Hangup())
        await wire.until(Ended)
    assert (gap.channel, gap.from_sample, gap.to_sample, gap.cause) == (0, 800, 1600, "network")
    assert world.recorded_pcm(wire.started.call_id) == pcm[:1600] + bytes(1600) + pcm[3200:]


async def test_what_comes_in_a_pause_is_recorded_as_silence(world: World) -> None:
    before, secret, after = voice(1000), voice(2000, seed=4), voice(1000, seed=5)
    async with world.call() as wire:
        for part in (before, Pause(), secret, Continue(), after, Hangup()):
            await wire.send(part)
        await wire.until(Ended)
    assert world.recorded_pcm(wire.started.call_id) == before + bytes(len(secret)) + after
    [gap] = wire.logged(Gap)
    assert (gap.from_sample, gap.to_sample, gap.cause) == (8000, 24000, "pause")


async def test_a_pong_carries_the_ping_s_id_and_no_number(world: World) -> None:
    async with world.call() as wire:
        await wire.send(Ping(id="p7"))
        pong = await wire.until(Pong)
    assert (pong.id, pong.seq, pong.call_id) == ("p7", 0, wire.started.call_id)


async def test_a_sentence_of_the_client_raises_an_alert_and_update_narrows_the_rules(tmp_path: Path) -> None:
    async with running(tmp_path, Options(rules={"debt": ["refund"], "talk": ["weather"]})) as world:
        async with world.call() as wire:
            await wire.send(Update(categories=["talk"], metadata={"agent": "Ben"}))
            await wire.send(ClientTranscript(text="a refund in this weather", begin_ms=0, end_ms=900))
            alert = await wire.until(Alert)
            await wire.send(Hangup())
            await wire.until(Ended)
        assert (alert.category, alert.certainty) == ("talk", "final")
        assert len(wire.logged(Alert)) == 1
        [task] = world.tasks.tasks.values()
        assert task.categories == ("talk",)


async def test_keys_and_marks_are_kept_with_their_position(world: World) -> None:
    async with world.call() as wire:
        await wire.send(silence(500))
        await wire.send(Dtmf(digit="#"))
        await wire.send(Mark(name="transferred"))
        await wire.send(Hangup())
        await wire.until(Ended)
    notes = world.records.records["demo", wire.started.call_id].document["notes"]
    assert notes == [
        {"kind": "dtmf", "value": "#", "at_ms": 500},
        {"kind": "mark", "value": "transferred", "at_ms": 500},
    ]


async def test_a_recogniser_that_is_gone_leaves_segments_without_text_and_the_call_ends(world: World) -> None:
    world.recognizer.fault = Unavailable("no engine")
    async with world.call() as wire:
        for piece in pieces(CONVERSATION):
            await wire.send(piece)
        await wire.send(Hangup())
        ended = await wire.until(Ended)
    assert ended.reason == "hangup"
    assert {one.text for one in wire.logged(Transcript)} == {""}


async def test_a_client_that_does_not_wait_for_the_verdict_is_told_that_it_is_pending(tmp_path: Path) -> None:
    async with running(tmp_path, Options(qc_result=None)) as world, world.call() as wire:
        await wire.send(silence(100))
        await wire.send(Hangup(wait_qc_ms=0))
        ended = await wire.until(Ended)
    assert ended.reason == "qc_pending"
    assert list(world.tasks.tasks) == [wire.started.call_id]
