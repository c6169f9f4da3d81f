"""An exported program as an ONNX file: a node or two for each of the few operations that our networks have.

torch has two exporters of its own. The one by TorchScript is deprecated; the other runs the program through several
compilers, which takes minutes for DenseNet-121, and needs onnxscript. Our programs are so simple that a table does it.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram
from torch.fx import Node

from ads_gym.errors import InvalidValue
from ads_gym.imports import import_package

INSTALL = "-e '.[onnx]'"
OPSET, IR_VERSION = 18, 8  # of the end of 2022: whatever is newer reads them
MOST_BYTES = 2**31 - 2**20  # of weights: a file of Protocol Buffers has less than 2 GiB

_aten: Any = torch.ops.aten


def to_onnx(program: ExportedProgram, description: str) -> bytes:
    """The content of an ONNX file: "images" in, "logits" out, "batch" many.

    Args:
        program: float32, of one input and one output with a dynamic first dimension; none of its in-place operations
            changes what another one reads.
        description: is stored in the file.

    Raises:
        MissingPackage: onnx is not installed.
        InvalidValue: weights too large for a file, or another operation.
    """
    onnx: Any = import_package("onnx", INSTALL)
    weights = _weights(program)
    size = sum(weight.nbytes for weight in weights.values())
    if size > MOST_BYTES:
        raise InvalidValue(
            f"an ONNX file holds less than 2 GiB, and these weights are {size:,} bytes: export to torch."
        )
    graph = _Graph(onnx.helper)
    for node in program.graph.nodes:
        if node.op == "placeholder":
            graph.names[node] = _target(program, node) or "images"
        elif node.op == "call_function":
            graph.add(node)
    (images,) = (node for node, name in graph.names.items() if name == "images")
    (logits,) = next(node for node in program.graph.nodes if node.op == "output").args[0]
    graph.nodes.append(onnx.helper.make_node("Identity", [graph.names[logits]], ["logits"]))
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", *node.meta["val"].shape[1:]])
        for name, node in (("images", images), ("logits", logits))
    ]
    read = {name for node in graph.nodes for name in node.input}
    stored = {name: value for name, value in (weights | graph.constants).items() if name in read}
    made = onnx.helper.make_graph(
        graph.nodes,
        "ads-gym",
        values[:1],
        values[1:],
        [onnx.numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    opset = onnx.helper.make_opsetid("", OPSET)
    model = onnx.helper.make_model(made, producer_name="ads-gym", opset_imports=[opset], ir_version=IR_VERSION)
    model.doc_string = description
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


class _Graph:
    """ONNX nodes, and the names of what torch's nodes give.

    Args:
        helper: `onnx.helper`.
    """

    def __init__(self, helper: Any) -> None:
        self.names: dict[Node, str] = {}
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self._helper = helper

    def add(self, node: Node) -> None:
        """Write one of torch's operations.

        Raises:
            InvalidValue: it is not in the table.
        """
        operation: Any = node.target
        if operation is _aten._assert_tensor_metadata.default:
            return
        if operation not in _OPERATIONS:
            raise InvalidValue(f"this network has the operation {operation}, which is not written to ONNX.")
        given = {argument.name: argument.default_value for argument in operation._schema.arguments}
        given |= dict(zip(given, node.args, strict=False)) | node.kwargs
        assert not operation._schema.is_mutable or len(node.all_input_nodes[0].users) == 1
        self.names[node] = node.name
        _OPERATIONS[operation](self, node.name, given)

    def write(self, name: str, op: str, *inputs: Any, **attributes: object) -> str:
        """Write one of ONNX's; return the name of what it gives."""
        named = [self.names.get(each, each) for each in inputs if each is not None]
        self.nodes.append(self._helper.make_node(op, named, [name], name, **attributes))
        return name


Arguments = Mapping[str, Any]


def _convolve(graph: _Graph, name: str, given: Arguments) -> None:
    graph.write(
        name,
        "Conv",
        *(given[part] for part in ("input", "weight", "bias")),
        strides=_pair(given["stride"]),
        pads=2 * _pair(given["padding"]),
        dilations=_pair(given["dilation"]),
        group=given["groups"],
    )


def _normalise(graph: _Graph, name: str, given: Arguments) -> None:
    assert not given["training"]
    parts = ("input", "weight", "bias", "running_mean", "running_var")
    graph.write(name, "BatchNormalization", *(given[part] for part in parts), epsilon=given["eps"])


def _pool(op: str) -> Callable[[_Graph, str, Arguments], None]:
    def write(graph: _Graph, name: str, given: Arguments) -> None:
        kernel = _pair(given["kernel_size"])
        strides, pads = _pair(given["stride"] or kernel), 2 * _pair(given["padding"])
        assert op == "MaxPool" or not any(pads)  # an average would have to know what a border counts
        graph.write(name, op, given["self"], kernel_shape=kernel, strides=strides, pads=pads)

    return write


def _average(graph: _Graph, name: str, given: Arguments) -> None:
    axes = f"{name}_axes"
    graph.constants[axes] = np.array(given["dim"], np.int64)
    graph.write(name, "ReduceMean", given["self"], axes, keepdims=int(given["keepdim"]))


def _narrow(graph: _Graph, name: str, given: Arguments) -> None:
    start = given["start"]
    parts = {"starts": start, "ends": start + given["length"], "axes": given["dim"]}
    for part, value in parts.items():
        graph.constants[f"{name}_{part}"] = np.array([value], np.int64)
    graph.write(name, "Slice", given["self"], *(f"{name}_{part}" for part in parts))


def _clamp(graph: _Graph, name: str, given: Arguments) -> None:
    above = graph.write(f"{name}_low", "Max", given["self"], given["min"])
    graph.write(name, "Min", above, given["max"])


def _add(graph: _Graph, name: str, given: Arguments) -> None:
    assert given["alpha"] == 1
    graph.write(name, "Add", given["self"], given["other"])


def _multiply(graph: _Graph, name: str, given: Arguments) -> None:
    parts = ("input", "weight", "bias")
    graph.write(name, "Gemm", *(given[part] for part in parts), transB=1)


_OPERATIONS: dict[Any, Callable[[_Graph, str, Arguments], object]] = {
    _aten.conv2d.default: _convolve,
    _aten.batch_norm.default: _normalise,
    _aten.relu.default: lambda graph, name, given: graph.write(name, "Relu", given["self"]),
    _aten.relu_.default: lambda graph, name, given: graph.write(name, "Relu", given["self"]),
    _aten.cat.default: lambda graph, name, given: graph.write(name, "Concat", *given["tensors"], axis=given["dim"]),
    _aten.narrow.default: _narrow,
    _aten.avg_pool2d.default: _pool("AveragePool"),
    _aten.max_pool2d.default: _pool("MaxPool"),
    _aten.mean.dim: _average,
    _aten.linear.default: _multiply,
    _aten.clamp.Tensor: _clamp,
    _aten.clamp_.Tensor: _clamp,
    _aten.add.Tensor: _add,
    _aten.add_.Tensor: _add,
    _aten.to.dtype_layout: lambda graph, name, given: graph.write(name, "Identity", given["self"]),  # of its layout
}


def _pair(value: Any) -> list[int]:
    return list(value) * (2 // len(value)) if isinstance(value, list | tuple) else [value, value]


def _target(program: ExportedProgram, node: Node) -> str | None:
    """The name that a weight or a buffer has in the network; None: it is the input."""
    signature: Any = program.graph_signature
    name: str | None = signature.inputs_to_parameters.get(node.name) or signature.inputs_to_buffers.get(node.name)
    return name


def _weights(program: ExportedProgram) -> dict[str, Any]:
    """Parameters and buffers by the names that they have in the network."""
    tensors = {**program.state_dict, **program.constants}
    return {name: value.detach().numpy() for name, value in tensors.items() if isinstance(value, torch.Tensor)}
