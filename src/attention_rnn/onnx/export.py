"""Writes a model and its tokenizer as a folder of ONNX graphs, which run without torch."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

import attention_rnn

from ..checkpoints import open_config
from ..classes import list_labels
from ..commands.models import read_task
from ..labelling import word_label
from ..models.configuration_attention_rnn import AttentionRnnConfig
from ..models.crf import continues_chunk, is_chunk_scheme
from ..models.tokenization_attention_rnn import AttentionRnnTokenizer
from ..tokenizer_training import check_vocabulary
from . import RUNNER, WEIGHTS, Weights, decoding, reading, runner, speech, spelling
from .card import begin_folder, one_file, refuse_checkpoint, write_card
from .decoding import (
    ANSWERING,
    CAUSAL,
    CLASSIFICATION,
    CONFIG,
    ENCODER,
    FORMAT,
    FORMAT_VERSION,
    LABELLING,
    MODEL,
    SEQ2SEQ,
    STEP,
)
from .graphs import (
    NEXT,
    CausalStep,
    Graph,
    SourceReader,
    TokenStep,
    WholeText,
    copy_for_export,
    prepare_for_export,
    trace,
)
from .loop import Ends, add_best, join
from .reading import digest_vocabulary
from .runner import GENERATION, TARGET_TOKENIZER, TOKENIZER
from .weights import round_products, store

GENERATE = "generate.onnx"
TASKS = {
    "AttentionRnnForConditionalGeneration": SEQ2SEQ,
    "AttentionRnnForCausalLM": CAUSAL,
    "AttentionRnnForSequenceClassification": CLASSIFICATION,
    "AttentionRnnForTokenClassification": LABELLING,
    "AttentionRnnForQuestionAnswering": ANSWERING,
}
OUTPUTS = {
    CLASSIFICATION: ("logits",),
    LABELLING: ("logits", "intent_logits"),
    ANSWERING: ("start_logits", "end_logits"),
}
# settings of `generate()` that say nothing of the tokens that are found, or that are kept elsewhere
_OTHER_SETTINGS = {"max_length", "min_length", "pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"}
_OTHER_SETTINGS |= {"transformers_version", "use_cache", "return_dict_in_generate", "output_attentions"}
_OTHER_SETTINGS |= {"output_hidden_states", "output_scores", "output_logits"}


def export_onnx(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    folder: str | Path,
    weights: Weights = "float32",
    spelt: bool = False,
) -> Path:
    """
    Write a model and its tokenizer as a folder that [`OnnxRunner`] runs without torch:

    - `encoder.onnx` and `step.onnx`, or `step.onnx` alone of a language model, for searches of all kinds;
    - `generate.onnx`, greedy decoding as one graph;
    - `model.onnx` in their place, of a model that does not generate;
    - the tokenizer's files, `config.json`, `run_onnx.py`, which runs the folder where this package is not installed,
      and a `README.md` that names the inputs and outputs of each graph.

    Args:
        model: an encoder-decoder, a language model, or a model for classification, labelling or question answering of
            this package.
        tokenizer: its tokenizer.
        folder: where to write; what is there of the same names is written over, but for a checkpoint.
        weights: `"float32"`. `"int8"`: large products are made in eight bits, which is fastest on a processor; the
            results are not quite the same. `"stored-int8"`: the files have a quarter of the size, and as fast as
            `"float32"`; best for downloads.
        spelt: whether `attention-rnn train` has spelt its lemmas and features, which the runner then does as well.

    Returns:
        The folder.

    Raises:
        TypeError: the model is of another kind, or the tokenizer is not a fast one.
        ValueError: the tokenizer does not fit, or something in the model or its generation config has no form in ONNX.

    Example:
        >>> from attention_rnn import OnnxRunner, export_onnx
        >>> export_onnx(model, tokenizer, "date-onnx", weights="stored-int8")
        >>> OnnxRunner.from_pretrained("date-onnx")("3. März 1998")["text"]
        '1998-03-03'
    """
    refuse_checkpoint(folder)
    task = TASKS.get(type(model).__name__)
    if task is None:
        raise TypeError(f"`model` must be one of {', '.join(TASKS)}, got {type(model).__name__}.")
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise TypeError(f"`tokenizer` must be a PreTrainedTokenizerFast, got {type(tokenizer).__name__}.")
    if weights not in WEIGHTS:
        raise ValueError(f"`weights` must be one of {', '.join(WEIGHTS)}, got {weights!r}.")
    if tokenizer.clean_up_tokenization_spaces:
        raise ValueError("`tokenizer` must not have `clean_up_tokenization_spaces`, which a runner does not do.")
    check_vocabulary(tokenizer, model.config)
    over_text: Any = model.attention if task == LABELLING else None
    if over_text is not None and over_text.attention.alignment_features:
        raise ValueError(
            "`model` must not attend to a text by scores that look back, which go through it step by step: "
            f"`attention_type={model.config.attention_type!r}`, `coverage={model.config.coverage}`."
        )
    settings = {} if task not in (SEQ2SEQ, CAUSAL) else _generation_settings(model)
    graphs, states, looks_back = _make_graphs(copy_for_export(model), task, weights, settings)
    folder = Path(folder)
    begin_folder(folder)
    for name, graph in graphs.items():
        onnx.checker.check_model(graph)
        onnx.save(graph, folder / name)
    backends = {TOKENIZER: tokenizer.backend_tokenizer}
    if isinstance(tokenizer, AttentionRnnTokenizer):
        backends[TARGET_TOKENIZER] = tokenizer.target.backend_tokenizer
    for name, backend in backends.items():
        backend.save(str(folder / name))
    config = _describe(model, tokenizer, task, settings) | {
        "vocabularies": {name: digest_vocabulary(backend) for name, backend in backends.items()},
        "weights": weights,
        "states": states,
        "repeats_memory": looks_back,
        "spelt": spelt,
    }
    (folder / CONFIG).write_text(json.dumps(config, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    (folder / RUNNER).write_text(one_file(spelling, reading, decoding, runner), encoding="utf-8")
    write_card(folder, config, graphs, tokenizer)
    return folder


def export_checkpoint(name: str, folder: str | Path, weights: Weights = "float32") -> Path:
    """
    [`export_onnx`] of what a training has left.

    Args:
        name: a folder, or a name on the Hub.

    Raises:
        OSError: there is no such model.
        TypeError, ValueError: as of [`export_onnx`].
    """
    architecture = next(iter(open_config(name).architectures or []), "none")
    if architecture in speech.TASKS:
        return speech.export_speech_checkpoint(name, architecture, folder, weights)
    if architecture not in TASKS:
        raise ValueError(f"{name} must be a checkpoint of one of {', '.join(TASKS)}, got {architecture}.")
    model = getattr(attention_rnn, architecture).from_pretrained(name)
    tokenizer: Any = AutoTokenizer.from_pretrained(name)
    task = read_task(name)
    return export_onnx(model, tokenizer, folder, weights, spelt=task is not None and task.spelt)


def _make_graphs(
    model: Any, task: str, weights: str, settings: dict[str, Any]
) -> tuple[dict[str, ModelProto], dict[str, list[int]], bool]:
    """The graphs by their files, the shape of each state without its rows, and whether attention looks back."""

    def finished(graph: Graph) -> ModelProto:
        return round_products(trace(graph)) if weights == "int8" else trace(graph)

    if task not in (SEQ2SEQ, CAUSAL):
        model.crf = None  # the runner finds the best labels itself
        return {MODEL: store(finished(WholeText(model, OUTPUTS[task])), weights)}, {}, False
    ends = Ends(
        model.config.decoder_start_token_id or 0, _ends(model), _special(model)["pad"] or 0, settings["min_new_tokens"]
    )
    encoder, looks_back = None, False
    step: Graph
    if task == SEQ2SEQ:
        prepared = prepare_for_export(model)
        source = SourceReader(model, prepared)
        encoder, looks_back = finished(source), prepared.looks_back
        step = TokenStep(model, prepared, source.example_outputs())
    else:
        step = CausalStep(model)
    one_step = finished(step)
    names = [name.removesuffix(NEXT) for name in step.outputs if name.endswith(NEXT)]
    examples = step.inputs().examples
    shapes = {name: list(examples[name].shape[1:]) for name in names}
    if "past" in names and model.config.past_attention_window == "all":
        shapes["past"][0] = 1  # an entry that is none
    graphs = {} if encoder is None else {ENCODER: encoder}
    graphs |= {STEP: add_best(one_step), GENERATE: join(encoder, one_step, names, ends)}
    return {name: store(graph, weights) for name, graph in graphs.items()}, shapes, looks_back


def _generation_settings(model: Any) -> dict[str, Any]:
    config = model.generation_config
    given = config.to_diff_dict()
    unknown = {name for name in given if name not in GENERATION and name not in _OTHER_SETTINGS and name[0] != "_"}
    if unknown:
        raise ValueError(
            f"`model.generation_config` sets {sorted(unknown)}, which the exported model does not know: unset them to "
            f"export the model without; it knows {sorted(GENERATION)}."
        )
    settings = {**GENERATION, **{name: given[name] for name in GENERATION if given.get(name) is not None}}
    if settings["max_new_tokens"] is None and config.max_length is None:
        settings["max_new_tokens"] = 20  # as `generate()`, whatever the length of a prompt
    if given.get("min_length"):
        if not model.config.is_encoder_decoder:
            raise ValueError("`model.generation_config` sets `min_length`: set `min_new_tokens` to export the model.")
        settings["min_new_tokens"] = max(settings["min_new_tokens"], given["min_length"] - 1)
    return settings


def _ends(model: Any) -> list[int]:
    ends = model.config.eos_token_id
    if getattr(model, "generation_config", None) is not None and model.can_generate():
        ends = model.generation_config.eos_token_id
    return [] if ends is None else [int(end) for end in np.atleast_1d(ends)]


def _special(model: Any) -> dict[str, Any]:
    config = model.config
    return {
        "pad": config.pad_token_id,
        "bos": config.bos_token_id,
        "eos": _ends(model),
        "unk": config.unk_token_id,
        "start": config.decoder_start_token_id,
    }


def _describe(model: Any, tokenizer: Any, task: str, settings: dict[str, Any]) -> dict[str, Any]:
    """What a runner must know besides the graphs."""
    config: AttentionRnnConfig = model.config
    special = _special(model)
    limit = tokenizer.model_max_length
    labels = list_labels(config) if task in (CLASSIFICATION, LABELLING) else None
    tokens = {tokenizer.convert_ids_to_tokens(id_): id_ for id_ in (special["pad"], special["unk"], *special["eos"])
              if id_ is not None and id_ < len(tokenizer)}  # fmt: skip
    generates = task in (SEQ2SEQ, CAUSAL)
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "task": task,
        "vocab_size": config.vocab_size,
        "source_vocab_size": config.source_size if task != CAUSAL else config.vocab_size,
        "special_tokens": special,
        "tokens": tokens,
        "unk_token": tokenizer.unk_token,
        "has_target_tokenizer": isinstance(tokenizer, AttentionRnnTokenizer),
        "max_source_length": limit if limit < 10**9 else None,
        "max_word_length": getattr(tokenizer, "max_word_length", None) if config.character_size else None,
        "copy": config.copy and task == SEQ2SEQ,
        "generation": settings,
        "max_length": model.generation_config.max_length if generates else None,
        "labels": labels,
        "problem_type": getattr(config, "problem_type", None),
        "intents": config.intents if task == LABELLING else None,
        "crf": _field(model) if task == LABELLING else None,
        "joined_labels": _joined_labels(labels or []) if task == LABELLING and config.crf else None,
    }


def _field(model: Any) -> list[Any] | None:
    """Start, transitions and end of a conditional random field."""
    if model.crf is None:
        return None
    example = next(model.parameters()).detach()
    return [part.detach().tolist() for part in model.crf._scores(example, model._allowed_transitions())]


def _joined_labels(labels: list[str]) -> list[list[int | None]] | None:
    """What becomes of two pieces of a word: its label, or `None` where the second does not go on with the first."""
    if not is_chunk_scheme(labels):
        return None
    return [
        [_index(labels, word_label([one, two])) if continues_chunk(one, two) else None for two in labels]
        for one in labels
    ]


def _index(labels: list[str], label: str) -> int | None:
    return labels.index(label) if label in labels else None
