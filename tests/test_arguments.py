"""How long a training is, where the command line leaves it open."""

import pytest

pytest.importorskip("yaml")

from dataclasses import dataclass

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
