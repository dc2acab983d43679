"""trl: a causal model is tuned by supervision, by preferences and by rewards."""

import pytest
import torch
from clients import TEXTS, tiny_causal_model

pytest.importorskip("trl")
from datasets import Dataset
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from attention_rnn.tokenizer_training import train_tokenizer

COMMON = {
    "report_to": "none",
    "use_cpu": True,
    "max_steps": 2,
    "per_device_train_batch_size": 2,
    "learning_rate": 1e-2,
    "logging_steps": 1,
    "save_strategy": "no",
    "bf16": False,
    "gradient_checkpointing": False,
    "disable_tqdm": True,
}


@pytest.fixture
def tokenizer():
    return train_tokenizer(TEXTS, kind="word")


@pytest.fixture
def model(tokenizer, tmp_path):
    # from a folder, from which DPO opens its reference
    model = tiny_causal_model(vocab_size=len(tokenizer))
    model.save_pretrained(tmp_path / "base")
    return type(model).from_pretrained(tmp_path / "base")


def assert_trains(trainer):
    """Two steps with a finite loss that change the model."""
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 2
    assert torch.tensor(losses).isfinite().all()
    after = trainer.model.state_dict()
    assert any(not torch.equal(after[name], value) for name, value in before.items())


def test_sft(model, tokenizer, tmp_path):
    data = Dataset.from_dict({"text": TEXTS})
    trainer = SFTTrainer(
        model, SFTConfig(str(tmp_path), **COMMON), train_dataset=data, eval_dataset=data, processing_class=tokenizer
    )
    assert_trains(trainer)
    assert trainer.evaluate()["eval_loss"] > 0


def test_sft_of_completions_alone(model, tokenizer, tmp_path):
    data = Dataset.from_dict({"prompt": ["the cat"] * 4, "completion": [" sat on a mat"] * 4})
    trainer = SFTTrainer(model, SFTConfig(str(tmp_path), **COMMON), train_dataset=data, processing_class=tokenizer)
    assert_trains(trainer)


def test_sft_of_an_adapter(model, tokenizer, tmp_path):
    peft = pytest.importorskip("peft")
    adapter = peft.LoraConfig(r=2, target_modules=["hidden_to_hidden"])
    trainer = SFTTrainer(
        model,
        SFTConfig(str(tmp_path), **COMMON),
        train_dataset=Dataset.from_dict({"text": TEXTS}),
        processing_class=tokenizer,
        peft_config=adapter,
    )
    assert_trains(trainer)


def test_dpo(model, tokenizer, tmp_path):
    data = Dataset.from_dict(
        {"prompt": ["the cat"] * 4, "chosen": [" sat on a mat"] * 4, "rejected": [" far away to sea"] * 4}
    )
    trainer = DPOTrainer(model, args=DPOConfig(str(tmp_path), **COMMON), train_dataset=data, processing_class=tokenizer)
    assert_trains(trainer)


def test_grpo(model, tokenizer, tmp_path):
    config = GRPOConfig(str(tmp_path), **COMMON, num_generations=2, max_completion_length=5)
    trainer = GRPOTrainer(
        model,
        reward_funcs=lambda completions, **kwargs: [float(len(completion)) for completion in completions],
        args=config,
        train_dataset=Dataset.from_dict({"prompt": ["the cat", "a dog"] * 2}),
        processing_class=tokenizer,
    )
    assert_trains(trainer)
