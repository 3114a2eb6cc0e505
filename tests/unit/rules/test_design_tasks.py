"""What the design says of a call's task for voice QC and of trying rules; each test is named after its sentence."""

from pathlib import Path
from typing import Literal

import pytest

from gateway.call.settings import CallTerms
from gateway.session.handing_in import quality_task
from protocol.messages import Start
from tests.quality_world import APP, TWO_PARTIES
from tests.unit.clients.test_quality_http import Vendor, _answer


@pytest.mark.parametrize(("channels", "split"), [(1, False), (2, True)])
@pytest.mark.parametrize("categories", [(), ("Money back", "Farewell")])
async def test_the_gateway_creates_its_tasks_with_detection_its_detail_split_channels_for_two_and_starts_categories(
    tmp_path: Path, channels: Literal[1, 2], split: bool, categories: tuple[str, ...]
) -> None:
    recording = tmp_path / "call.wav"
    recording.write_bytes(TWO_PARTIES)
    start = Start(rate=8000, channels=channels, categories=list(categories))
    terms = CallTerms.of("a call", start)
    vendor = Vendor(_answer(result={"session_id": "a call"}))
    async with vendor.serving() as client:
        await client.create(quality_task(APP, terms, recording, terms.language, terms.categories))
    (_, _, body), *_ = vendor.asked
    assert (body["session_id"], body["enable_detection"], body["enable_detection_detail"]) == ("a call", True, True)
    assert body["is_split_channel"] is split
    assert tuple(body.get("categories", ())) == categories
