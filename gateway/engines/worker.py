"""The inside of an engine process: load one engine, then answer jobs until the parent is gone.

Run as `python -m gateway.engines.worker`. Standard input carries jobs, the original standard output answers, each a
pickle behind its length (both ends are the same installation). What libraries print goes to standard error.
"""

from __future__ import annotations

import importlib
import os
import pickle
import queue
import resource
import signal
import struct
import sys
import threading
from dataclasses import dataclass, field
from typing import Any, BinaryIO

LENGTH = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """Which class to load in the process, and how the process is held."""

    factory: str
    """`module:Class`."""
    arguments: dict[str, Any] = field(default_factory=dict)
    niceness: int = 0
    limits: dict[str, int] = field(default_factory=dict)
    """Names in `resource` (such as RLIMIT_AS) and their values, set before anything is loaded."""


@dataclass(frozen=True, slots=True)
class Job:
    method: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """The method's value, or what it raised."""

    value: Any = None
    error: BaseException | None = None


def frame(message: object) -> bytes:
    payload = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(payload)) + payload


def _read(stream: BinaryIO) -> Any:
    header = stream.read(LENGTH.size)
    if len(header) < LENGTH.size:
        raise EOFError
    payload = stream.read(LENGTH.unpack(header)[0])
    return pickle.loads(payload)  # noqa: S301 -- written by the parent, which started us


def _receive(stream: BinaryIO, jobs: queue.SimpleQueue[Any]) -> None:
    # The parent's death closes our input, however it died. Leave at once, also from the midst of a decode: models
    # release the interpreter's lock while they compute, so this thread gets to run.
    while True:
        try:
            jobs.put(_read(stream))
        except EOFError:
            os._exit(0)


def _portable(error: BaseException) -> BaseException:
    """`error` itself when it survives the way to the parent, else its text."""
    try:
        copy = pickle.loads(pickle.dumps(error))  # noqa: S301 -- our own bytes
    except Exception:
        copy = None
    return error if type(copy) is type(error) else RuntimeError(f"{type(error).__name__}: {error}")


def _perform(engine: Any, job: Job) -> Answer:
    try:
        return Answer(getattr(engine, job.method)(*job.arguments))
    except Exception as error:  # whatever it is, the parent raises it where the job was asked for
        return Answer(error=_portable(error))


def _load(spec: EngineSpec) -> Any:
    module, _, name = spec.factory.partition(":")
    return getattr(importlib.import_module(module), name)(**spec.arguments)


def main() -> None:
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)  # the parent drives our end
    # What a terminal sends is the parent's to handle. Not a session of its own: between those Linux shares processors
    # out as equals (sched(7), autogroups), and niceness would mean nothing.
    os.setpgid(0, 0)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(sys.stdin.buffer, jobs), daemon=True).start()
    spec: EngineSpec = jobs.get()
    for limit, value in spec.limits.items():
        resource.setrlimit(getattr(resource, limit), (value, value))
    os.nice(spec.niceness)
    try:
        engine = _load(spec)
        answer = Answer()
    except Exception as error:  # the parent raises it from `start`
        engine, answer = None, Answer(error=_portable(error))
    while True:
        answers.write(frame(answer))
        answers.flush()
        answer = _perform(engine, jobs.get())


if __name__ == "__main__":
    # Under this name its types would pickle as `__main__`; run the module the parent knows.
    importlib.import_module("gateway.engines.worker").main()
