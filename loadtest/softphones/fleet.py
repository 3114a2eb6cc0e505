"""All the softphones of one process: who begins when, who hangs up, and what became of each."""

from __future__ import annotations

import asyncio
import socket as system_socket
import ssl
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, Final

from loadtest.softphones.frames import TEXT, client_frame
from loadtest.softphones.listener import Listener, Measures
from loadtest.softphones.onlookers import Onlookers
from loadtest.softphones.orders import Outcome, Prepare, Second, Sparse
from loadtest.softphones.phone import Phone
from loadtest.softphones.relay import Relay
from loadtest.softphones.resuming import ResumingPhone
from loadtest.softphones.schedule import delays_s, mine
from loadtest.softphones.socket import Socket, Target, connect
from loadtest.softphones.speech import Script, scripts
from loadtest.softphones.wheel import TICK_S, Wheel
from protocol.codec import encode
from protocol.messages import Start

START_PATIENCE_S: Final = 30.0
END_PATIENCE_S: Final = 60.0
"""From a hangup to `ended`: the server's own settle_timeout_s is 30."""
AGAIN_S: Final = 1.0
"""After a call that failed, before another takes its place."""
_STRIDE: Final = 7919


class Fleet:
    """Enter it; `set_calls`, `hang_up`; leave it when `open` is 0 or enough was waited."""

    def __init__(self, plan: Prepare) -> None:
        """Decodes and cuts the audio. Raises NotAudio."""
        self._plan = plan
        self._scenario = plan.scenario
        self._target = Target(plan.url, plan.app_id, plan.secret)
        self._random = Random(plan.seed * 1000 + plan.process)
        self._scripts: list[list[Script]] = [
            scripts([Path(one) for one in plan.sources], kind) for kind in plan.scenario.phones
        ]
        self._starts = [self._start(kind) for kind in range(len(plan.scenario.phones))]
        self.measures = Measures()
        self.outcomes: list[Outcome] = []
        self.fault: BaseException | None = None
        """What of ours went wrong; nothing measured since is worth anything."""
        self._listeners: dict[str, Listener] = {}
        self._onlookers: Onlookers | None = None
        self._phones: dict[int, Phone | ResumingPhone] = {}
        """By place; a place is a number of the load's calls, of which this process has every so many-th."""
        self._beginnings: dict[int, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._wanted = 0
        self._stopping = False
        self._frames_of_ended = 0
        self._frames_told = 0
        self._relay: Relay | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Fleet:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(self._failed)
        self._tls = ssl.create_default_context(cafile=self._plan.ca_file or None) if self._target.secure else None
        host, port = self._target.address
        found = await self._loop.getaddrinfo(host, port, type=system_socket.SOCK_STREAM)
        self._address: tuple[str, int] = found[0][4][0], port  # type: ignore[assignment]
        self._wheel = Wheel(time.monotonic())
        self._timer = self._loop.call_later(TICK_S, self._turn)
        if self._scenario.network is not None:
            self._relay = Relay(self._address, self._scenario.network, self._random)
            host, port = await self._stack.enter_async_context(self._relay.open())
            self._target = replace(self._target, url=f"ws://{host}:{port}/v1/calls")
        if (watchers := self._scenario.watchers) is not None:
            listeners = self._listeners
            self._onlookers = Onlookers(watchers, self._target, self.measures, listeners, self._connect_soon)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._timer.cancel()
        if self._onlookers is not None:
            self._onlookers.close()
        for place, phone in list(self._phones.items()):
            self._over(place, phone, "not over when the load test was")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()

    # --- orders ---

    @property
    def open(self) -> int:
        return len(self._phones) + len(self._beginnings)

    def set_calls(self, calls: int, over_s: float) -> None:
        """Have this process's part of so many calls."""
        if calls < self._wanted:
            leaving = [place for place in sorted({*self._phones, *self._beginnings}) if place >= calls]
            for place, after_s in zip(leaving, self._delays_s(len(leaving), over_s), strict=True):
                self._loop.call_later(after_s, self._hang_up, place)
        else:
            ours = (place for place in range(calls) if mine(place, self._plan.process, self._plan.processes))
            missing = [place for place in ours if place not in self._phones and place not in self._beginnings]
            for place, after_s in zip(missing, self._delays_s(len(missing), over_s), strict=True):
                self._begin_in(after_s, place)
        if not self._wanted and calls and self._onlookers is not None:
            self._onlookers.begin(self._plan.process, self._plan.processes, over_s, self._live_calls)
        self._wanted = calls

    def hang_up(self, within_s: float) -> None:
        """Hang up everything, and begin nothing more."""
        self._stopping = True
        for handle in self._beginnings.values():
            handle.cancel()
        self._beginnings.clear()
        places = sorted(self._phones)
        for place, after_s in zip(places, self._delays_s(len(places), within_s), strict=True):
            self._loop.call_later(after_s, self._hang_up, place)

    def _live_calls(self) -> list[str]:
        return [phone.listener.call_id for phone in self._phones.values() if phone.state == "live"]

    def _delays_s(self, count: int, over_s: float) -> list[float]:
        return delays_s(count, over_s, self._plan.process, self._plan.processes)

    def second(self) -> Second:
        """What happened since the last time; also where calls that take too long are given up."""
        self._give_up_late()
        latencies, lateness = self.measures.drain()
        if self._relay is not None:
            self.measures.counts["cuts"] += self._relay.cuts()
        frames = self._frames_of_ended + sum(phone.sent_frames for phone in self._phones.values())
        counts, failures = dict(self.measures.counts), dict(self.measures.failures)
        self.measures.counts.clear()
        self.measures.failures.clear()
        told = Second(
            calls_live=len(self._live_calls()),
            calls_open=self.open,
            frames_sent=frames - self._frames_told,
            cpu_s=time.process_time(),
            counts=counts,
            failures=failures,
            latencies={name: Sparse.of(histogram) for name, histogram in latencies.items()},
            lateness=Sparse.of(lateness),
        )
        self._frames_told = frames
        return told

    # --- one call ---

    def _start(self, kind: int) -> Start:
        phones = self._scenario.phones[kind]
        return Start(
            encoding=phones.encoding,
            rate=phones.rate_hz,
            channels=phones.channels,
            language=self._plan.language,  # type: ignore[arg-type]  # the command offers no other
            metadata={"made_by": "loadtest"},
        )

    def _begin_in(self, after_s: float, place: int) -> None:
        due_s = time.monotonic() + after_s
        self._beginnings[place] = self._loop.call_later(after_s, self._begin, place, due_s)

    def _begin(self, place: int, due_s: float) -> None:
        del self._beginnings[place]
        kind = self._scenario.phones_of(place)
        available = self._scripts[kind]
        script = available[place % len(available)]
        first_frame = place * _STRIDE % len(script.frames)
        slow = self._scenario.reads_slowly(place)
        listener = Listener(self.measures, script, first_frame, slow=slow)
        if self._relay is not None:
            resuming = ResumingPhone(self._target, script, first_frame, listener, self._starts[kind])
            self._phones[place] = resuming
            self._task(self._run(place, resuming, due_s))
            return

        def live(phone: Phone) -> None:
            self._now_live(phone, due_s)
            self._wheel.add(phone, phone.due_s)
            if slow and self._scenario.slow_readers is not None:
                phone.read_slowly(self._scenario.slow_readers.pause_s, self._scenario.slow_readers.every_s)

        phone = Phone(
            self._target,
            script,
            first_frame,
            listener,
            lateness_s=self.measures.lateness_s,
            on_live=live,
            on_over=lambda one: self._over(place, one, one.failure),
            start=client_frame(TEXT, encode(self._starts[kind])),
        )
        phone.since_s = due_s
        self._phones[place] = phone
        self._connect_soon(phone)

    def _now_live(self, phone: Phone | ResumingPhone, due_s: float) -> None:
        began_s = phone.listener.began_s
        self.measures.values["connect"].append(began_s - due_s)
        self.measures.counts["calls_begun"] += 1
        self._listeners[phone.listener.call_id] = phone.listener
        if self._scenario.call_s is not None:
            phone.hang_up_at_s = min(phone.hang_up_at_s, began_s + self._random.uniform(*self._scenario.call_s))
        elif self._scenario.hang_up == "by_age" and self._scenario.search is None:
            phone.hang_up_at_s = min(phone.hang_up_at_s, began_s + self._scenario.duration_s)

    def _connect_soon(self, socket: Socket) -> None:
        self._task(self._connect(socket))

    async def _connect(self, socket: Socket) -> None:
        try:
            await connect(socket, self._tls, self._address)
        except OSError as fault:
            socket.lost(f"no connection: {fault.strerror or fault}")

    async def _run(self, place: int, phone: ResumingPhone, due_s: float) -> None:
        await phone.run(self.measures.lateness_s, lambda: self._now_live(phone, due_s))
        self._over(place, phone, phone.failure)

    def _hang_up(self, place: int) -> None:
        if (handle := self._beginnings.pop(place, None)) is not None:
            handle.cancel()
        elif (phone := self._phones.get(place)) is not None:
            now_s = time.monotonic()
            phone.hang_up_at_s = min(phone.hang_up_at_s, now_s)
            if isinstance(phone, Phone):
                phone.act(now_s)  # one that still waits to be started hangs up then

    def _over(self, place: int, phone: Phone | ResumingPhone, failure: str) -> None:
        if self._phones.get(place) is not phone:
            return
        del self._phones[place]
        listener = phone.listener
        if failure:
            self.measures.counts["calls_refused" if phone.refused else "calls_failed"] += 1
            self.measures.failures[failure] += 1
        elif not listener.slow:
            self.measures.values["ended"].append(time.monotonic() - phone.since_s)
        if listener.call_id:
            self.measures.counts["samples_unacked"] += max(0, phone.sent_samples - listener.acked_samples)
        self._frames_of_ended += phone.sent_frames
        kind = self._scenario.phones_of(place)
        self.outcomes.append(
            Outcome(
                call_id=listener.call_id,
                phones=kind,
                source=place % len(self._scripts[kind]),
                first_frame=phone.first_frame,
                sent_samples=phone.sent_samples,
                acked_samples=listener.acked_samples,
                failure=failure,
                segments=tuple(sorted(listener.closed_segments)),
                alerts=tuple(sorted(listener.alerts)),
            )
        )
        if self._scenario.call_s is not None and not self._stopping and place < self._wanted:
            self._begin_in(AGAIN_S if failure else 0.0, place)

    # --- beside the calls ---

    def _give_up_late(self) -> None:
        now_s = time.monotonic()
        for phone in list(self._phones.values()):
            if phone.state == "waiting" and now_s > phone.since_s + START_PATIENCE_S:
                phone.give_up(f"not started within {START_PATIENCE_S:g} s")
            elif phone.state == "hung_up" and now_s > phone.since_s + END_PATIENCE_S:
                phone.give_up(f"not ended {END_PATIENCE_S:g} s after its hangup")

    def _task(self, work: Coroutine[None, None, None]) -> None:
        """Own a task; what it fails with is a fault of ours, and ends the process loudly."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            self.fault = self.fault or fault

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A callback raised: a fault of ours too."""
        self.fault = self.fault or context.get("exception") or RuntimeError(context["message"])
        loop.default_exception_handler(context)

    def _turn(self) -> None:
        self._wheel.turn(time.monotonic())
        self._timer = self._loop.call_later(self._wheel.rest_s(), self._turn)
