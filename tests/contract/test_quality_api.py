"""What every QualityApi does, in this process or over HTTP to a server of ours."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest

from gateway.clients.quality_http import QualityHttp
from gateway.ports import QualityApi, QualityTask, Rejected, StoredCategory, Unavailable
from gateway.stores.quality import SqliteQualityRules
from protocol.quality import RuleQuery
from protocol.rules import Content
from tests.quality_world import APP, OTHER_APP, OTHER_SECRET, SECRET, TWO_PARTIES, QualityWorld, recording, wav

Recorded = Callable[[bytes], Path]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[QualityWorld]:
    made = QualityWorld(tmp_path)
    yield made
    made.close()


@pytest.fixture(params=["in process", "over HTTP"])
async def api(request: pytest.FixtureRequest, world: QualityWorld) -> AsyncIterator[QualityApi]:
    if request.param == "in process":
        yield world.service
        return
    secrets = {APP: (APP, SECRET), OTHER_APP: (OTHER_APP, OTHER_SECRET)}
    async with world.serving() as url, aiohttp.ClientSession() as http:
        yield QualityHttp(http, url, secrets.__getitem__)


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    def write(data: bytes) -> Path:
        path = tmp_path / "call.wav"
        path.write_bytes(data)
        return path

    return write


def _task(path: Path, *, session_id: str = "s", channels: int = 2, categories: tuple[str, ...] = ()) -> QualityTask:
    return QualityTask(session_id, APP, path, 8000, channels, "auto", categories)


async def test_a_call_is_queued_then_judged_by_channel_with_details(
    api: QualityApi, world: QualityWorld, recorded: Recorded
) -> None:
    await world.add_rules(("退款", ("缺货&&退款",)), ("问候", ("你好",)))
    await api.create(_task(recorded(TWO_PARTIES), categories=("退款",)))
    queued = await api.result(APP, "s")
    assert (queued.state, queued.state_desc, queued.done) == (0, "任务已提交，排队等待中", False)
    await world.worker.work_until_idle()
    answer = await api.result(APP, "s")
    assert answer.succeeded
    assert [one["speaker_id"] for one in answer.result["asr_result"]] == [0, 1]
    assert [one["category"] for one in answer.result["detection_result"]] == ["退款"]
    assert answer.result["detection_detail"]["detail"][1]["hit"] is True
    assert answer.result["session_id"] == "s"


async def test_a_mono_call_is_judged_as_one_channel(api: QualityApi, world: QualityWorld, recorded: Recorded) -> None:
    await api.create(_task(recorded(wav(recording([(200, 2000)]))), channels=1))
    await world.worker.work_until_idle()
    answer = await api.result(APP, "s")
    assert answer.result["asr_text"] == "会议开始。"
    assert answer.result["pass_detection"] == "success"


async def test_the_same_session_again_is_the_same_task(
    api: QualityApi, world: QualityWorld, recorded: Recorded
) -> None:
    task = _task(recorded(TWO_PARTIES))
    await api.create(task)
    await api.create(task)
    assert await world.worker.work_until_idle() == 1
    assert (await api.result(APP, "s")).succeeded


async def test_an_unknown_session_and_anothers_are_rejected(api: QualityApi, recorded: Recorded) -> None:
    await api.create(_task(recorded(TWO_PARTIES)))
    for app_id, session_id in ((APP, "none"), (OTHER_APP, "s")):
        with pytest.raises(Rejected) as raised:
            await api.result(app_id, session_id)
        assert raised.value.code == "336120"
        assert not raised.value.retryable


async def test_a_recording_that_is_not_there_is_rejected(api: QualityApi, tmp_path: Path) -> None:
    with pytest.raises(Rejected) as raised:
        await api.create(_task(tmp_path / "none.wav"))
    assert raised.value.code == "336110"


async def test_a_full_disk_is_unavailable(
    api: QualityApi, world: QualityWorld, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(world.folder, "keep", full)
    monkeypatch.setattr(world.folder, "keep_copy", full)
    with pytest.raises(Unavailable):
        await api.create(_task(recorded(TWO_PARTIES)))


async def test_a_failed_task_is_done_and_says_why(api: QualityApi, world: QualityWorld, recorded: Recorded) -> None:
    await api.create(_task(recorded(wav(recording([(0, 0)])))))
    await world.worker.work_until_idle()
    answer = await api.result(APP, "s")
    assert answer.done
    assert not answer.succeeded
    assert "no audio" in answer.state_desc


async def test_contents_with_options_are_kept_beside_plain_ones_and_listed_as_expressions(world: QualityWorld) -> None:
    asked = Content(expression="customer:甲&&乙", order=True, first_s=30, shadow=True)
    store = SqliteQualityRules(world.database)
    assert await store.add(APP, StoredCategory("c", "", ("甲", asked)))
    assert await world.rulebook.rules(APP) == (1, [StoredCategory("c", "", ("甲", asked))])
    _, (listed,) = await world.rulebook.page(APP, RuleQuery(category="", page_no=1, page_size=10))
    assert listed.contents == ("甲", "customer:甲&&乙")


async def test_stored_rules_reach_the_judgement_with_their_version(world: QualityWorld) -> None:
    await world.add_rules(("a", ("甲",)), ("b", ("乙",)))
    assert await world.rulebook.rules(APP) == (
        2,
        [StoredCategory("a", "a的描述", ("甲",)), StoredCategory("b", "b的描述", ("乙",))],
    )
