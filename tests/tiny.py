"""Tiny models for the tests: every size differs from every other, so that a swapped axis fails."""

import itertools
from typing import Any

import torch
from torch import Tensor

from attention_rnn import AttentionRnnConfig, AttentionRnnForConditionalGeneration
from attention_rnn.models.configuration_core import ATTENTION_TYPES, CELL_STATES
from attention_rnn.models.configuration_decoder import CONTEXT_FEEDINGS

BATCH, SOURCE, TARGET = 3, 8, 5

# every cell x attention x feeding, and each cell without attention
COMBINATIONS: list[dict[str, Any]] = [
    {"cell_type": cell_type, "attention_type": attention_type, "context_feeding": context_feeding}
    for cell_type, attention_type, context_feeding in itertools.product(CELL_STATES, ATTENTION_TYPES, CONTEXT_FEEDINGS)
] + [{"cell_type": cell_type, "attention_type": None} for cell_type in CELL_STATES]
# each attention and each feeding once, where the cell does not matter
SOME_COMBINATIONS = [
    combination
    for index, combination in enumerate(COMBINATIONS)
    if combination["attention_type"] is None or index % (len(CONTEXT_FEEDINGS) + 1) == 0
]


def name(combination: dict[str, Any]) -> str:
    return "-".join(str(value) for value in combination.values())


def tiny_config(**overrides: Any) -> AttentionRnnConfig:
    values: dict[str, Any] = {
        "vocab_size": 19,
        "embedding_size": 6,
        "hidden_size": 10,
        "attention_size": 7,
        "encoder_layers": 2,
        "decoder_layers": 3,
        "bidirectional": overrides.get("attention_type") not in ("dot", "scaled_dot"),
        "num_attention_heads": 2,
        "location_channels": 4,
        "location_kernel_size": 3,
        "local_window_size": 2,
        "embedding_dropout": 0.0,
        "hidden_dropout": 0.0,
        "readout_dropout": 0.0,
    }
    return AttentionRnnConfig(**{**values, **overrides})


def tiny_model(seed: int = 0, **overrides: Any) -> AttentionRnnForConditionalGeneration:
    """In evaluation mode, with weights large enough that the outputs depend visibly on every input."""
    torch.manual_seed(seed)
    model = AttentionRnnForConditionalGeneration(tiny_config(**overrides)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def tiny_batch(model: AttentionRnnForConditionalGeneration, seed: int = 0) -> dict[str, Tensor]:
    """Sources with padding on the right, on the left and in the middle; labels with padding."""
    generator = torch.Generator().manual_seed(seed)
    config = model.config
    source_vocab_size = config.source_vocab_size or config.vocab_size
    attention_mask = torch.ones(BATCH, SOURCE, dtype=torch.long)
    attention_mask[0, 5:] = 0
    attention_mask[1, :2] = 0
    attention_mask[2, 3:5] = 0
    labels = torch.randint(4, config.vocab_size, (BATCH, TARGET), generator=generator)
    labels[1, 3:] = -100
    return {
        "input_ids": torch.randint(4, source_vocab_size, (BATCH, SOURCE), generator=generator),
        "attention_mask": attention_mask,
        "labels": labels,
    }
