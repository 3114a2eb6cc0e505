"""What a call costs, feature by feature: two short loads on a server of its own for each, and the line through them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp
import msgspec
from msgspec import Struct

from gateway.demo.material import demo_call
from loadtest.figures.result import Machine, Result
from loadtest.figures.slo import Slo, Thresholds
from loadtest.gathering import Moment
from loadtest.run import Ordered, run_load
from loadtest.scenario import load, overridden
from loadtest.server.own import Served
from loadtest.troop import HarnessFailed
from protocol.voiceprint import Code

SCHEMA: Final = "earshot.sizing.v1"
ALONE: Final = {"quality_workers": "0", "index_calls": "false"}
"""What is measured is the cost of calls while they are on."""


@dataclass(frozen=True, slots=True)
class Tier:
    """A feature, on top of those before it. `calls`: how many are measured, few and more."""

    name: str
    about: str
    calls: tuple[int, int]
    settings: Mapping[str, str] = field(default_factory=dict)
    enrols: bool = False
    """Whether somebody is enrolled: where nobody is, no voice is looked for."""


TIERS: Final = (
    Tier("ingest", "audio in, webrtcvad, segments, journal, acks", (50, 150), {"vad": "webrtc", "live_text": "false"}),
    Tier("silero", "and Silero, which confirms speech", (10, 30), {"live_text": "false"}),
    Tier("identify", "and who speaks", (5, 15), {"live_text": "false"}, enrols=True),
    Tier("text", "and what is said, while it is said", (1, 3), enrols=True),
)


class Point(Struct, frozen=True, kw_only=True):
    """One load. CPU is of all the server's processes together; 1 is one processor."""

    calls: int
    server_cpu_share: float
    server_main_cpu_share: float
    server_rss_max_mb: float
    ack_lag_p99_ms: float
    harness_lag_p99_ms: float
    failures: int


class Sized(Struct, frozen=True, kw_only=True):
    """A feature and all before it. CPU share = `fixed_cpu_share` + calls x `cpu_ms_per_call_s` / 1000."""

    name: str
    about: str
    settings: dict[str, str]
    points: list[Point]
    fixed_cpu_share: float
    cpu_ms_per_call_s: float
    calls_per_core: float


class Sizing(Struct, frozen=True, kw_only=True):
    schema: str = SCHEMA
    machine: Machine
    duration_s: float
    tiers: list[Sized]

    def write(self, path: Path) -> None:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")


def sized(tier: Tier, points: Sequence[Point]) -> Sized:
    """The line through the points. Raises HarnessFailed where more calls did not cost more: no cost can be told."""
    few, more = points[0], points[-1]
    slope = (more.server_cpu_share - few.server_cpu_share) / (more.calls - few.calls)
    if slope <= 0:
        raise HarnessFailed(
            f"{more.calls} calls ({tier.name}) cost no more CPU than {few.calls}: something else runs on this machine,"
            " or the loads are too short (--duration) or too small (--scale)"
        )
    return Sized(
        name=tier.name,
        about=tier.about,
        settings=dict(tier.settings),
        points=list(points),
        fixed_cpu_share=round(few.server_cpu_share - slope * few.calls, 4),
        cpu_ms_per_call_s=round(slope * 1000, 3),
        calls_per_core=round(1 / slope, 1),
    )


async def measure(
    tier: Tier,
    served: Served,
    *,
    duration_s: float,
    scale: float,
    processes: int,
    processors: tuple[int, ...],
    on_moment: Callable[[Moment, str], None],
) -> Sized:
    """Load `served`, which has the tier's settings. `scale` multiplies the calls. Raises as `run_load` does."""
    if tier.enrols:
        await _enrol(served)
    points = []
    for calls in (max(1, round(number * scale)) for number in tier.calls):
        scenario = overridden(load("steady"), calls, min(5.0, duration_s / 4), duration_s)
        ordered = Ordered(scenario, served, Slo(Thresholds()), processes=processes, processors=processors, verify=0)
        points.append(_point(calls, await run_load(ordered, on_moment)))
    return sized(tier, points)


def settings_of(tier: Tier, given: Mapping[str, str]) -> dict[str, str]:
    """Of a server that is to do the tier's work and no more; `given` wins."""
    return {**ALONE, **tier.settings, **given}


def _point(calls: int, result: Result) -> Point:
    figures = result.figures
    return Point(
        calls=calls,
        server_cpu_share=figures["server_cpu_share"],
        server_main_cpu_share=figures["server_main_cpu_share"],
        server_rss_max_mb=figures["server_rss_max_mb"],
        ack_lag_p99_ms=figures.get("ack_lag_p99_ms", 0.0),
        harness_lag_p99_ms=figures["harness_lag_p99_ms"],
        failures=sum(result.failures.values()),
    )


async def _enrol(served: Served) -> None:
    """The demo's agent, so that voices are looked for."""
    call = demo_call("en")
    form = aiohttp.FormData()
    for name, value in {"org_id": served.app_id, "tag_id": "agents", "spk_name": call.agent.name}.items():
        form.add_field(name, value)
    form.add_field("audio", call.enrolment.read_bytes(), filename=call.enrolment.name)
    headers = {"Authorization": aiohttp.encode_basic_auth(served.app_id, served.secret)}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{served.http_url}/voiceid/register", data=form) as answer,
    ):
        text = await answer.text()
        if answer.status != 200 or msgspec.json.decode(text, type=_Answer).code != Code.SUCCESS.value:
            raise HarnessFailed(f"the server would not enrol a voice: HTTP {answer.status} {text[:200]}")


class _Answer(Struct):
    code: str
