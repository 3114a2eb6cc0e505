"""GE2E: the graph that is written, and what is fed to it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import platformdirs
import pytest
from numpy.typing import NDArray

from gateway.engines.ge2e import Ge2e, spectrum, window_starts
from gateway.engines.ge2e_graph import DIMENSIONS, MEL_BINS, WINDOW_FRAMES, write_graph
from gateway.engines.models import installed, model_folder
from gateway.engines.onnx_session import open_session
from gateway.ports import Rejected
from tests.unit.engines.spoken import speech

REFERENCE = [
    [0, 0, 0.08077, 0, 0, 0.06019, 0.11809, 0.19379, 0, 0, 0.09942],
    [0, 0.09597, 0.06294, 0.05996, 0, 0.02483, 0.05676, 0.08659, 0, 0, 0.05051],
]
"""Every 24th number of two windows: the published network in PyTorch 2.6, once."""
Weights = dict[str, NDArray[np.float32]]


@pytest.fixture(scope="module")
def graph_path() -> Path:
    folder = Path(os.environ.get("EARSHOT_MODELS_DIR", platformdirs.user_cache_path("earshot") / "models"))
    if not installed(folder, "ge2e"):
        pytest.skip("model ge2e is not here: run `earshot models pull ge2e`")
    return model_folder(folder, "ge2e") / "ge2e.onnx"


def made_up_weights() -> Weights:
    chance = np.random.default_rng(3)
    shapes: dict[str, tuple[int, ...]] = {"linear.weight": (DIMENSIONS, DIMENSIONS), "linear.bias": (DIMENSIONS,)}
    for layer in range(3):
        shapes[f"lstm.weight_ih_l{layer}"] = (4 * DIMENSIONS, MEL_BINS if layer == 0 else DIMENSIONS)
        shapes[f"lstm.weight_hh_l{layer}"] = (4 * DIMENSIONS, DIMENSIONS)
        shapes[f"lstm.bias_ih_l{layer}"] = shapes[f"lstm.bias_hh_l{layer}"] = (4 * DIMENSIONS,)
    return {name: chance.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}


def by_hand(weights: Weights, mel: NDArray[np.float32]) -> NDArray[np.float64]:
    """The network after its definition, one frame at a time, gates in PyTorch's order."""

    def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return 1 / (1 + np.exp(-x))

    x = mel.astype(np.float64)
    for layer in range(3):
        state, cell, out = np.zeros((len(x), DIMENSIONS)), np.zeros((len(x), DIMENSIONS)), []
        bias = weights[f"lstm.bias_ih_l{layer}"] + weights[f"lstm.bias_hh_l{layer}"]
        for frame in range(x.shape[1]):
            gates = x[:, frame] @ weights[f"lstm.weight_ih_l{layer}"].T + bias
            gates += state @ weights[f"lstm.weight_hh_l{layer}"].T
            into, forget, fresh, let_out = np.split(gates, 4, axis=1)
            cell = sigmoid(forget) * cell + sigmoid(into) * np.tanh(fresh)
            state = sigmoid(let_out) * np.tanh(cell)
            out.append(state)
        x = np.stack(out, axis=1)
    print_ = np.maximum(0, x[:, -1] @ weights["linear.weight"].T + weights["linear.bias"])
    return np.asarray(print_ / np.linalg.norm(print_, axis=1, keepdims=True))


def test_the_graph_is_the_network_of_its_definition(tmp_path: Path) -> None:
    weights = made_up_weights()
    (tmp_path / "ge2e.onnx").write_bytes(write_graph(weights))
    mel = np.random.default_rng(4).random((3, WINDOW_FRAMES, MEL_BINS)).astype(np.float32)
    prints = open_session(tmp_path / "ge2e.onnx").run(None, {"mel": mel})[0]
    assert prints == pytest.approx(by_hand(weights, mel), abs=1e-4)


def test_a_missing_tensor_is_named() -> None:
    weights = made_up_weights()
    del weights["lstm.bias_hh_l2"]
    with pytest.raises(KeyError, match=r"lstm\.bias_hh_l2"):
        write_graph(weights)


def test_the_spectrum_is_what_librosa_makes() -> None:
    """Reference values: Resemblyzer's spectrogram of the same samples with librosa 0.11, once."""
    t = np.arange(8000) / 16000
    mel = spectrum(
        (0.3 * np.sin(2 * np.pi * 440 * t) + 0.2 * np.sin(2 * np.pi * 3000 * t * (1 + t))).astype(np.float32)
    )
    assert mel.shape == (51, MEL_BINS)
    assert mel[40, ::5] == pytest.approx([0, 14.787976, 0, 0, 0, 0, 0, 1.173237], abs=1e-4)
    assert mel[0, ::8] == pytest.approx([0.0946798, 0.0430218, 0.0000514, 0.0036207, 0.0010121], rel=1e-3)


@pytest.mark.parametrize(
    ("samples", "starts"),
    [(3200, [0]), (16000, [0]), (30000, [0]), (36000, [0, 77]), (48000, [0, 77, 154]), (80000, [0, 77, 154, 231, 308])],
)
def test_windows_cover_the_audio_and_a_scarcely_filled_last_one_is_left_out(samples: int, starts: list[int]) -> None:
    assert window_starts(samples) == starts


@pytest.mark.models
def test_the_published_weights_compute_what_pytorch_did(graph_path: Path) -> None:
    frame, band = np.arange(WINDOW_FRAMES)[:, None], np.arange(MEL_BINS)[None]
    waves = [np.square(np.sin(0.13 * frame + 0.05 * band * (1 + n))) * 0.1 / (1 + band) for n in range(2)]
    prints = open_session(graph_path).run(None, {"mel": np.stack(waves).astype(np.float32)})[0]
    assert prints[:, ::24] == pytest.approx(np.array(REFERENCE), abs=1e-4)


@pytest.mark.models
def test_a_print_has_unit_length_and_does_not_depend_on_how_loud_the_audio_is(graph_path: Path) -> None:
    ge2e = Ge2e(graph_path)
    pcm = speech("your account is now closed")
    quiet = (np.frombuffer(pcm, "<i2") * 0.02).astype("<i2").tobytes()
    softer = (np.frombuffer(pcm, "<i2") * 0.01).astype("<i2").tobytes()
    assert np.linalg.norm(ge2e.embed(pcm, 16000)) == pytest.approx(1, abs=1e-5)
    assert ge2e.embed(quiet, 16000) @ ge2e.embed(softer, 16000) > 0.99
    with pytest.raises(Rejected, match=r"needs 0\.2 s"):
        ge2e.embed(bytes(2 * 3199), 16000)
