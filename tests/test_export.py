"""Exported graphs: of the whole model, and of the parts that decode one token after the other."""

import copy

import pytest
import torch
from packaging.version import Version
from tiny import name, tiny_batch, tiny_model
from torch.export import Dim, export

from attention_rnn.models.cache import cache_field, new_cache

pytestmark = pytest.mark.skipif(
    Version(torch.__version__) < Version("2.11"), reason="transformers' exporters need torch 2.11"
)

PARALLEL = {"cell_type": "gru", "attention_type": "additive", "context_feeding": "parallel"}
OUTPUT = {"cell_type": "lstm", "attention_type": "multi_head", "context_feeding": "output"}
CONDITIONAL = {"cell_type": "gru", "attention_type": "location", "context_feeding": "conditional"}


def small_model(**overrides):
    return tiny_model(**{"encoder_layers": 1, "decoder_layers": 2, **overrides})


def sources(model):
    batch = tiny_batch(model)
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}


def smaller(inputs):
    """What a graph is traced with before it is called with `inputs`; no views, which it would ask for again."""
    return {name: value[:2, :5].clone() for name, value in inputs.items()}


@pytest.mark.parametrize("variant", [PARALLEL, OUTPUT], ids=name)
def test_an_exported_model_takes_sources_and_targets_of_any_length(variant):
    model = small_model(use_cache=False, **variant)
    inputs = {**sources(model), "decoder_input_ids": tiny_batch(model)["labels"].clamp(min=0)}
    lengths = {name: {0: Dim.DYNAMIC, 1: Dim.DYNAMIC} for name in inputs}
    program = export(model, (), smaller(inputs), dynamic_shapes=lengths, strict=False)
    torch.testing.assert_close(program.module()(**inputs).logits, model(**inputs).logits)


def greedy(encoder, first_step, next_step, inputs, start, steps):
    """Greedy decoding by three functions; a step returns the logits and the cache."""
    mask = inputs["attention_mask"]
    encoder_outputs = encoder(**inputs)
    tokens = [torch.full((mask.shape[0], 1), start)]
    step, cache = first_step, None
    for _ in range(steps):
        outputs = step(mask, tokens[-1], encoder_outputs, cache)
        tokens.append(outputs.logits[:, -1:].argmax(-1))
        step, cache = next_step, outputs.past_key_values
    return torch.cat(tokens, dim=1)


@pytest.mark.parametrize(("form", "variant"), [("torch", CONDITIONAL), ("onnx", PARALLEL)], ids=["torch", "onnx"])
def test_exported_parts_decode_as_generate_does(form, variant):
    exporters = pytest.importorskip("transformers.exporters")
    if form == "onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(package)
        exporter, config = exporters.OnnxExporter(), exporters.OnnxConfig(dynamic=True)
    else:
        exporter, config = exporters.DynamoExporter(), exporters.DynamoConfig(dynamic=True)
    model = small_model(**variant)
    inputs = sources(model)
    encoder = exporter.export(model.get_encoder(), smaller(inputs), config)
    runners = exporter.export_for_generation(model, smaller(inputs), config).runners

    def call(part):
        def step(mask, token, encoder_outputs, cache):
            cache = new_cache(model.config) if cache is None else cache
            return runners[part](
                attention_mask=mask,
                decoder_input_ids=token,
                encoder_outputs=encoder_outputs,
                **cache_field(copy.deepcopy(cache)),
            )

        return step

    model.generation_config.eos_token_id = None
    expected = model.generate(**inputs, max_new_tokens=6)
    start = model.config.decoder_start_token_id
    assert torch.equal(greedy(encoder, call("prefill"), call("decode"), inputs, start, 6), expected)
