"""
The parts of a model as ONNX graphs: each is a module around the model's own code, traced by torch's exporter.

A graph takes and gives tensors by name. What the decoder looks at (`memory`) and what it knows (`states`) go from graph
to graph under one name; the state after a token has `_next` behind it.
"""

import copy
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import onnx
import onnxscript.optimizer
import torch
from torch import Tensor, nn
from transformers import DynamicCache

from ..models.attention import Memory
from ..models.decoder import DecoderState
from ..models.decoder_step import DecoderStep, PreparedDecoder, prepare
from ..models.encoder import real_positions
from ..models.past_attention import read_past
from ..quantization import without_int8

OPSET, IR_VERSION = 18, 10  # what ONNX Runtime 1.20 reads, and with it most other runtimes
NEXT = "_next"
SOURCE_INPUTS = ("input_ids", "attention_mask")
# sizes of the inputs that a graph is traced with, all different; no axis is 0 or 1, which torch would take for fixed
SOURCES, BEAMS, SOURCE, CHARACTERS, PAST = 2, 3, 7, 6, 4

Axes = dict[int, str]
# it names operators of torchvision that are not there, whatever is exported
logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)


def copy_for_export(model: Any) -> Any:
    """
    What is traced of a model: in single precision, on the CPU.

    Raises:
        ValueError: a weight is not finite, as after a training that has failed.
    """
    faulty = [name for name, weight in model.named_parameters() if not weight.isfinite().all()]
    if faulty:
        raise ValueError(f"`model` must have finite weights, got NaN or infinite ones in {faulty[0]}.")
    return without_int8(copy.deepcopy(model)).cpu().float().eval()


class Inputs(NamedTuple):
    """What a graph is traced with."""

    examples: dict[str, Tensor]
    axes: dict[str, Axes]  # those that may have any length, by the names that they have in the graph


class Graph(nn.Module):
    """A part of a model: what to trace it with, and what it makes of that, by name."""

    names: list[str]
    outputs: list[str]

    def inputs(self) -> Inputs:
        raise NotImplementedError

    def compute(self, **inputs: Tensor) -> dict[str, Tensor]:
        raise NotImplementedError

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        outputs = self.compute(**dict(zip(self.names, tensors, strict=True)))
        # the exporter must not see an output that is an input
        return tuple(output.clone() for output in outputs.values())

    def example_outputs(self) -> dict[str, Tensor]:
        """What is made of the inputs to trace with."""
        with torch.no_grad():
            return self.compute(**self.inputs().examples)


class SourceReader(Graph):
    """Of an encoder-decoder: what the decoder looks at, and its state before the first token."""

    def __init__(self, model: Any, prepared: PreparedDecoder) -> None:
        super().__init__()
        self.model, self.read = model.model, prepared.read

    def inputs(self) -> Inputs:
        return source_inputs(self.model)

    def compute(self, **inputs: Tensor) -> dict[str, Tensor]:
        model = self.model
        encoded = model.encoder(**inputs, return_dict=True)
        mask, vectors = real_positions(encoded), encoded.last_hidden_state
        initial_state = model.bridge(vectors, encoded.final_state, mask)
        start = model.decoder._begin(initial_state, vectors, source_length=vectors.shape[1])
        outputs = {}
        if model.decoder.attention is not None:
            keys, values = model.decoder._project(vectors)
            memory = self.read(Memory(keys, values, mask))
            outputs = {"keys": memory.keys, "values": memory.values, "mask": inputs["attention_mask"].bool()}
        return outputs | name_states(model.decoder, start)


class TokenStep(Graph):
    """
    Of an encoder-decoder: the distribution of the next token. There are `rows` hypotheses, as many about each of the
    sources. An attention that looks back needs the memory repeated for each of them.
    """

    def __init__(self, model: Any, prepared: PreparedDecoder, examples: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.model, self.prepared = model, prepared
        self.beams = 1 if prepared.looks_back else BEAMS
        self.examples = dict(examples)

    def inputs(self) -> Inputs:
        examples: dict[str, Tensor] = {"tokens": torch.arange(SOURCES * self.beams)}
        axes: dict[str, Axes] = {"tokens": {0: "rows"}}
        sources = "rows" if self.prepared.looks_back else "sources"
        for name, example in self.examples.items():
            if name in ("keys", "values", "mask"):
                examples[name], axes[name] = example, {0: sources, 1: "source"}
            else:
                examples[name] = example.repeat_interleave(self.beams, dim=0)
                axes[name] = {0: "rows", 2: "source"} if name == "alignment" else {0: "rows"}
        if self.model.config.copy:
            examples["copy_ids"] = torch.arange(SOURCES * SOURCE).view(SOURCES, SOURCE)
            axes["copy_ids"] = {0: sources, 1: "source"}
        return Inputs(examples, axes)

    def compute(self, **inputs: Tensor) -> dict[str, Tensor]:
        decoder, tokens, copy_ids = self.prepared.decoder, inputs["tokens"], inputs.get("copy_ids")
        states = [inputs[f"state_{index}"] for index in range(len(decoder.layers))]
        rows = tokens.shape[0]
        nothing = states[0].new_zeros(rows, 1, 0)
        state = DecoderState(states, inputs.get("fed", nothing), inputs.get("alignment", nothing[:, :0]))
        sources = inputs["keys"].shape[0] if "keys" in inputs else rows
        memory = Memory(inputs.get("keys", nothing), inputs.get("values", nothing), inputs.get("mask"))
        step = DecoderStep(self.prepared, self.model.model.target_front.embed_tokens, memory, copy_ids, rows // sources)
        logits, weights, after = step(tokens, state)
        outputs = {"log_probabilities": torch.log_softmax(logits, dim=-1)}
        if weights is not None:
            outputs["attention"] = weights[:, :, 0]
        return outputs | {name + NEXT: value for name, value in name_states(self.model.model.decoder, after).items()}


class CausalStep(Graph):
    """Of a language model: the distribution of the next token. Attention to the past wants one that may be empty."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def inputs(self) -> Inputs:
        rows, config = SOURCES, self.model.config
        examples: dict[str, Tensor] = {"tokens": torch.arange(rows)}
        axes: dict[str, Axes] = {"tokens": {0: "rows"}}
        for index in range(config.decoder_layers):
            examples[f"state_{index}"] = torch.zeros(rows, config.state_size)
            axes[f"state_{index}"] = {0: "rows"}
        if (window := config.past_attention_window) is not None:
            _, _, past = self.model.model.past_attention(torch.zeros(1, 1, config.hidden_size), None, None, False)
            examples["past"] = torch.zeros(rows, PAST if window == "all" else window, past.shape[-1])
            axes["past"] = {0: "rows", 1: "past"} if window == "all" else {0: "rows"}
        return Inputs(examples, axes)

    def compute(self, **inputs: Tensor) -> dict[str, Tensor]:
        model = self.model
        cache = DynamicCache(config=model.config)
        layers: list[Any] = cache.layers
        for index, layer in enumerate(layers):
            keys = inputs[f"state_{index}"][:, None, None]
            past = inputs["past"][:, None] if "past" in inputs and index == len(layers) - 1 else keys[..., :0]
            layer.lazy_initialization(keys, past)
            layer.keys, layer.values = keys, past
        output = model.model(
            input_ids=inputs["tokens"][:, None], past_key_values=cache, use_cache=True, return_dict=True
        )
        logits = model.lm_head(output.last_hidden_state)[:, 0]
        outputs = {"log_probabilities": torch.log_softmax(logits.float(), dim=-1)}
        outputs |= {f"state_{index}{NEXT}": layer.keys[:, 0, -1] for index, layer in enumerate(layers)}
        return outputs | ({f"past{NEXT}": read_past(cache)} if "past" in inputs else {})


class WholeText(Graph):
    """Of a model that reads a text and is done: all that its `forward` returns under these names."""

    def __init__(self, model: Any, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.wanted = model, names

    def inputs(self) -> Inputs:
        inputs = source_inputs(self.model.model)
        if "start_logits" in self.wanted:  # question and context are told apart
            example = torch.ones(SOURCES, SOURCE, dtype=torch.long)
            example[:, :3] = 0
            inputs.examples["token_type_ids"], inputs.axes["token_type_ids"] = example, {0: "batch", 1: "source"}
        return inputs

    def compute(self, **inputs: Tensor) -> dict[str, Tensor]:
        outputs = self.model(**inputs, output_attentions=True, return_dict=True)
        given = {name: outputs.get(name) for name in self.wanted}
        if outputs.get("attentions"):
            given["attention"] = outputs["attentions"][0]
        return {name: value for name, value in given.items() if value is not None}


def source_inputs(model: Any) -> Inputs:
    """Those of every encoder: ids and mask, and the characters of words."""
    mask = torch.ones(SOURCES, SOURCE, dtype=torch.long)
    mask[1, -2:] = 0
    examples, axes = {"input_ids": torch.full_like(mask, 3), "attention_mask": mask}, {0: "batch", 1: "source"}
    if model.config.character_size:
        examples["character_ids"] = torch.ones(SOURCES, SOURCE, CHARACTERS, dtype=torch.long)
        axes[2] = "characters"
    return Inputs(
        examples, {name: {axis: axes[axis] for axis in range(value.dim())} for name, value in examples.items()}
    )


def name_states(decoder: Any, state: DecoderState) -> dict[str, Tensor]:
    """What a decoder knows before a token, without what has no width."""
    named = {f"state_{index}": value for index, value in enumerate(state.states)}
    if decoder.fed_size:
        named["fed"] = state.fed
    if decoder._alignment_features():
        named["alignment"] = state.alignment
    return named


def prepare_for_export(model: Any) -> PreparedDecoder:
    """The decoder as `generate()` uses it, for any number of steps."""
    decoder = model.model.decoder
    keys, values = decoder._project(torch.zeros(SOURCES, SOURCE, model.config.memory_size))
    return prepare(decoder, model.lm_head, Memory(keys, values, None), BEAMS, steps=SOURCE)


def trace(graph: Graph) -> onnx.ModelProto:
    """
    A graph as ONNX has it, with the weights of the model inside.

    Raises:
        ValueError: something in it cannot be traced for inputs of any length.
    """
    examples, axes = graph.inputs()
    graph.names, graph.outputs = list(examples), list(graph.example_outputs())
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter speaks of its own affairs
        try:
            program: Any = torch.onnx.export(
                graph,
                tuple(example.clone() for example in examples.values()),
                dynamic_shapes=(tuple(axes.values()),),
                input_names=list(examples),
                output_names=graph.outputs,
                opset_version=OPSET,
                dynamo=True,
                optimize=False,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            cause = error.__cause__ or error
            raise ValueError(f"`model` does something that has no form in ONNX: {str(cause)[:500]}") from error
    # without a limit, else matrices would be laid out anew in each call
    onnxscript.optimizer.optimize_ir(program.model, input_size_limit=2**40, output_size_limit=2**40)
    exported = program.model_proto
    exported.ir_version = IR_VERSION
    for output in exported.graph.output:
        for axis in output.type.tensor_type.shape.dim:
            if "*" in axis.dim_param:  # the hypotheses about each source, times the sources
                axis.dim_param = "rows"
    parts: list[Any] = [exported, exported.graph, *nodes_of(exported.graph)]
    for part in parts:
        del part.metadata_props[:]  # where in the code each node comes from, most of the size of a small graph
    return exported


def nodes_of(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Those of inner graphs as well."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from nodes_of(attribute.g)
