"""Disks to be ill-treated: one that loses power, one that is small, and system calls that fail."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest

IMAGE_BYTES = 48 * 1024 * 1024


class PowerlessDisk:
    """An ext4 file system in a file. `after_power_cut` shows it as it would come back had the power failed now.

    The file holds what was handed to the device. What only the page cache of the mounted file system has is not in
    it: `commit=600` keeps the file system from writing by itself during a test, so that is all that nobody synced.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._image = folder / "disk.ext4"
        self._cuts = 0
        self._mounted: list[Path] = []
        with self._image.open("wb") as image:
            image.truncate(IMAGE_BYTES)
        _run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(self._image))
        self.path = self._mount(self._image, "powered")

    def after_power_cut(self) -> Path:
        """The same disk, powered up again. Nobody may be writing to `path`."""
        self._cuts += 1
        copy = self._folder / f"cut-{self._cuts}.ext4"
        shutil.copyfile(self._image, copy)
        return self._mount(copy, f"cut-{self._cuts}")

    def unmount(self) -> None:
        """Detach every view of it, whoever still has files open there."""
        while self._mounted:
            _run("umount", "--lazy", str(self._mounted.pop()))

    def _mount(self, image: Path, name: str) -> Path:
        path = self._folder / name
        path.mkdir()
        mounted = subprocess.run(
            ["mount", "-o", "loop,commit=600", str(image), str(path)], capture_output=True, text=True, check=False
        )
        if mounted.returncode != 0:
            self.unmount()
            pytest.skip(f"cannot mount a disk image here: {mounted.stderr.strip()}")
        self._mounted.append(path)
        return path


@contextmanager
def powerless_disk(folder: Path) -> Iterator[PowerlessDisk]:
    folder.mkdir()
    disk = PowerlessDisk(folder)
    try:
        yield disk
    finally:
        disk.unmount()


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[Path]:
    """A file system that is soon full."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a small disk here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        _run("umount", "--lazy", str(folder))


def fill(ballast: Path) -> None:
    """Leave no room on the disk that `ballast` is on."""
    with ballast.open("wb", buffering=0) as file:
        for block_bytes in (65536, 4096, 1):
            try:
                while True:
                    file.write(bytes(block_bytes))
            except OSError:
                continue


@asynccontextmanager
async def killed_at(pid: int, call: str, number: int) -> AsyncIterator[None]:
    """A running process is killed as any of its threads begins its `number`th such system call from here on."""
    async with _tracing(pid, call, "-o", "/dev/null", "-e", f"inject={call}:signal=SIGKILL:when={number}"):
        yield


SYNCS = "fdatasync,fsync"
EIO_INJECTED = "EIO (Input/output error) (INJECTED)"


@asynccontextmanager
async def failing_syncs(pid: int, files: Iterable[Path], trace: Path) -> AsyncIterator[Path]:
    """Every sync of these files by a running process fails. Yields the record of all that was tried on them."""
    paths = [part for file in files for part in ("-P", str(file))]
    async with _tracing(pid, SYNCS, "-y", "-o", str(trace), *paths, "-e", "inject=fdatasync,fsync:error=EIO"):
        yield trace


@asynccontextmanager
async def delayed_syncs(pid: int, *, delay_s: int) -> AsyncIterator[None]:
    """Every sync of a running process hangs so long. One that exits meanwhile stays a zombie until the end of this."""
    delay = f"inject=fdatasync,fsync:delay_enter={delay_s * 1_000_000}"
    async with _tracing(pid, SYNCS, "-o", "/dev/null", "-e", delay):
        yield


@asynccontextmanager
async def _tracing(pid: int, calls: str, *options: str) -> AsyncIterator[None]:
    """strace on a running process and its threads. Skips where tracing is not allowed.

    Without --seccomp-bpf, with which signals are not injected.
    """
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    tracer = await asyncio.create_subprocess_exec(
        *("strace", "-f", "-p", str(pid), "-e", f"trace={calls}", *options), stderr=subprocess.PIPE
    )
    assert tracer.stderr is not None
    said = await tracer.stderr.readline()
    if b"attached" not in said:
        await tracer.communicate()
        pytest.skip(f"strace may not trace here: {said.decode()}")
    try:
        yield
    finally:
        if tracer.returncode is None:
            with suppress(ProcessLookupError):  # it ends with whom it traces
                tracer.kill()  # in a long delay it heeds nothing else; whom it traces goes on
        await tracer.communicate()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
