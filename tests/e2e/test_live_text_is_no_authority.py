"""Voice QC transcribes the recording itself: what live recognition made of a call changes nothing of the verdict."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from gateway.app import EarshotServer
from gateway.ports import Recognizer, TranscribeRequest, Transcription, Word
from gateway.settings import Settings
from protocol.messages import QcResult, Start, Transcript
from tests.client import CallLog, account, play
from tests.e2e.script import AGENT, ESCALATION, LEAVING, LEGAL, NOTICE, REFUND, RULES, VISIT, Recital, prepare

pytestmark = [pytest.mark.models, pytest.mark.timeout(400)]

APP, SECRET = "demo", "secret"
SPEED = 4.0
LIE = ("I", " will", " call", " my", " lawyer", " about", " the", " weather.")
CATEGORY = {one.contents[0]: one.category for one in RULES}


@dataclass
class CorruptRecognizer:
    """Hears the same wrong words in everything live while `lying`; recordings are heard as they are."""

    honest: Recognizer
    lying: bool = False

    async def transcribe(self, request: TranscribeRequest) -> Transcription | None:
        if request.kind == "recording" or not self.lying:
            return await self.honest.transcribe(request)
        each_ms = len(request.pcm) * 1000 // (2 * request.rate_hz) // len(LIE)
        words = tuple(Word(text, at * each_ms, (at + 1) * each_ms) for at, text in enumerate(LIE))
        return Transcription("".join(LIE), "en", words)


async def test_corrupted_live_text_leaves_the_verdict_as_it_is(
    tmp_path: Path, models_dir: Path, script: Recital
) -> None:
    settings = Settings(
        http="127.0.0.1:0",
        ws="127.0.0.1:0",
        data=str(tmp_path / "data"),
        models_dir=str(models_dir),
        apps=f"{APP}:{SECRET}",
    )
    server = EarshotServer(settings)
    corrupt = server.engines.recognizer = CorruptRecognizer(server.engines.recognizer)
    addresses = await server.start()
    try:
        # The threat to leave, the refund and the offer are in the first five turns, and enough for this.
        pcm = script.samples[: script.turns[5].begin_ms * script.rate_hz // 1000].tobytes()
        start = Start(rate=16000, channels=2, language="en", metadata={"agent": AGENT})
        async with account(addresses.http, addresses.ws, APP, SECRET) as app:
            await prepare(app, script, RULES)
            honest = await play(app, start, pcm, speed=SPEED)
            corrupt.lying = True
            corrupted = await play(app, start, pcm, speed=SPEED)
            _, body = await app.get(f"/v1/calls/{corrupted.call_id}")
    finally:
        await server.stop()

    assert "lawyer" not in honest.said_by(0) + honest.said_by(1)
    assert {one.text for one in corrupted.of(Transcript) if one.final} == {"".join(LIE)}
    assert verdict(corrupted) == verdict(honest)
    assert honest.hits == {CATEGORY[REFUND], CATEGORY[NOTICE]}
    assert honest.one(QcResult).missed == []

    (legal,) = corrupted.alerts_of(LEGAL)
    assert corrupted.statuses_of(legal)[-2:] == ["final", "not_confirmed"]
    for rule in (REFUND, LEAVING, ESCALATION, VISIT):
        assert corrupted.alerts_of(rule) == []
    (notice,) = corrupted.alerts_of(NOTICE)
    assert corrupted.statuses_of(notice) == ["final", "confirmed"]
    assert [(one.category, one.rule) for one in corrupted.one(QcResult).missed] == [(CATEGORY[REFUND], REFUND)]
    the_stored_call_says_so_too(msgspec.json.decode(body), corrupted)


def verdict(log: CallLog) -> dict[str, Any]:
    """What voice QC made of a call, without what names this one task."""
    result = log.one(QcResult).result
    return {key: value for key, value in result.items() if key != "session_id"}


def the_stored_call_says_so_too(stored: dict[str, Any], log: CallLog) -> None:
    assert stored["state"] == "judged"
    assert {alert["rule"]: alert["status"] for alert in stored["alerts"]} == {
        LEGAL: "not_confirmed",
        NOTICE: "confirmed",
    }
    assert [one["rule"] for one in stored["qc"]["missed"]] == [REFUND]
    assert np.all([segment["text"] == "".join(LIE) for segment in stored["segments"]])
