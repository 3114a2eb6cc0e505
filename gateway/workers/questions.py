"""All that the main process and its workers ask and tell each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from gateway.ports import Candidate, QualityAnswer, SpeechProbabilities, TranscribeRequest, Transcription
from gateway.ports.levels import CallLevels, LevelsAsked
from gateway.settings import Settings
from gateway.telemetry import SampleKey
from gateway.workers.wire import Nothing, Notice, Question


class _Body(msgspec.Struct, frozen=True, array_like=True):
    """Base of what goes over a link."""


# --- a worker asks for what engines answer: raw PCM, and deadlines on the machine's one monotonic clock ---


class Confirm(_Body, frozen=True):
    pcm: bytes
    rate_hz: int
    state: bytes | None


class Recognize(_Body, frozen=True):
    app_id: str
    org_id: str
    tag_id: str | None
    pcm: bytes
    rate_hz: int


class Heard(_Body, frozen=True):
    transcription: Transcription | None


class Found(_Body, frozen=True):
    candidates: Sequence[Candidate]


CONFIRM = Question("confirm", Confirm, SpeechProbabilities)
TRANSCRIBE = Question("transcribe", TranscribeRequest, Heard)
RECOGNIZE = Question("recognize", Recognize, Found)


# --- a worker begins, and says how it is ---


class Setup(_Body, frozen=True):
    """All that a worker needs to know."""

    number: int
    """From 1; its folder goes by it."""
    settings: Settings
    configured_apps: Mapping[str, Sequence[str]]
    """Secrets by app id, beside the apps of the database."""
    port: int
    """That of the native socket, shared by all workers."""
    http_port: int
    """Where our own pages come from."""
    relay: str
    """Name of the abstract socket on which this worker takes connections that others pass on."""
    relay_secret: str
    level: int
    """How loaded the recogniser is."""
    pressure: str
    """Why no new call should begin, or nothing."""


class Began(_Body, frozen=True):
    """Why the worker cannot take calls, or nothing: it listens."""

    fault: str


class Report(_Body, frozen=True):
    """How a worker is, told once a second."""

    going_on: int
    """Calls in memory and not over."""
    amiss: str
    """As `/readyz` says it, or nothing."""
    measured: Sequence[tuple[SampleKey, float]]
    counted: Sequence[SampleKey]
    """Those of them that only ever grow, and count on when the worker is gone."""


class Weight(_Body, frozen=True):
    level: int
    pressure: str


HELLO = Question("hello", Nothing, Setup)
BEGAN = Notice("began", Began)
REPORT = Notice("report", Report)
OUTBOX_CHANGED = Notice("outbox_changed", Nothing)
CALL_STORED = Notice("call_stored", Nothing)
WEIGHT = Notice("weight", Weight)
RULES_CHANGED = Notice("rules_changed", Nothing)
RELOAD = Notice("reload", Nothing)
DRAIN = Question("drain", Nothing, Nothing)


# --- limits that hold over all workers ---


class Place(_Body, frozen=True):
    app_id: str
    call_id: str


class GoingOn(_Body, frozen=True):
    """Calls that still take audio, or are about to."""

    apps: Mapping[str, str]
    """Whose each is, by call id."""
    whole: bool = True
    """False: calls of an earlier process are still being taken up."""


TAKE_PLACE = Question("take_place", Place, Nothing)
GOING_ON = Question("going_on", Nothing, GoingOn)


# --- whose a call is, and what is to be done with it there ---


class OneCall(_Body, frozen=True):
    app_id: str
    call_id: str


class SomeCalls(_Body, frozen=True):
    app_id: str
    call_ids: Sequence[str]


class Documents(_Body, frozen=True):
    by_call_json: bytes
    """JSON, as parts of live documents are kept: no other format takes them in as they are."""


class Verdict(_Body, frozen=True):
    app_id: str
    session_id: str
    answer: QualityAnswer | None
    error: str = ""
    """With no answer: why there will be none."""


class LevelsOf(_Body, frozen=True):
    call_id: str
    asked: LevelsAsked


class LevelsTold(_Body, frozen=True):
    levels: CallLevels | None


class Whether(_Body, frozen=True):
    so: bool


class Whereabouts(_Body, frozen=True):
    relay: str
    """Where the worker that has the call takes connections; empty: no other has it."""


LOCATE = Question("locate", OneCall, Whereabouts)
HAS = Question("has", OneCall, Whether)
NOW = Question("now", SomeCalls, Documents)
FILED = Question("filed", OneCall, Nothing)
HOLDS = Question("holds", OneCall, Whether)
VERDICT = Question("verdict", Verdict, Whether)
ERASE = Question("erase", OneCall, Whether)
LEVELS = Question("levels", LevelsOf, LevelsTold)


# --- the bus ---


class Published(_Body, frozen=True):
    topic: str
    payload: bytes


class Topic(_Body, frozen=True):
    topic: str


class BusQuestion(_Body, frozen=True):
    question: str
    payload: bytes
    timeout_s: float
    wanted: Literal["first", "all"]


class BusAnswers(_Body, frozen=True):
    answers: Sequence[bytes]


PUBLISHED = Notice("published", Published)
SUBSCRIBE = Question("subscribe", Topic, Nothing)
UNSUBSCRIBE = Notice("unsubscribe", Topic)
ASK_OTHERS = Question("ask_others", BusQuestion, BusAnswers)
ASK_YOU = Question("ask_you", BusQuestion, BusAnswers)
