"""Reads the weights out of a PyTorch checkpoint (`torch.save` of a state dict) without PyTorch.

Since PyTorch 1.6 such a file is a zip: `<root>/data.pkl`, a pickle whose tensors refer to storages by key, and the
storages' raw bytes in `<root>/data/<key>`. Before, it was five pickles one behind the other (a magic number, the
format's version, the machine, the tensors, the storages' keys) and then the storages, each behind its length. The
unpickler knows four names and builds arrays only: a crafted file can run nothing.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_STORAGES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}
_LEGACY_MAGIC, _LEGACY_VERSION = 0x1950A86A20F9469CFC6C, 1001
_LENGTH = struct.Struct("<q")
_UNREADABLE = (zipfile.BadZipFile, pickle.UnpicklingError, LookupError, TypeError, ValueError, AttributeError, EOFError)


class UnreadableCheckpoint(Exception):
    """The file is not a checkpoint of plain float and integer tensors."""


def read_state_dict(path: Path, part: str | None = None) -> Mapping[str, Array]:
    """The tensors of a checkpoint by name, as read-only arrays; `part` names the entry that holds them, if one does.

    Raises UnreadableCheckpoint.
    """
    try:
        if zipfile.is_zipfile(path):
            state = _read_zip(path)
        else:
            with path.open("rb") as stream:
                state = _read_legacy(stream)
        if part is not None:
            state = state[part]
    except _UNREADABLE as cause:
        raise UnreadableCheckpoint(f"{path.name}: {cause}") from cause
    if not isinstance(state, dict) or not all(isinstance(value, np.ndarray) for value in state.values()):
        raise UnreadableCheckpoint(f"{path.name}: expected a flat dict of tensors")
    return state


def _read_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        root = next((name for name in archive.namelist() if name.endswith("/data.pkl")), "").removesuffix("data.pkl")
        with archive.open(f"{root}data.pkl") as stream:
            return _ZipUnpickler(stream, archive, root).load()


def _read_legacy(stream: IO[bytes]) -> Any:
    found = [_Unpickler(stream).load() for _ in range(2)]
    if found != [_LEGACY_MAGIC, _LEGACY_VERSION]:
        raise pickle.UnpicklingError("is neither a zip nor begins as older checkpoints do")
    _Unpickler(stream).load()  # the machine it was written on
    tensors = _LegacyUnpickler(stream)
    state = tensors.load()
    for key in _Unpickler(stream).load():
        tensors.fill(key, stream)
    return state


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        raise pickle.UnpicklingError(f"holds {module}.{name}, which is no plain tensor")


class _ZipUnpickler(_Unpickler):
    def __init__(self, stream: IO[bytes], archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(stream)
        self._archive = archive
        self._root = root

    def persistent_load(self, reference: Any) -> Array:
        _, dtype, key, _, length = reference
        storage = np.frombuffer(self._archive.read(f"{self._root}data/{key}"), dtype)
        if len(storage) != length:
            raise pickle.UnpicklingError(f"storage {key} holds {len(storage)} numbers, {length} expected")
        return storage


class _LegacyUnpickler(_Unpickler):
    """Storages come after the tensors that refer to them: each is made at its length and filled afterwards."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(stream)
        self._storages: dict[str, Array] = {}
        self._left_bytes = _left(stream)

    def persistent_load(self, reference: Any) -> Array:
        _, dtype, key, _, length, view = reference
        if view is not None:
            raise pickle.UnpicklingError(f"storage {key} is a view of another")
        if key not in self._storages:
            self._left_bytes -= length * dtype.itemsize
            if length < 0 or self._left_bytes < 0:
                raise pickle.UnpicklingError(f"storage {key} is larger than what is left of the file")
            self._storages[key] = np.empty(length, dtype)
        view_of: Array = self._storages[key].view()
        view_of.flags.writeable = False
        return view_of

    def fill(self, key: str, stream: IO[bytes]) -> None:
        storage = self._storages[key]
        (length,) = _LENGTH.unpack(stream.read(_LENGTH.size).ljust(_LENGTH.size, b"\0"))
        data = stream.read(storage.nbytes)
        if length != len(storage) or len(data) != storage.nbytes:
            raise pickle.UnpicklingError(f"storage {key} holds {length} numbers, {len(storage)} expected")
        storage[:] = np.frombuffer(data, storage.dtype)


def _left(stream: IO[bytes]) -> int:
    here = stream.tell()
    size = stream.seek(0, 2)
    stream.seek(here)
    return size - here


def _tensor(storage: Array, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: object) -> Array:
    size = int(np.prod(shape, dtype=np.int64))
    contiguous = tuple(int(np.prod(shape[i + 1 :], dtype=np.int64)) for i in range(len(shape)))
    if stride != contiguous or not 0 <= offset <= len(storage) - size:
        raise pickle.UnpicklingError(f"tensor of shape {shape} is not contiguous in its storage")
    return storage[offset : offset + size].reshape(shape)
