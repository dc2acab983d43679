"""What the scripts settle that the command line leaves open, or that the machine cannot do."""

import pytest

pytest.importorskip("yaml")

from dataclasses import dataclass

import torch

from attention_rnn.arguments import ScriptTrainingArguments


@dataclass
class Arguments(ScriptTrainingArguments):
    num_train_epochs: float = None
    per_device_train_batch_size: int = None

    def __post_init__(self):
        self.settle_evaluation()
        self.settle_length(epochs=20, batch_size=64)
        super().__post_init__()


@pytest.mark.parametrize(
    ("given", "examples", "least_steps", "most_steps", "batch_size", "epochs"),
    [
        ({}, 100_000, 2_000, float("inf"), 64, 20),
        ({}, 3_600, 2_000, float("inf"), 64, 36),  # 56.25 steps an epoch
        ({}, 800, 2_000, float("inf"), 20, 50),
        ({}, 100, 2_000, float("inf"), 8, 160),
        ({}, 3, 2_000, float("inf"), 8, 200),
        ({}, 10_000, 0, 1_000, 64, 6),
        ({}, 1_000_000, 0, 1_000, 64, 2),
        ({"num_train_epochs": 3.0}, 800, 2_000, float("inf"), 20, 3),
        ({"per_device_train_batch_size": 50}, 800, 2_000, float("inf"), 50, 125),
    ],
)
def test_a_training_suits_the_number_of_examples(
    given, examples, least_steps, most_steps, batch_size, epochs, tmp_path
):
    arguments = Arguments(str(tmp_path), use_cpu=True, report_to="none", **given)
    arguments.suit_length(examples, least_steps, most_steps)
    assert arguments.train_batch_size == batch_size
    assert arguments.num_train_epochs == epochs


def test_a_largest_batch_is_kept_to(tmp_path):
    arguments = Arguments(str(tmp_path), use_cpu=True, report_to="none")
    arguments.suit_length(3_600, 3_400, 4_500, 32)
    assert arguments.train_batch_size == 32
    assert arguments.num_train_epochs == 31  # of 113 steps
    arguments = Arguments(str(tmp_path), use_cpu=True, report_to="none")
    arguments.suit_length(10_000, 3_400, 4_500, 32)
    assert arguments.num_train_epochs == 14  # of 313 steps, where 20 would be too many


@pytest.mark.parametrize(
    ("machine", "instructions", "is_kept"),
    [
        ("x86_64", (), False),
        ("x86_64", ("onednn",), False),  # which counts AVX512 without its instructions for bfloat16
        ("x86_64", ("avx512_bf16",), True),
        ("AMD64", ("amx",), True),
        ("aarch64", ("onednn",), True),
        ("arm64", (), False),
    ],
)
def test_a_cpu_that_would_emulate_bfloat16_trains_in_float32(
    tmp_path, monkeypatch, caplog, machine, instructions, is_kept
):
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: "avx512_bf16" in instructions)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: "amx" in instructions)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: "onednn" in instructions)
    for given in ({"use_cpu": True}, {}):
        caplog.clear()
        arguments = ScriptTrainingArguments(str(tmp_path), bf16=True, eval_strategy="no", save_strategy="no", **given)
        assert arguments.bf16 is is_kept
        assert arguments.mixed_precision == ("bf16" if is_kept else "no")
        assert ("bf16 has no effect" in caplog.text) is not is_kept


def test_an_accelerator_trains_in_bfloat16_whatever_its_cpu_can_do(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr("transformers.training_args.is_torch_bf16_gpu_available", lambda: True)
    monkeypatch.setattr("attention_rnn.arguments.multiplies_bfloat16", lambda: False)
    options = {"eval_strategy": "no", "save_strategy": "no"}
    assert ScriptTrainingArguments(str(tmp_path), bf16=True, **options).bf16
