"""Reads the weights out of a PyTorch checkpoint (`torch.save` of a state dict) without PyTorch.

Such a file is a zip: `<root>/data.pkl`, a pickle whose tensors refer to storages by key, and the storages' raw bytes in
`<root>/data/<key>`. The unpickler knows four names and builds arrays only: a crafted file can run nothing.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_STORAGES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class UnreadableCheckpoint(Exception):
    """The file is not a checkpoint of plain float and integer tensors."""


def read_state_dict(path: Path) -> Mapping[str, Array]:
    """The tensors of a checkpoint by name, as read-only arrays. Raises UnreadableCheckpoint."""
    try:
        with zipfile.ZipFile(path) as archive:
            root = next((name for name in archive.namelist() if name.endswith("/data.pkl")), "").removesuffix(
                "data.pkl"
            )
            with archive.open(f"{root}data.pkl") as stream:
                state = _Unpickler(stream, archive, root).load()
    except (zipfile.BadZipFile, KeyError, ValueError, pickle.UnpicklingError) as cause:
        raise UnreadableCheckpoint(f"{path.name}: {cause}") from cause
    if not isinstance(state, dict) or not all(isinstance(value, np.ndarray) for value in state.values()):
        raise UnreadableCheckpoint(f"{path.name}: expected a flat dict of tensors")
    return state


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: IO[bytes], archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(stream)
        self._archive = archive
        self._root = root

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        raise pickle.UnpicklingError(f"holds {module}.{name}, which is no plain tensor")

    def persistent_load(self, reference: Any) -> Array:
        _, dtype, key, _, length = reference
        storage = np.frombuffer(self._archive.read(f"{self._root}data/{key}"), dtype)
        if len(storage) != length:
            raise pickle.UnpicklingError(f"storage {key} holds {len(storage)} numbers, {length} expected")
        return storage


def _tensor(storage: Array, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: object) -> Array:
    size = int(np.prod(shape, dtype=np.int64))
    contiguous = tuple(int(np.prod(shape[i + 1 :], dtype=np.int64)) for i in range(len(shape)))
    if stride != contiguous or not 0 <= offset <= len(storage) - size:
        raise pickle.UnpicklingError(f"tensor of shape {shape} is not contiguous in its storage")
    return storage[offset : offset + size].reshape(shape)
