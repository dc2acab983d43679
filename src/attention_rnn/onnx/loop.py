"""The best tokens inside a graph: the best `k` of a step, and a whole greedy decoding as one graph with a loop."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx.compose
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from .graphs import IR_VERSION, NEXT, OPSET, nodes_of

INT, BOOL, FLOAT = TensorProto.INT64, TensorProto.BOOL, TensorProto.FLOAT
value = helper.make_tensor_value_info


class Ends(NamedTuple):
    """How a target begins and ends."""

    start: int
    ends: list[int]
    pad: int
    least: int  # of new tokens before an end


class _Nodes:
    """Nodes and constants as they are made, with names of their own."""

    def __init__(self, prefix: str) -> None:
        self.prefix, self.nodes, self.constants = prefix, list[NodeProto](), list[TensorProto]()

    def __call__(self, operator: str, inputs: Sequence[str], output: str | None = None, **attributes: Any) -> str:
        output = output or f"{self.prefix}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def constant(self, array: Any) -> str:
        name = f"{self.prefix}constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name


def add_best(step: ModelProto) -> ModelProto:
    """A step with the input `k`, (1,), and the outputs `top_scores` and `top_ids`, (rows, k), best first."""
    found = ModelProto()
    found.CopyFrom(step)
    graph = found.graph
    graph.input.append(value("k", INT, [1]))
    graph.node.append(helper.make_node("TopK", ["log_probabilities", "k"], ["top_scores", "top_ids"]))
    best = [value("top_scores", FLOAT, ["rows", "k"]), value("top_ids", INT, ["rows", "k"])]
    outputs = [*best, *graph.output]
    del graph.output[:]
    graph.output.extend(outputs)
    return found


def join(encoder: ModelProto | None, step: ModelProto, states: Iterable[str], ends: Ends) -> ModelProto:
    """
    Greedy decoding as one graph: `input_ids`, `attention_mask` and `max_new_tokens` become `sequences`, (batch, new),
    and with attention to a source `attention`, (batch, heads, new, source).

    Args:
        encoder: of a source. Without it, `input_ids` are what `sequences` begin with, padded on the right.
        step: one token, see `graphs.py`.
        states: the names of what a step knows.
    """
    states = list(states)
    inner = onnx.compose.add_prefix(step, "step_").graph
    # what is the same in all steps is taken from outside of the loop
    per_step = {f"step_{name}" for name in ("tokens", *states)}
    outside = [each.name for each in inner.input if each.name not in per_step]
    outer = _Nodes("generate_")
    nodes = [] if encoder is None else list(encoder.graph.node)
    for name in outside:
        outer("Identity", [name.removeprefix("step_")], name)
    rows = outer("Shape", ["attention_mask"], start=0, end=1)
    zero, one = outer.constant(np.int64(0)), outer.constant(np.int64(1))

    body = _Nodes("loop_")
    body.nodes = list(inner.node)
    shapes = {given.name: [_size(axis) for axis in given.type.tensor_type.shape.dim] for given in inner.input}
    if encoder is None:
        length = outer("ReduceSum", ["attention_mask", outer.constant([1])], keepdims=0)
        longest = outer("ReduceMax", [length], keepdims=0)
        trips = outer("Sub", [outer("Add", [longest, "max_new_tokens"]), one])
        tokens = outer("Gather", ["input_ids", zero], axis=1)
        last = outer("Sub", [outer("Gather", [outer("Shape", ["input_ids"]), one]), one])
    else:
        trips = "max_new_tokens"
        tokens = outer("Expand", [outer.constant(np.int64(ends.start)), rows])
    new = "loop_iteration"  # tokens that there are already
    if encoder is None:
        position = body("Add", ["loop_iteration", one])
        new = body("Unsqueeze", [body("Sub", [position, length]), body.constant([1])])
    best = _choose(body, inner.output[0].name, new, ends)
    if encoder is None:
        is_prompt = body("Less", [position, length])
        prompt = body("Gather", ["input_ids", body("Min", [position, last])], axis=1)
        best = body("Where", [is_prompt, prompt, best])
    done = _is_end(body, best, ends)
    if encoder is None:
        done = body("And", [done, body("Not", [is_prompt])])
        enough = body("Sub", [body("Add", [length, "max_new_tokens"]), one])
        done = body("Or", [done, body("GreaterOrEqual", [position, enough])])
    token = body("Where", ["loop_done", outer.constant(np.int64(ends.pad)), best])
    done = body("Or", ["loop_done", done], "loop_done_next")
    going = body("Cast", [body("Not", [done])], to=INT)
    body("Cast", [body("ReduceMax", [going], keepdims=0)], "loop_goes_on", to=BOOL)
    body("Identity", [token], "loop_tokens_next")
    body("Identity", [token], "loop_token")

    attends = any(output.name == "step_attention" for output in inner.output)
    carried: list[tuple[str, int, list[Any], str]] = [
        ("step_tokens", INT, ["rows"], "loop_tokens_next"),
        ("loop_done", BOOL, ["rows"], done),
    ]
    carried += [(f"step_{name}", FLOAT, shapes[f"step_{name}"], f"step_{name}{NEXT}") for name in states]
    inputs = [value("loop_iteration", INT, []), value("loop_condition", BOOL, [])]
    inputs += [value(name, kind, shape) for name, kind, shape, _ in carried]
    outputs = [value("loop_goes_on", BOOL, []), *(value(after, kind, shape) for _, kind, shape, after in carried)]
    outputs.append(value("loop_token", INT, ["rows"]))
    if attends:
        outputs.append(value("step_attention", FLOAT, ["rows", "heads", "source"]))
    loop = helper.make_graph(body.nodes, "token", inputs, outputs)

    first = [tokens, outer("Expand", [outer.constant(False), rows])]
    for name in states:
        first.append(name if encoder is not None else _zeros(outer, rows, shapes[f"step_{name}"][1:]))
    results = [f"loop_last_{index}" for index in range(len(first))] + ["steps"] + (["looks"] if attends else [])
    outer.nodes.append(helper.make_node("Loop", [trips, outer.constant(True), *first], results, body=loop))
    sequences = outer("Transpose", ["steps"], "sequences" if encoder is not None else None, perm=[1, 0])
    if encoder is None:
        outer("Concat", [outer("Unsqueeze", [tokens, outer.constant([1])]), sequences], "sequences", axis=1)
    found = [value("sequences", INT, ["batch", "new"])]
    if attends:
        outer("Transpose", ["looks"], "attention", perm=[1, 2, 0, 3])
        found.append(value("attention", FLOAT, ["batch", "heads", "new", "source"]))

    given = [value(name, INT, ["batch", "source"]) for name in ("input_ids", "attention_mask")]
    if "step_copy_ids" in outside:
        given.append(value("copy_ids", INT, ["batch", "source"]))
    weights = [*inner.initializer, *outer.constants, *body.constants]
    if encoder is not None:
        weights += encoder.graph.initializer
    graph = helper.make_graph([*nodes, *outer.nodes], "generate", [*given, value("max_new_tokens", INT, [])], found)
    used = {name for node in nodes_of(graph) for name in node.input}
    graph.initializer.extend(weight for weight in weights if weight.name in used)
    opsets = {opset.domain: opset for model in (encoder, step) if model is not None for opset in model.opset_import}
    opsets[""] = helper.make_opsetid("", OPSET)
    functions = [*step.functions, *(encoder.functions if encoder is not None else [])]
    return helper.make_model(graph, opset_imports=list(opsets.values()), ir_version=IR_VERSION, functions=functions)


def _choose(body: _Nodes, log_probabilities: str, new: str, ends: Ends) -> str:
    if ends.least and ends.ends:
        is_early = body("Less", [new, body.constant(np.int64(ends.least))])
        ids = body("Unsqueeze", [body.constant(np.array(ends.ends)), body.constant([1])])
        axis = body("Slice", [body("Shape", [log_probabilities]), body.constant([1]), body.constant([2])])
        forbidden = body("Expand", [body.constant(np.float32(0)), axis])
        forbidden = body("ScatterND", [forbidden, ids, body.constant(np.full(len(ends.ends), -np.inf, np.float32))])
        none = body.constant(np.float32(0))
        log_probabilities = body("Add", [log_probabilities, body("Where", [is_early, forbidden, none])])
    return body("ArgMax", [log_probabilities], axis=-1, keepdims=0)


def _is_end(body: _Nodes, tokens: str, ends: Ends) -> str:
    found = body("Equal", [tokens, body.constant(np.int64(ends.ends[0] if ends.ends else -1))])
    for end in ends.ends[1:]:
        found = body("Or", [found, body("Equal", [tokens, body.constant(np.int64(end))])])
    return found


def _zeros(outer: _Nodes, rows: str, shape: list[Any]) -> str:
    sizes = outer.constant(np.array([size if isinstance(size, int) else 1 for size in shape], np.int64))
    return outer("Expand", [outer.constant(np.float32(0)), outer("Concat", [rows, sizes], axis=0)])


def _size(axis: Any) -> int | str:
    return axis.dim_value if axis.HasField("dim_value") else axis.dim_param
