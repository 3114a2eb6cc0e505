"""The bus among the processes of one server: the main process is its hub, and one of those on it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import structlog

from gateway.ports import Unavailable
from gateway.ports.bus import Answer, Hear
from gateway.workers.link import Link, LinkFault
from gateway.workers.questions import (
    ASK_OTHERS,
    ASK_YOU,
    PUBLISHED,
    SUBSCRIBE,
    UNSUBSCRIBE,
    BusAnswers,
    BusQuestion,
    Published,
    Topic,
)
from gateway.workers.wire import Nothing

log = structlog.get_logger(__name__)

PATIENCE_S = 5.0
"""How long the hub may take to note a subscription."""


class _Ears:
    """Who listens to what in one process, and who answers what."""

    def __init__(self) -> None:
        self.topics: defaultdict[str, list[Hear]] = defaultdict(list)
        self.answers: dict[str, Answer] = {}

    def hear(self, published: Published) -> None:
        for hear in list(self.topics.get(published.topic, ())):
            try:
                hear(published.payload)
            except Exception:  # of this listener: the others still hear
                log.exception("listener_failed", topic=published.topic)

    def leave(self, topic: str, hear: Hear) -> bool:
        """Whether nobody here listens to the topic any more."""
        listeners = self.topics[topic]
        listeners.remove(hear)
        if not listeners:
            del self.topics[topic]
        return not listeners

    async def answer(self, asked: BusQuestion) -> BusAnswers:
        """At most one answer: an answerer that fails, or takes too long, is one who does not know."""
        answerer = self.answers.get(asked.question)
        if answerer is None:
            return BusAnswers(())
        try:
            async with asyncio.timeout(asked.timeout_s):
                answer = await answerer(asked.payload)
        except TimeoutError:
            return BusAnswers(())
        except Exception:
            log.exception("answerer_failed", question=asked.question)
            return BusAnswers(())
        return BusAnswers(() if answer is None else (answer,))


class _Subscription:
    def __init__(self, leave: Callable[[], object]) -> None:
        self._leave: Callable[[], object] | None = leave

    async def close(self) -> None:
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()


class LinkedBus:
    """A worker's Bus, by way of the hub."""

    alone = False

    def __init__(self, link: Link) -> None:
        """Before the link listens."""
        self._link = link
        self._ears = _Ears()
        link.hears(PUBLISHED, self._ears.hear)
        link.answers(ASK_YOU, self._ears.answer)

    def publish(self, topic: str, payload: bytes) -> None:
        self._link.tell_if_it_can(PUBLISHED, Published(topic, payload))

    async def subscribe(self, topic: str, hear: Hear) -> _Subscription:
        self._ears.topics[topic].append(hear)
        subscription = _Subscription(lambda: self._leave(topic, hear))
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._link.ask(SUBSCRIBE, Topic(topic))
        except BaseException as fault:
            await subscription.close()
            if isinstance(fault, TimeoutError):
                raise Unavailable("the main process does not answer") from fault
            raise
        return subscription

    def _leave(self, topic: str, hear: Hear) -> None:
        if self._ears.leave(topic, hear):
            self._link.tell(UNSUBSCRIBE, Topic(topic))

    def answers(self, question: str, answer: Answer) -> None:
        self._ears.answers[question] = answer

    async def ask(self, question: str, payload: bytes, *, timeout_s: float) -> bytes | None:
        answers = await self._ask(BusQuestion(question, payload, timeout_s, "first"))
        return answers[0] if answers else None

    async def ask_all(self, question: str, payload: bytes, *, timeout_s: float) -> Sequence[bytes]:
        return await self._ask(BusQuestion(question, payload, timeout_s, "all"))

    async def _ask(self, asked: BusQuestion) -> Sequence[bytes]:
        try:
            async with asyncio.timeout(asked.timeout_s + PATIENCE_S):
                return (await self._link.ask(ASK_OTHERS, asked)).answers
        except (TimeoutError, LinkFault) as fault:
            raise Unavailable("the main process does not answer") from fault


class HubBus:
    """The main process's Bus, which carries what workers say to one another."""

    alone = False

    def __init__(self) -> None:
        self._ears = _Ears()
        self._links: dict[Link, set[str]] = {}
        """Each worker's, with the topics that it listens to."""

    def join(self, link: Link) -> None:
        """A worker's link, before it listens; it leaves when it is gone."""
        self._links[link] = set()

        async def subscribe(asked: Topic) -> Nothing:
            self._links.get(link, set()).add(asked.topic)
            return Nothing()

        async def ask_others(asked: BusQuestion) -> BusAnswers:
            return BusAnswers(await self._ask(asked, but=link))

        link.hears(PUBLISHED, lambda published: self._publish(published, but=link))
        link.answers(SUBSCRIBE, subscribe)
        link.hears(UNSUBSCRIBE, lambda told: self._links.get(link, set()).discard(told.topic))
        link.answers(ASK_OTHERS, ask_others)

    def leave(self, link: Link) -> None:
        self._links.pop(link, None)

    def publish(self, topic: str, payload: bytes) -> None:
        self._publish(Published(topic, payload), but=None)

    def _publish(self, published: Published, *, but: Link | None) -> None:
        if but is not None:
            self._ears.hear(published)
        for link, topics in self._links.items():
            if link is not but and published.topic in topics:
                link.tell_if_it_can(PUBLISHED, published)

    async def subscribe(self, topic: str, hear: Hear) -> _Subscription:
        self._ears.topics[topic].append(hear)
        return _Subscription(partial(self._ears.leave, topic, hear))

    def answers(self, question: str, answer: Answer) -> None:
        self._ears.answers[question] = answer

    async def ask(self, question: str, payload: bytes, *, timeout_s: float) -> bytes | None:
        answers = await self._ask(BusQuestion(question, payload, timeout_s, "first"), but=None)
        return answers[0] if answers else None

    async def ask_all(self, question: str, payload: bytes, *, timeout_s: float) -> Sequence[bytes]:
        return await self._ask(BusQuestion(question, payload, timeout_s, "all"), but=None)

    async def _ask(self, asked: BusQuestion, *, but: Link | None) -> Sequence[bytes]:
        """Ask everybody else, the hub among them when it is not the one who asks."""
        others: list[Coroutine[Any, Any, BusAnswers]] = [
            link.ask(ASK_YOU, asked) for link in self._links if link is not but
        ]
        if but is not None:
            others.append(self._ears.answer(asked))
        return await _gathered(others, asked)


async def _gathered(questions: Iterable[Coroutine[Any, Any, BusAnswers]], asked: BusQuestion) -> Sequence[bytes]:
    """The answers that come in time, all of them or the first."""
    tasks = [asyncio.ensure_future(question) for question in questions]
    answers: list[bytes] = []
    try:
        async with asyncio.timeout(asked.timeout_s):
            for done in asyncio.as_completed(tasks):
                with suppress(Unavailable, LinkFault):  # it is gone, and knows nothing
                    answers += (await done).answers
                if answers and asked.wanted == "first":
                    break
    except TimeoutError:
        pass
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return answers[:1] if asked.wanted == "first" else answers
