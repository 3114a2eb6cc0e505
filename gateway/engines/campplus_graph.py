"""CAM++ as an ONNX graph, written from its published weights.

The network (Wang et al. 2023, "CAM++: A Fast and Efficient Network for Speaker Verification Using Context-Aware
Masking", arXiv 2303.00332): a small 2-d convolutional head over the spectrum, then densely connected time-delay layers,
each masked by the mean of its whole context plus the mean of its 100-frame segment, then mean and deviation over time.
Tensor names are those of the published checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from gateway.engines.torch_weights import Array

MEL_BINS = 80
HEAD_CHANNELS = 32 * MEL_BINS // 8
"""32 channels of a spectrum that was halved three times."""
DIMENSIONS = 192
SEGMENT_FRAMES = 100
BLOCKS = ((12, 1), (24, 2), (16, 2))
"""Layers and dilation of each dense block."""

_BATCH_NORM_EPSILON = 1e-5
_OPSET = 17
_IR_VERSION = 8


def write_graph(weights: Mapping[str, Array]) -> bytes:
    """The serialised model: `features` float32 (1, frames, 80) -> `embedding` float32 (1, 192), not normalised.

    The same weights give the same bytes: they are copied as they are, folded into nothing. Raises KeyError when a
    weight is missing.
    """
    graph = _Graph(weights)
    x = graph.add("Transpose", "features", perm=[0, 2, 1])
    x = _head(graph, graph.add("Unsqueeze", x, graph.integers([1])))
    x = graph.conv(x, "xvector.tdnn.linear", strides=[2], pads=[2, 2])
    x = graph.norm_relu(x, "xvector.tdnn.nonlinear.batchnorm")
    segments = _segment_index(graph, x)
    for number, (layers, dilation) in enumerate(BLOCKS, start=1):
        for layer in range(1, layers + 1):
            new = _masked_layer(graph, x, f"xvector.block{number}.tdnnd{layer}", dilation, segments)
            x = graph.add("Concat", x, new, axis=1)
        x = graph.norm_relu(x, f"xvector.transit{number}.nonlinear.batchnorm")
        x = graph.conv(x, f"xvector.transit{number}.linear")
    x = graph.norm_relu(x, "xvector.out_nonlinear.batchnorm")
    x = _mean_and_deviation(graph, x)
    x = graph.conv(x, "xvector.dense.linear")
    x = graph.norm(x, "xvector.dense.nonlinear.batchnorm")
    graph.add("Squeeze", x, graph.integers([2]), output="embedding")
    return graph.serialised()


def _head(graph: _Graph, x: str) -> str:
    """The residual 2-d head: (1, 1, 80, T) -> (1, 320, T)."""
    x = graph.norm_relu(graph.conv(x, "head.conv1", pads=[1, 1, 1, 1]), "head.bn1")
    for layer in ("head.layer1", "head.layer2"):
        for block, stride in ((f"{layer}.0", 2), (f"{layer}.1", 1)):
            y = graph.conv(x, f"{block}.conv1", strides=[stride, 1], pads=[1, 1, 1, 1])
            y = graph.conv(graph.norm_relu(y, f"{block}.bn1"), f"{block}.conv2", pads=[1, 1, 1, 1])
            y = graph.norm(y, f"{block}.bn2")
            if stride != 1:
                x = graph.norm(graph.conv(x, f"{block}.shortcut.0", strides=[stride, 1]), f"{block}.shortcut.1")
            x = graph.add("Relu", graph.add("Add", y, x))
    x = graph.norm_relu(graph.conv(x, "head.conv2", strides=[2, 1], pads=[1, 1, 1, 1]), "head.bn2")
    time = graph.add("Shape", x, start=3, end=4)
    return graph.add("Reshape", x, graph.add("Concat", graph.integers([1, HEAD_CHANNELS]), time, axis=0))


def _segment_index(graph: _Graph, x: str) -> str:
    """For each frame the number of its segment, so that a segment's mean can be gathered back to its frames."""
    frames = graph.add("Squeeze", graph.add("Shape", x, start=2, end=3), graph.integers([0]))
    every = graph.add("Range", graph.integer(0), frames, graph.integer(1))
    return graph.add("Div", every, graph.integer(SEGMENT_FRAMES))


def _masked_layer(graph: _Graph, x: str, name: str, dilation: int, segments: str) -> str:
    """One densely connected layer with its context-aware mask: (1, C, T) -> (1, 32, T)."""
    x = graph.conv(graph.norm_relu(x, f"{name}.nonlinear1.batchnorm"), f"{name}.linear1")
    x = graph.norm_relu(x, f"{name}.nonlinear2.batchnorm")
    local = graph.conv(x, f"{name}.cam_layer.linear_local", pads=[dilation, dilation], dilations=[dilation])
    means = graph.add(
        "AveragePool", x, kernel_shape=[SEGMENT_FRAMES], strides=[SEGMENT_FRAMES], ceil_mode=1, count_include_pad=0
    )
    # The mask is a function of the segment alone: compute it once a segment, then spread it over the frames.
    context = graph.add("Add", means, graph.add("ReduceMean", x, axes=[2]))
    mask = graph.add("Relu", graph.conv(context, f"{name}.cam_layer.linear1"))
    mask = graph.add("Sigmoid", graph.conv(mask, f"{name}.cam_layer.linear2"))
    return graph.add("Mul", local, graph.add("Gather", mask, segments, axis=2))


def _mean_and_deviation(graph: _Graph, x: str) -> str:
    """Mean and standard deviation (of the sample, n - 1) over time: (1, C, T) -> (1, 2C, 1)."""
    mean = graph.add("ReduceMean", x, axes=[2])
    centred = graph.add("Sub", x, mean)
    squares = graph.add("ReduceSum", graph.add("Mul", centred, centred), graph.integers([2]))
    frames = graph.add("Cast", graph.add("Shape", x, start=2, end=3), to=TensorProto.FLOAT)
    variance = graph.add("Div", squares, graph.add("Sub", frames, graph.floats([1.0])))
    return graph.add("Concat", mean, graph.add("Sqrt", variance), axis=1)


class _Graph:
    """Collects nodes and the weights they name."""

    def __init__(self, weights: Mapping[str, Array]) -> None:
        self._weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}

    def add(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Append a node; returns the name of what it gives."""
        output = output or f"{operator.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    def conv(self, x: str, name: str, **attributes: Any) -> str:
        inputs = [x, self._weight(f"{name}.weight")]
        if f"{name}.bias" in self._weights:
            inputs.append(self._weight(f"{name}.bias"))
        return self.add("Conv", *inputs, **attributes)

    def norm(self, x: str, name: str) -> str:
        mean, variance = f"{name}.running_mean", f"{name}.running_var"
        if f"{name}.weight" in self._weights:
            scale, shift = self._weight(f"{name}.weight"), self._weight(f"{name}.bias")
        else:  # the last one has no learned scale and shift
            size = self._weights[mean].size
            scale, shift = self.floats([1.0] * size), self.floats([0.0] * size)
        inputs = (x, scale, shift, self._weight(mean), self._weight(variance))
        return self.add("BatchNormalization", *inputs, epsilon=_BATCH_NORM_EPSILON)

    def norm_relu(self, x: str, name: str) -> str:
        return self.add("Relu", self.norm(x, name))

    def integer(self, value: int) -> str:
        return self._keep(f"integer_{value}", np.array(value, np.int64))

    def integers(self, values: list[int]) -> str:
        return self._keep("integers_" + "_".join(map(str, values)), np.array(values, np.int64))

    def floats(self, values: list[float]) -> str:
        return self._keep(f"floats_{len(values)}_{values[0]}", np.array(values, np.float32))

    def serialised(self) -> bytes:
        graph = helper.make_graph(
            self._nodes,
            "campplus",
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, "frames", MEL_BINS])],
            [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, DIMENSIONS])],
            list(self._initializers.values()),
        )
        model = helper.make_model(
            graph, producer_name="earshot", opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION
        )
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString(deterministic=True))

    def _weight(self, name: str) -> str:
        return self._keep(name, self._weights[name])

    def _keep(self, name: str, array: Array) -> str:
        if name not in self._initializers:
            self._initializers[name] = onnx.numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name
