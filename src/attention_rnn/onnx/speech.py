"""Writes a model of speech as a folder of ONNX graphs: whole recordings, and chunks of streams."""

import json
from math import prod
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import ModelProto
from torch import Tensor
from transformers import AutoFeatureExtractor, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

import attention_rnn

from ..classes import list_labels
from ..models.configuration_attention_rnn_speech import AttentionRnnSpeechConfig
from ..models.feature_extraction_attention_rnn import AttentionRnnFeatureExtractor
from ..models.subsampling import put_together
from . import RUNNER, WEIGHTS, Weights, decoding, hearing, reading
from .card import begin_folder, describe_graph, one_file, refuse_checkpoint
from .decoding import CONFIG, FORMAT, FORMAT_VERSION
from .graphs import NEXT, Graph, Inputs, copy_for_export, trace
from .hearing import CHUNK, COMMANDS, RECORDING, TRANSCRIPTION
from .reading import TOKENIZER
from .weights import round_products, store

TASKS = {
    "AttentionRnnForSpeechSeq2Seq": TRANSCRIPTION,
    "AttentionRnnForCTC": TRANSCRIPTION,
    "AttentionRnnForAudioClassification": COMMANDS,
}
_FRAMES = 40  # of the recording that a graph is traced with
_GROUPS = 3  # of frames, of the chunk

_CARD = """# An attention RNN for speech as ONNX graphs

Task: `{task}`. Weights: `{weights}`. No torch is needed. With Python, numpy, onnxruntime and tokenizers:

```python
from run_onnx import SpeechRunner  # of this folder; or, with the package: from attention_rnn import SpeechRunner

runner = SpeechRunner.from_pretrained(".")
print(runner(samples))  # floats from -1 to 1, {rate:,} a second, one channel
```

or `python run_onnx.py recording.wav`. The graphs read log-mel frames, which the runner makes; `config.json` says how.

## Graphs

Everything is `float32` where nothing else is said.
"""
_PARTS = {
    RECORDING: "Reads whole recordings, each of them as long as the others.",
    CHUNK: """Reads the next frames of a stream, {ratio} to a group, of which `length` are real; those behind are zero.
The outputs that end in `_next` are the states of the next call; those before the first are zero.{lookahead}""",
}


class RecordingReader(Graph):
    """What a model says of whole recordings, without padding."""

    def __init__(self, model: Any, task: str) -> None:
        super().__init__()
        self.model, self.task = model, task

    def inputs(self) -> Inputs:
        frames = torch.randn(2, _FRAMES, self.model.config.num_mel_bins)
        return Inputs({"input_features": frames}, {"input_features": {0: "batch", 1: "frames"}})

    def compute(self, **inputs: Tensor) -> dict[str, Tensor]:
        if self.task == TRANSCRIPTION:
            memory = self.model.model.encoder(**inputs, return_dict=True).last_hidden_state
            return {"log_probabilities": self.model.ctc_head(memory)}
        outputs = self.model(**inputs, output_attentions=True, return_dict=True)
        return {"logits": outputs.logits, "attention": outputs.attentions[0]}


class ChunkReader(Graph):
    """
    What CTC hears in the next frames of a stream, which are as many as some positions of the memory need.

    What follows the end of a stream counts as nothing, as behind a whole recording.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.encoder = model, model.model.encoder
        self.begun = self.encoder.begin_stream()
        rows = self.begun.rows.new_zeros(1, model.config.lookahead, model.config.memory_size)
        self.first_states = [*self.begun.convolutions, *self.begun.layers, *([rows] if model.config.lookahead else [])]
        strides = [] if self.encoder.subsampling is None else model.config.subsampling_strides
        self.stride = prod(strides)
        self.ratio = self.stride * prod(self.encoder.time_reduction)

    def inputs(self) -> Inputs:
        examples = {
            "frames": torch.randn(_GROUPS, self.ratio, self.model.config.num_mel_bins),
            "length": torch.tensor(_GROUPS * self.ratio),
        }
        examples |= {f"state_{index}": state for index, state in enumerate(self.first_states)}
        return Inputs(examples, {name: {0: "groups"} if name == "frames" else {} for name in examples})

    def compute(self, **inputs: Tensor) -> dict[str, Tensor]:
        states = [inputs[f"state_{index}"] for index in range(len(self.first_states))]
        vectors, after = inputs["frames"].flatten(0, 1)[None], []
        if self.encoder.subsampling is not None:
            vectors, after = self.encoder.subsampling.stream(vectors, states[: len(self.begun.convolutions)])
        stride = self.stride
        vectors = self._real(vectors, stride, inputs["length"])
        layers = states[len(self.begun.convolutions) :][: len(self.encoder.layers)]
        for layer, count, state in zip(self.encoder.layers, self.encoder.time_reduction, layers, strict=True):
            vectors, _ = put_together(vectors, None, count)
            vectors, final_state = layer(vectors, None, state)
            stride *= count
            vectors = self._real(vectors, stride, inputs["length"])
            after = [*after, final_state]
        if self.encoder.row_convolution is not None:
            waiting = torch.cat([states[-1], vectors], dim=1)
            vectors = self.encoder.row_convolution.stream(waiting)
            after = [*after, waiting[:, -self.model.config.lookahead :]]
        outputs = {"log_probabilities": self.model.ctc_head(vectors)}
        return outputs | {f"state_{index}{NEXT}": state for index, state in enumerate(after)}

    @staticmethod
    def _real(vectors: Tensor, stride: int, length: Tensor) -> Tensor:
        """Nothing in the place of vectors, (1, positions, width), that begin behind the last real frame."""
        return vectors * (torch.arange(vectors.shape[1]) * stride < length)[None, :, None]


def export_speech(
    model: PreTrainedModel,
    extractor: AttentionRnnFeatureExtractor,
    tokenizer: PreTrainedTokenizerFast | None,
    folder: str | Path,
    weights: Weights = "float32",
) -> Path:
    """
    Write a model of speech as a folder that [`SpeechRunner`] runs without torch: `recording.onnx` reads whole
    recordings, and `chunk.onnx`, of a model that can stream, the next frames of a stream. What is exported of a
    sequence-to-sequence model is what its CTC head hears.

    Args:
        model: for transcription, with a CTC head, or for classification of audio.
        extractor: makes the frames that it reads.
        tokenizer: of its transcripts; `None` of a classifier.
        folder: where to write; what is there of the same names is written over, but for a checkpoint.
        weights: see [`export_onnx`].

    Returns:
        The folder.

    Raises:
        TypeError: the model is of another kind, or the tokenizer is not a fast one.
        ValueError: the model has no CTC head, or reads frames of other numbers than the extractor makes.
    """
    refuse_checkpoint(folder)
    task = TASKS.get(type(model).__name__)
    if task is None:
        raise TypeError(f"`model` must be one of {', '.join(TASKS)}, got {type(model).__name__}.")
    if weights not in WEIGHTS:
        raise ValueError(f"`weights` must be one of {', '.join(WEIGHTS)}, got {weights!r}.")
    if task == TRANSCRIPTION and not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise TypeError(f"`tokenizer` must be a PreTrainedTokenizerFast, got {type(tokenizer).__name__}.")
    config: Any = model.config
    if task == TRANSCRIPTION and getattr(model, "ctc_head", None) is None:
        raise ValueError("`model` must have a CTC head to be exported: train it with `ctc_weight` above 0.")
    for name, given in (("num_mel_bins", extractor.feature_size), ("sampling_rate", extractor.sampling_rate)):
        if getattr(config, name) != given:
            raise ValueError(f"`extractor` must have the {name} of the model, {getattr(config, name)}, got {given}.")
    network = copy_for_export(model)
    readers: dict[str, Any] = {RECORDING: RecordingReader(network, task)}
    if task == TRANSCRIPTION and _streams(config):
        readers[CHUNK] = ChunkReader(network)
    graphs = {name: trace(reader) for name, reader in readers.items()}
    if weights == "int8":
        graphs = {name: round_products(graph) for name, graph in graphs.items()}
    graphs = {name: store(graph, weights) for name, graph in graphs.items()}
    folder = Path(folder)
    begin_folder(folder)
    for name, graph in graphs.items():
        onnx.checker.check_model(graph)
        onnx.save(graph, folder / name)
    if tokenizer is not None:
        tokenizer.backend_tokenizer.save(str(folder / TOKENIZER))
    described = _describe(config, extractor, task, readers) | {"weights": weights}
    (folder / CONFIG).write_text(json.dumps(described, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    (folder / RUNNER).write_text(one_file(reading, decoding, hearing), encoding="utf-8")
    _write_card(folder, described, graphs)
    return folder


def export_speech_checkpoint(name: str, architecture: str, folder: str | Path, weights: Weights = "float32") -> Path:
    """[`export_speech`] of what a training has left, a folder or a name on the Hub."""
    model = getattr(attention_rnn, architecture).from_pretrained(name)
    extractor: Any = AutoFeatureExtractor.from_pretrained(name)
    tokenizer: Any = AutoTokenizer.from_pretrained(name) if TASKS[architecture] == TRANSCRIPTION else None
    return export_speech(model, extractor, tokenizer, folder, weights)


def _streams(config: AttentionRnnSpeechConfig) -> bool:
    reads_forward = set(config.encoder_directions) == {1}
    return reads_forward and (config.causal or not config.subsampling_channels)


def _describe(
    config: AttentionRnnSpeechConfig, extractor: AttentionRnnFeatureExtractor, task: str, readers: dict[str, Any]
) -> dict[str, Any]:
    """What a runner must know besides the graphs."""
    is_text = task == TRANSCRIPTION
    chunk = readers.get(CHUNK)
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "task": task,
        "features": {
            "feature_size": extractor.feature_size,
            "sampling_rate": extractor.sampling_rate,
            "window_length": extractor.window_length,
            "hop_length": extractor.hop_length,
            "normalization": extractor.normalization,
            "mean": extractor.mean,
            "standard_deviation": extractor.standard_deviation,
        },
        "vocab_size": config.vocab_size if is_text else None,
        "blank": config.pad_token_id if is_text else None,
        "seconds": config.inputs_to_logits_ratio / config.sampling_rate,
        "emission_delay": config.emission_delay if is_text else 0.0,
        "ratio": chunk.ratio if chunk else None,
        "lookahead": config.lookahead if is_text else 0,
        "states": [list(state.shape) for state in chunk.first_states] if chunk else [],
        "labels": None if is_text else list_labels(config),
        "problem_type": None if is_text else config.problem_type,
    }


def _write_card(folder: Path, config: dict[str, Any], graphs: dict[str, ModelProto]) -> None:
    parts = [_CARD.format(rate=config["features"]["sampling_rate"], **config)]
    count = config["lookahead"]
    late = f" What is heard is {count} groups late: the first {count} are of none." if count else ""
    for name, graph in graphs.items():
        parts.append(describe_graph(name, _PARTS[name].format(ratio=config["ratio"], lookahead=late), graph))
    (folder / "README.md").write_text("\n".join(parts), encoding="utf-8")
