"""An exported program as an ONNX file: a node or two for each of the ten operations that our networks are made of.

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


def _weights(program: ExportedProgram) -> dict[str, Any]:
    """Parameters and buffers by the names that they have in the network."""
    tensors = {**program.state_dict, **program.constants}
    return {name: value.detach().numpy() for name, value in tensors.items() if isinstance(value, torch.Tensor)}
