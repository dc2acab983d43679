"""Weights of a graph in eight bits: for the products, or for the download alone."""

import logging
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

# A narrower matrix gains nothing; without rows or columns it would fail within a loop.
MIN_SIDE = 16
# What is smaller is stored as it is.
MIN_STORED = 4096


def store(graph: ModelProto, weights: str) -> ModelProto:
    """
    A graph with its weights as asked for; `"int8"` has been done before two graphs were joined, by `round_products`.
    """
    return store_rounded(graph) if weights == "stored-int8" else graph


def round_products(graph: ModelProto) -> ModelProto:
    """
    The products with weights in eight bits: the weights rounded for each output, what they are multiplied with as it
    comes (dynamic quantisation). The weights use seven of the bits, since processors without VNNI add two products in
    sixteen bits.
    """
    sizes = {tensor.name: tuple(tensor.dims) for tensor in graph.graph.initializer}
    for index, node in enumerate(graph.graph.node):
        node.name = node.name or f"node_{index}"
    products = [node for node in graph.graph.node if node.op_type in ("MatMul", "Gemm")]
    narrow = [node.name for node in products if not _is_wide(sizes.get(node.input[1], ()))]
    with tempfile.TemporaryDirectory() as folder:  # the quantiser works on files
        source, target = Path(folder) / "source.onnx", Path(folder) / "target.onnx"
        onnx.save(graph, source)
        logging.disable(logging.WARNING)  # it advises what these graphs do not need
        try:
            quantize_dynamic(
                source,
                target,
                op_types_to_quantize=["MatMul"],
                nodes_to_exclude=narrow,
                per_channel=True,
                reduce_range=True,
                weight_type=QuantType.QInt8,
                extra_options={"EnableSubgraph": True, "MatMulConstBOnly": True},
            )
        finally:
            logging.disable(logging.NOTSET)
        return onnx.load(target)


def _is_wide(size: tuple[int, ...]) -> bool:
    return len(size) >= 2 and min(size) >= MIN_SIDE


def store_rounded(graph: ModelProto) -> ModelProto:
    """Large weights in eight bits in the file, which become single precision again when it is opened."""
    kept, nodes = [], []
    for tensor in graph.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2 or np.prod(tensor.dims) < MIN_STORED:
            kept.append(tensor)
            continue
        values = numpy_helper.to_array(tensor)
        axis = int(values.shape[-1] <= values.shape[-2]) - 2  # a scale for each of the shorter side, or fewer
        scale = np.maximum(np.abs(values).max(axis=axis, keepdims=True), 1e-8) / 127
        name = tensor.name
        kept.append(numpy_helper.from_array(np.rint(values / scale).astype(np.int8), f"{name}_rounded"))
        kept.append(numpy_helper.from_array(scale.astype(np.float32), f"{name}_scale"))
        nodes.append(helper.make_node("Cast", [f"{name}_rounded"], [f"{name}_float"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Mul", [f"{name}_float", f"{name}_scale"], [name]))
    stored = ModelProto()
    stored.CopyFrom(graph)
    del stored.graph.initializer[:], stored.graph.node[:]
    stored.graph.initializer.extend(kept)
    stored.graph.node.extend([*nodes, *graph.graph.node])
    return stored
