"""Reading a checkpoint without PyTorch, and reading nothing else."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.engines.torch_weights import UnreadableCheckpoint, read_state_dict


def global_(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def tensor(key: str, storage: str, length: int, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    """The opcodes with which PyTorch pickles one tensor."""
    reference = (
        b"(" + _plain("storage") + global_("torch", storage) + _plain(key) + _plain("cpu") + _plain(length) + b"tQ"
    )
    arguments = b"(" + reference + _plain(offset) + _plain(shape) + _plain(stride) + b"t"
    return global_("torch._utils", "_rebuild_tensor_v2") + arguments + b"R"


def _plain(value: Any) -> bytes:
    return pickle.dumps(value, 1)[:-1]


def checkpoint(path: Path, entries: dict[str, bytes], storages: dict[str, bytes]) -> Path:
    pickled = b"}(" + b"".join(_plain(name) + opcodes for name, opcodes in entries.items()) + b"u."
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        for key, data in storages.items():
            archive.writestr(f"archive/data/{key}", data)
    return path


def test_tensors_come_out_with_their_shapes_and_offsets(tmp_path: Path) -> None:
    numbers = np.arange(6, dtype="<f4")
    path = checkpoint(
        tmp_path / "weights.pt",
        {
            "a": tensor("0", "FloatStorage", 6, 0, (2, 3), (3, 1)),
            "b": tensor("0", "FloatStorage", 6, 2, (4,), (1,)),
            "n": tensor("1", "LongStorage", 1, 0, (), ()),
        },
        {"0": numbers.tobytes(), "1": np.array([7], "<i8").tobytes()},
    )
    state = read_state_dict(path)
    assert state["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert state["b"].tolist() == [2, 3, 4, 5]
    assert int(state["n"]) == 7


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        (tensor("0", "FloatStorage", 6, 4, (4,), (1,)), "not contiguous"),
        (tensor("0", "FloatStorage", 6, 0, (3, 2), (1, 3)), "not contiguous"),
        (tensor("0", "FloatStorage", 9, 0, (9,), (1,)), "holds 6 numbers, 9 expected"),
        (tensor("9", "FloatStorage", 6, 0, (6,), (1,)), "archive/data/9"),
        (tensor("0", "HalfStorage", 6, 0, (6,), (1,)), "HalfStorage"),
        (_plain("text"), "expected a flat dict of tensors"),
    ],
)
def test_what_is_no_plain_tensor_is_refused(tmp_path: Path, entry: bytes, fault: str) -> None:
    path = checkpoint(tmp_path / "weights.pt", {"a": entry}, {"0": np.zeros(6, "<f4").tobytes()})
    with pytest.raises(UnreadableCheckpoint, match=fault):
        read_state_dict(path)


def test_a_crafted_pickle_runs_nothing(tmp_path: Path) -> None:
    class Crafted:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "made"),))

    path = tmp_path / "weights.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Crafted()))
    with pytest.raises(UnreadableCheckpoint, match="mkdir"):
        read_state_dict(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\5\6" + bytes(18)])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(io.BytesIO(content).getvalue())
    with pytest.raises(UnreadableCheckpoint):
        read_state_dict(path)


def legacy(path: Path, state: bytes, storages: dict[str, bytes]) -> Path:
    """A checkpoint as PyTorch wrote it before 1.6; `state` holds opcodes, storages are of 32-bit floats."""
    head = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    data = b"".join(struct.pack("<q", len(one) // 4) + one for one in storages.values())
    path.write_bytes(b"".join(head) + state + pickle.dumps(list(storages), 2) + data)
    return path


def legacy_tensor(key: str, length: int, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    return tensor(key, "FloatStorage", length, offset, shape, stride).replace(b"tQ", b"NtQ", 1)


def test_an_older_checkpoint_is_read_and_one_entry_of_it_named(tmp_path: Path) -> None:
    entries = b"".join(
        _plain(name) + legacy_tensor(*reference)
        for name, reference in {"a": ("0", 6, 0, (2, 3), (3, 1)), "b": ("1", 2, 1, (1,), (1,))}.items()
    )
    state = b"}(" + _plain("step") + _plain(7) + _plain("weights") + b"}(" + entries + b"uu."
    storages = {"1": np.array([8, 9], "<f4").tobytes(), "0": np.arange(6, dtype="<f4").tobytes()}
    path = legacy(tmp_path / "weights.pt", state, storages)
    weights = read_state_dict(path, "weights")
    assert weights["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert weights["b"].tolist() == [9]
    with pytest.raises(UnreadableCheckpoint, match="flat dict"):
        read_state_dict(path)
    with pytest.raises(UnreadableCheckpoint, match="others"):
        read_state_dict(path, "others")


@pytest.mark.parametrize(
    ("length", "kept", "fault"),
    [(6, 20, "6 expected"), (7, 24, "7 expected"), (1 << 40, 24, "larger than what is left")],
)
def test_an_older_checkpoint_that_was_cut_or_lies_is_refused(
    tmp_path: Path, length: int, kept: int, fault: str
) -> None:
    state = b"}(" + _plain("a") + legacy_tensor("0", length, 0, (6,), (1,)) + b"u."
    path = legacy(tmp_path / "weights.pt", state, {"0": np.arange(6, dtype="<f4").tobytes()[:kept]})
    with pytest.raises(UnreadableCheckpoint, match=fault):
        read_state_dict(path)


def test_a_crafted_older_pickle_runs_nothing(tmp_path: Path) -> None:
    state = global_("os", "mkdir") + b"(" + _plain(str(tmp_path / "made")) + b"tR."
    with pytest.raises(UnreadableCheckpoint, match="mkdir"):
        read_state_dict(legacy(tmp_path / "weights.pt", state, {}))
    assert not (tmp_path / "made").exists()
