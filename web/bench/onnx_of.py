"""Writes the MobileNets of the test material as ONNX, for the other engine of the bench: the same numbers in the form that it reads.

usage: onnx_of.py MATERIAL OUT      (PyPI: onnx, safetensors, numpy)
"""

import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

# Strides of the blocks, and for V3 where the activation is hardswish, which the files do not hold.
STRIDES = {
    "mobilenet_v2": [1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1],
    "mobilenet_v3_small": [2, 2, 1, 2, 1, 1, 1, 1, 2, 1, 1],
}
HARDSWISH_FROM = 4


class Graph:
    """Nodes and numbers, in the order in which they come."""

    def __init__(self, weights):
        self.weights, self.nodes, self.numbers = weights, [], []

    def node(self, kind, inputs, **attributes):
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def number(self, name, values=None):
        values = self.weights[name] if values is None else values
        self.numbers.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def convolution(self, x, size, name, stride=1):
        """A convolution with TensorFlow's padding; gives its output and the size of that."""
        kernel, groups = self.weights[f"{name}.weight"], 1
        if kernel.shape[1] == 1 and kernel.shape[0] > 1:
            groups = kernel.shape[0]
        edge = kernel.shape[2]
        after = -(-size // stride)
        total = max((after - 1) * stride + edge - size, 0)
        small, large = total // 2, total - total // 2
        inputs = [x, self.number(f"{name}.weight"), self.number(f"{name}.bias")]
        pads = [small, small, large, large]
        out = self.node("Conv", inputs, kernel_shape=[edge, edge], strides=[stride, stride], pads=pads, group=groups)
        return out, after

    def activation(self, x, kind):
        if kind == "relu6":
            return self.node("Clip", [x, "zero", "six"])
        if kind == "relu":
            return self.node("Relu", [x])
        gate = self.node("HardSigmoid", [x], alpha=1 / 6, beta=0.5)
        return self.node("Mul", [x, gate])

    def squeeze(self, x, name):
        pooled = self.node("GlobalAveragePool", [x])
        middle, _ = self.convolution(pooled, 1, f"{name}.fc1")
        gate, _ = self.convolution(self.node("Relu", [middle]), 1, f"{name}.fc2")
        return self.node("Mul", [x, self.node("HardSigmoid", [gate], alpha=1 / 6, beta=0.5)])


def v2(graph, x, size):
    x, size = graph.convolution(x, size, "features.0.0", 2)
    x = graph.activation(x, "relu6")
    for block, stride in enumerate(STRIDES["mobilenet_v2"], 1):
        before, name = x, f"features.{block}.conv"
        parts = [f"{name}.0.0", f"{name}.1.0"] if f"{name}.1.0.weight" in graph.weights else [f"{name}.0.0"]
        for part in parts:
            x, size = graph.convolution(x, size, part, stride if part == parts[-1] else 1)
            x = graph.activation(x, "relu6")
        project = f"{name}.{len(parts)}"
        x, size = graph.convolution(x, size, project)
        same = graph.weights[f"{parts[0]}.weight"].shape[1] == graph.weights[f"{project}.weight"].shape[0]
        if len(parts) == 2 and stride == 1 and same:
            x = graph.node("Add", [before, x])
    x, size = graph.convolution(x, size, "features.18.0")
    return [graph.activation(x, "relu6"), ["classifier.1"]]


def v3_small(graph, x, size):
    x, size = graph.convolution(x, size, "features.0.0", 2)
    x = graph.activation(x, "hardswish")
    for block, stride in enumerate(STRIDES["mobilenet_v3_small"], 1):
        before, kind = x, "hardswish" if block >= HARDSWISH_FROM else "relu"
        name, part = f"features.{block}.block", 0
        if graph.weights[f"{name}.0.0.weight"].shape[1] > 1:
            x, size = graph.convolution(x, size, f"{name}.0.0")
            x, part = graph.activation(x, kind), 1
        x, size = graph.convolution(x, size, f"{name}.{part}.0", stride)
        x = graph.activation(x, kind)
        if f"{name}.{part + 1}.fc1.weight" in graph.weights:
            part += 1
            x = graph.squeeze(x, f"{name}.{part}")
        project = f"{name}.{part + 1}.0"
        x, size = graph.convolution(x, size, project)
        same = graph.weights[f"{name}.0.0.weight"].shape[1] == graph.weights[f"{project}.weight"].shape[0]
        if stride == 1 and same and block > 1:
            x = graph.node("Add", [before, x])
    x, size = graph.convolution(x, size, "features.12.0")
    return [graph.activation(x, "hardswish"), ["classifier.0", "classifier.3"]]


def main(material, out):
    out.mkdir(parents=True, exist_ok=True)
    for name, body in [("mobilenet_v2", v2), ("mobilenet_v3_small", v3_small)]:
        graph = Graph(load_file(material / name / "model.safetensors"))
        graph.number("zero", np.array(0, np.float32))
        graph.number("six", np.array(6, np.float32))
        x, heads = body(graph, "input", 224)
        x = graph.node("Flatten", [graph.node("GlobalAveragePool", [x])])
        for at, head in enumerate(heads):
            if at > 0:
                x = graph.activation(x, "hardswish")
            x = graph.node("Gemm", [x, graph.number(f"{head}.weight"), graph.number(f"{head}.bias")], transB=1)
        inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 224, 224])]
        outputs = [helper.make_tensor_value_info(x, TensorProto.FLOAT, [1, 1001])]
        used = {name for node in graph.nodes for name in node.input}
        numbers = [number for number in graph.numbers if number.name in used]
        made = helper.make_graph(graph.nodes, name, inputs, outputs, numbers)
        model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.checker.check_model(model)
        onnx.save(model, out / f"{name}.onnx")
        print(out / f"{name}.onnx", len(graph.nodes), "nodes")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
