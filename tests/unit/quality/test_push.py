"""Results that our voice QC pushes to the addresses its callers gave."""

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.ports import NO_HEADERS, FetchedFile, PortError, Rejected, Unavailable
from protocol.quality import TaskRequest, parse_task
from protocol.quality_callback import DELIVERY_HEADER, SIGNATURE_HEADER, verified_delivery
from tests.quality_world import APP, OTHER_SECRET, SECRET, TWO_PARTIES, QualityWorld, encoded

URL = "https://desk.example/done?call=7"
DAY_S = 24 * 3600


class Desk:
    """Whoever is called back: remembers what came, and fails as scripted."""

    def __init__(self) -> None:
        self.faults: list[PortError] = []
        self.taken: list[tuple[str, dict[str, Any]]] = []
        self.signed: list[tuple[dict[str, str], bytes]] = []
        self.attempts: list[dict[str, str]] = []
        self.asked = 0
        self.hang = False
        self.rang = asyncio.Event()

    async def fetch(self, url: str, *, max_bytes: int) -> FetchedFile:
        raise Rejected("nothing is fetched here")

    async def post_json(self, url: str, body: bytes, headers: Mapping[str, str] = NO_HEADERS) -> None:
        self.attempts.append(dict(headers))
        self.asked += 1
        self.rang.set()
        if self.hang:
            await asyncio.Event().wait()
        if self.faults:
            raise self.faults.pop(0)
        self.signed.append((dict(headers), body))
        self.taken.append((url, msgspec.json.decode(body)))


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def world(tmp_path: Path, desk: Desk) -> Iterator[QualityWorld]:
    made = QualityWorld(tmp_path, fetcher=desk)
    yield made
    made.close()


def request(session_id: str = "s", callback_url: str = URL) -> TaskRequest:
    return parse_task(
        {"session_id": session_id, "pid": 80006, "speech_data": encoded(TWO_PARTIES), "callback_url": callback_url}
    )


async def judged(world: QualityWorld, **fields: str) -> None:
    await world.service.submit(APP, request(**fields))
    await world.worker.work_until_idle()


async def push_status(world: QualityWorld, session_id: str = "s") -> str:
    return str((await world.service.status(APP, session_id))["push_status_desc"])


async def test_a_result_is_pushed_once_as_a_query_would_answer_it(world: QualityWorld, desk: Desk) -> None:
    await world.service.submit(APP, request())
    await world.pusher.push_due()
    assert desk.asked == 0, "there is no result yet"
    assert await push_status(world) == "等待推送"
    await world.worker.work_until_idle()
    assert await world.pusher.push_due() == 1
    assert await world.pusher.push_due() == 0
    ((url, body),) = desk.taken
    assert url == URL
    assert (body["error_code"], body["result"]["session_id"], body["result"]["state"]) == (0, "s", 2)
    assert body["result"]["asr_text"]
    assert await push_status(world) == "推送成功"


async def test_a_result_is_signed_with_each_secret_of_its_app_under_a_name_that_attempts_share(
    world: QualityWorld, desk: Desk
) -> None:
    world.apps.known[APP] = (SECRET, "the next secret")
    desk.faults = [Unavailable("HTTP 503")]
    await judged(world)
    await world.pusher.push_due()
    world.clock.seconds += 300
    await world.pusher.push_due()
    ((headers, body),) = desk.signed
    now_s = world.clock.seconds
    delivery_id = verified_delivery(SECRET, headers, body, now_s=now_s)
    assert delivery_id
    assert verified_delivery("the next secret", headers, body, now_s=now_s) == delivery_id
    assert verified_delivery(OTHER_SECRET, headers, body, now_s=now_s) is None
    assert [attempt[DELIVERY_HEADER] for attempt in desk.attempts] == [delivery_id] * 2
    assert desk.attempts[0][SIGNATURE_HEADER] != desk.attempts[1][SIGNATURE_HEADER], "each says its own time"
    await judged(world)
    await world.pusher.push_due()
    assert desk.attempts[-1][DELIVERY_HEADER] != delivery_id, "another submission is another delivery"


async def test_nothing_is_pushed_for_an_app_that_is_gone(world: QualityWorld, desk: Desk) -> None:
    await world.service.submit(APP, request())
    await world.worker.work_until_idle()
    del world.apps.known[APP]
    await world.pusher.push_due()
    assert desk.asked == 0
    assert await push_status(world) == "推送失败"


async def test_without_a_callback_url_nobody_is_called(world: QualityWorld, desk: Desk) -> None:
    await judged(world, callback_url="")
    await world.pusher.push_due()
    assert desk.asked == 0
    assert await push_status(world) == "未设置回调"


async def test_a_failed_judgement_is_pushed_too(world: QualityWorld, desk: Desk) -> None:
    not_speech = parse_task(
        {"session_id": "s", "pid": 80006, "speech_data": encoded(b"RIFF" + bytes(99)), "callback_url": URL}
    )
    await world.service.submit(APP, not_speech)
    await world.worker.work_until_idle()
    await world.pusher.push_due()
    assert [body["result"]["state"] for _, body in desk.taken] == [3]


@pytest.mark.row(23)
async def test_a_desk_that_is_away_is_called_again_later_and_later(world: QualityWorld, desk: Desk) -> None:
    desk.faults = [Unavailable("HTTP 503"), Unavailable("HTTP 429", retry_after_s=60), Unavailable("no answer")]
    await judged(world)
    waits = []
    while not desk.taken:
        await world.pusher.push_due()
        next_at = await world.pushes.next_at()
        if next_at is not None:
            waits.append(next_at - world.clock.seconds)
            world.clock.seconds = next_at
    assert waits == [1, 2 + 60, 4]
    assert await push_status(world) == "推送成功"


@pytest.mark.row(26)
@pytest.mark.parametrize("fault", [Rejected("HTTP 410", code="http_410"), Rejected("the address is not a public one")])
async def test_a_refusal_is_given_up_at_once(world: QualityWorld, desk: Desk, fault: PortError) -> None:
    desk.faults = [fault]
    await judged(world)
    await world.pusher.push_due()
    assert await world.pushes.next_at() is None
    assert await push_status(world) == "推送失败"


@pytest.mark.row(26)
async def test_a_desk_that_stays_away_for_a_day_is_given_up(world: QualityWorld, desk: Desk) -> None:
    desk.faults = [Unavailable("no route")] * 1000
    await judged(world)
    began = world.clock.seconds
    while (next_at := await world.pushes.next_at()) is not None:
        world.clock.seconds = max(world.clock.seconds, next_at)
        await world.pusher.push_due()
    assert await push_status(world) == "推送失败"
    assert world.clock.seconds - began == DAY_S


async def test_what_was_not_delivered_before_a_restart_is_delivered_after_it(
    world: QualityWorld, desk: Desk, tmp_path: Path
) -> None:
    await judged(world)
    again = QualityWorld(tmp_path, fetcher=desk)
    await again.pusher.push_due()
    assert [body["result"]["session_id"] for _, body in desk.taken] == ["s"]
    again.close()


async def test_a_session_that_is_submitted_anew_is_pushed_for_its_latest_submission_only(
    world: QualityWorld, desk: Desk
) -> None:
    await judged(world, callback_url="https://desk.example/old")
    await judged(world, callback_url="https://desk.example/new")
    await world.pusher.push_due()
    assert [url for url, _ in desk.taken] == ["https://desk.example/new"]


async def test_a_desk_that_hangs_holds_up_neither_the_judgements_nor_other_desks(
    world: QualityWorld, desk: Desk
) -> None:
    desk.hang = True
    pushing = asyncio.create_task(world.pusher.run())
    await judged(world)
    await desk.rang.wait()
    desk.hang = False
    desk.rang.clear()
    await judged(world, session_id="t")
    await desk.rang.wait()
    assert desk.taken[0][1]["result"]["session_id"] == "t"
    pushing.cancel()
    await asyncio.gather(pushing, return_exceptions=True)
    await world.pusher.push_due()
    # The second may come twice: its delivery was perhaps not noted yet when the pusher was stopped.
    assert {body["result"]["session_id"] for _, body in desk.taken} == {"s", "t"}, "it is tried again at the next start"


async def test_twenty_uploads_of_one_session_at_once_are_one_task(world: QualityWorld) -> None:
    await asyncio.gather(*(world.service.submit(APP, request()) for _ in range(20)))
    assert await world.worker.work_until_idle() == 1
    assert (await world.service.status(APP, "s"))["state"] == 2
    assert not any(world.audio_path.iterdir()), "the recordings that were replaced are gone"
