"""GE2E as an ONNX graph, written from its published weights.

The network (Wan et al. 2018, "Generalized End-to-End Loss for Speaker Verification", arXiv 1710.10467): three LSTM
layers over a mel spectrogram; the last layer's last state, through a linear layer and a rectifier, of unit length.
Tensor names are those of the published checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper

from gateway.engines.torch_weights import Array

MEL_BINS = 40
DIMENSIONS = 256
WINDOW_FRAMES = 160
"""1.6 s: what the network hears at a time."""

_LAYERS = 3
_OPSET = 17
_IR_VERSION = 8


def write_graph(weights: Mapping[str, Array]) -> bytes:
    """The serialised model: `mel` float32 (windows, 160, 40) -> `prints` float32 (windows, 256), unit length each.

    The same weights give the same bytes. Raises KeyError when a tensor is missing.
    """
    nodes = [helper.make_node("Transpose", ["mel"], ["time_first"], perm=[1, 0, 2])]
    initializers = [_initializer("one", np.array([1], np.int64)), _initializer("zero", np.array([0], np.int64))]
    x = "time_first"
    for layer in range(_LAYERS):
        initializers += _layer_weights(weights, layer)
        names = [f"w{layer}", f"r{layer}", f"b{layer}"]
        nodes.append(
            helper.make_node("LSTM", [x, *names], [f"y{layer}", f"last{layer}"], hidden_size=DIMENSIONS)
        )  # y: (frames, 1 direction, windows, 256)
        nodes.append(helper.make_node("Squeeze", [f"y{layer}", "one"], [f"out{layer}"]))
        x = f"out{layer}"
    nodes += [
        helper.make_node("Squeeze", [f"last{_LAYERS - 1}", "zero"], ["state"]),
        helper.make_node("Gemm", ["state", "linear.weight", "linear.bias"], ["linear"], transB=1),
        helper.make_node("Relu", ["linear"], ["rectified"]),
        helper.make_node("LpNormalization", ["rectified"], ["prints"], axis=1, p=2),
    ]
    initializers += [_initializer(name, weights[name]) for name in ("linear.weight", "linear.bias")]
    graph = helper.make_graph(
        nodes,
        "ge2e",
        [helper.make_tensor_value_info("mel", TensorProto.FLOAT, ["windows", WINDOW_FRAMES, MEL_BINS])],
        [helper.make_tensor_value_info("prints", TensorProto.FLOAT, ["windows", DIMENSIONS])],
        initializers,
    )
    model = helper.make_model(
        graph, producer_name="earshot", opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _layer_weights(weights: Mapping[str, Array], layer: int) -> list[onnx.TensorProto]:
    """One layer's weights as ONNX wants them: gates in the order input, output, forget, cell; a leading direction."""
    into, within = weights[f"lstm.weight_ih_l{layer}"], weights[f"lstm.weight_hh_l{layer}"]
    biases = [_reordered(weights[f"lstm.bias_{kind}_l{layer}"]) for kind in ("ih", "hh")]
    return [
        _initializer(f"w{layer}", _reordered(into)[np.newaxis]),
        _initializer(f"r{layer}", _reordered(within)[np.newaxis]),
        _initializer(f"b{layer}", np.concatenate(biases)[np.newaxis]),
    ]


def _reordered(gates: Array) -> Array:
    """PyTorch stacks the gates as input, forget, cell, output."""
    into, forget, cell, out = np.split(gates, 4)
    return np.concatenate([into, out, forget, cell])


def _initializer(name: str, array: Array) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(np.ascontiguousarray(array), name)
