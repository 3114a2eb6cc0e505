"""A QualityApi for tests that keeps the port's promises: create is idempotent, states are 0, 1, then 2."""

import asyncio
from collections import Counter
from collections.abc import Callable

from gateway.ports import QualityAnswer, QualityTask, Rejected

DESCRIPTIONS = ("queued", "running", "succeeded")


class FakeQuality:
    def __init__(self) -> None:
        self.fault: Callable[[], Exception | None] = lambda: None
        """What the next request runs into; None lets it through."""
        self.fault_of: Callable[[str], Exception | None] = lambda session_id: None
        self.at_once_by_request: list[int] = []
        """How many requests were on their way when each arrived, itself included."""
        self.creates: Counter[str] = Counter()
        self.polls: Counter[str] = Counter()
        self.most_at_once: Counter[str] = Counter()
        self.before_answer: Callable[[str], object] = lambda session_id: None
        self._at_once: Counter[str] = Counter()
        self._states: dict[tuple[str, str], int] = {}

    async def create(self, task: QualityTask) -> None:
        async with self._request(task.session_id):
            self.creates[task.session_id] += 1
            self._run_into_fault(task.session_id)
            self._states.setdefault((task.app_id, task.session_id), 0)

    async def result(self, app_id: str, session_id: str) -> QualityAnswer:
        async with self._request(session_id):
            self.polls[session_id] += 1
            self._run_into_fault(session_id)
            if (app_id, session_id) not in self._states:
                raise Rejected("no such task", code="404")
            state = self._states[app_id, session_id]
            self._states[app_id, session_id] = min(state + 1, 2)
            return answer(state)

    def forget(self) -> None:
        self._states.clear()

    @property
    def tasks(self) -> set[str]:
        return {session_id for _, session_id in self._states}

    def _run_into_fault(self, session_id: str) -> None:
        fault = self.fault_of(session_id) or self.fault()
        if fault is not None:
            raise fault

    def _request(self, session_id: str) -> "_Request":
        return _Request(self, session_id)


class _Request:
    def __init__(self, quality: FakeQuality, session_id: str) -> None:
        self._quality, self._session_id = quality, session_id

    async def __aenter__(self) -> None:
        at_once = self._quality._at_once
        at_once[self._session_id] += 1
        at_once["all"] += 1
        self._quality.at_once_by_request.append(at_once["all"])
        for key in (self._session_id, "all"):
            self._quality.most_at_once[key] = max(self._quality.most_at_once[key], at_once[key])
        await asyncio.sleep(0)  # let others run while this request is on its way

    async def __aexit__(self, *_: object) -> None:
        self._quality.before_answer(self._session_id)
        for key in (self._session_id, "all"):
            self._quality._at_once[key] -= 1


def answer(state: int) -> QualityAnswer:
    description = DESCRIPTIONS[state] if state < 3 else "failed"
    return QualityAnswer(state, description, {"asr_text": "hello"} if state == 2 else {})
