"""Engines that do on demand what real ones do by accident; loaded in real engine processes."""

from __future__ import annotations

import os
import time
from pathlib import Path


class Toy:
    def __init__(self, broken: Path | None = None) -> None:
        if broken is not None and broken.exists():
            raise FileNotFoundError(f"the toy is broken: {broken}")

    def echo(self, value: object) -> object:
        return value

    def pid(self) -> int:
        return os.getpid()

    def environment(self, name: str) -> str | None:
        return os.environ.get(name)

    def fail(self) -> None:
        raise ValueError("no such thing")

    def fail_unportably(self) -> None:
        class OfThisProcessOnly(Exception):
            pass

        raise OfThisProcessOnly("gone")

    def print(self) -> str:
        print("to standard output")
        return "printed"

    def die(self) -> None:
        os._exit(3)

    def die_once(self, marker: Path) -> str:
        if not marker.exists():
            marker.touch()
            os._exit(3)
        return "lived"

    def wait_for(self, path: Path) -> str:
        while not path.exists():
            time.sleep(0.002)
        return path.name

    def hang(self) -> None:
        while True:
            time.sleep(60)


class DeadlyDecoding:
    def decode(self, *_: object) -> None:
        os._exit(3)
