"""Makes compiled models for the stand-in: what Pulsar2 does for the chip, in a container of the same form.

Source of the form: the node type "neu mode" and the weights `npu_params` and `npu_dyn_params` are what onnx tools show of
a file that Pulsar2 4.0 built.
"""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def built(source, out, chip="AX650", groups=None):
    """Compile a graph.

    Args:
        source: an ONNX file with fixed shapes, or with groups.
        out: the .axmodel to write.
        chip: "AX650" or "AX620E".
        groups: for each group of shapes: name of an input or output -> shape; None takes the graph's own.

    Returns:
        `out`.
    """
    model = onnx.load(str(source))
    weights = {item.name for item in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    outputs = list(model.graph.output)
    described = [
        {
            "inputs": [_described(value, group) for value in inputs],
            "outputs": [_described(value, group) for value in outputs],
        }
        for group in groups or [{}]
    ]
    node = helper.make_node(
        "neu mode",
        [value.name for value in inputs],
        [value.name for value in outputs],
        name="subgraph_npu_0",
        built=json.dumps({"chip": chip, "groups": described}),
    )
    content = np.frombuffer(model.SerializeToString(), np.uint8)
    params = [numpy_helper.from_array(content, "npu_params"), numpy_helper.from_array(content[:0], "npu_dyn_params")]
    graph = helper.make_graph([node], "compiled", inputs, outputs, params)
    compiled = helper.make_model(graph, producer_name="Pulsar2", opset_imports=[helper.make_opsetid("", 18)])
    Path(out).write_bytes(compiled.SerializeToString())
    return Path(out)


def _described(value, group):
    tensor = value.type.tensor_type
    shape = group.get(value.name) or [axis.dim_value for axis in tensor.shape.dim]
    kind = helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    assert tensor.elem_type != TensorProto.UNDEFINED
    assert all(shape), f"{value.name} has free lengths"
    return value.name, kind, list(shape)
