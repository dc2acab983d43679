"""accelerate: weights that lie elsewhere until their module is called."""

import copy

import pytest
import torch
from clients import MODELS, inputs_for, sources_for
from tiny import tiny_model

pytest.importorskip("accelerate")
from accelerate import cpu_offload, disk_offload, dispatch_model, infer_auto_device_map
from accelerate.hooks import remove_hook_from_submodules

VARIANTS = {
    **{kind: (kind, {}) for kind in MODELS},
    "lstm": ("tied", {"cell_type": "lstm"}),
    "input": ("tied", {"context_feeding": "input"}),
    "conditional": ("tied", {"context_feeding": "conditional", "attention_type": "location"}),
    "copy": ("tied", {"copy": True, "unk_token_id": 3}),
    "past": ("causal", {"past_attention_window": "all", "hidden_size": 12}),
}


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS)
def model(request):
    kind, overrides = request.param
    return MODELS[kind](**overrides)


def assert_same(model, placed):
    """The logits, greedy decoding and beams of a model whose weights lie elsewhere are its own."""
    with torch.no_grad():
        torch.testing.assert_close(placed(**inputs_for(model)).logits, model(**inputs_for(model)).logits)
    for options in ({}, {"num_beams": 3}):
        expected = model.generate(**sources_for(model), max_new_tokens=5, **options)
        assert torch.equal(placed.generate(**sources_for(model), max_new_tokens=5, **options), expected)


def test_cpu_offload(model):
    placed = copy.deepcopy(model)
    cpu_offload(placed, torch.device("cpu"))
    assert any(parameter.device.type == "meta" for parameter in placed.parameters())
    assert_same(model, placed)


def test_disk_offload(model, tmp_path):
    placed = copy.deepcopy(model)
    disk_offload(placed, tmp_path, torch.device("cpu"))
    assert_same(model, placed)


def test_from_pretrained_with_a_part_on_disk(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    parts = {f"model.{name}": "cpu" for name, _ in model.model.named_children()}
    on_disk = "model.layers" if "model.layers" in parts else "model.decoder"
    # a head that is tied stands beside the matrix that it is tied to
    head = "disk" if model.config.is_encoder_decoder and model.config.source_vocab_size else "cpu"
    placed = (
        type(model)
        .from_pretrained(
            tmp_path / "model",
            device_map=parts | {on_disk: "disk", "lm_head": head},
            offload_folder=tmp_path / "offload",
        )
        .eval()
    )
    assert_same(model, placed)


def test_a_map_that_accelerate_infers(model, tmp_path):
    """A part of the weights fits in memory, the rest lies on the disk."""
    placed = copy.deepcopy(model)
    size = sum(parameter.numel() * 4 for parameter in model.parameters())
    device_map = infer_auto_device_map(
        placed, max_memory={"cpu": 3 * size // 4}, no_split_module_classes=model._no_split_modules
    )
    assert set(device_map.values()) == {"cpu", "disk"}
    dispatch_model(placed, device_map, main_device="cpu", offload_dir=tmp_path)
    assert_same(model, placed)


def test_a_model_is_itself_again_without_the_hooks():
    model = tiny_model()
    placed = copy.deepcopy(model)
    cpu_offload(placed, torch.device("cpu"))
    remove_hook_from_submodules(placed)
    assert_same(model, placed)
