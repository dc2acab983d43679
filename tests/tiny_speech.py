"""Tiny models of speech for the tests: every size differs from every other, so that a swapped axis fails."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from attention_rnn import (
    AttentionRnnCTCConfig,
    AttentionRnnForAudioClassification,
    AttentionRnnForCTC,
    AttentionRnnForSpeechSeq2Seq,
    AttentionRnnSpeechConfig,
)

VOCABULARY, MELS, FRAMES, BATCH = 11, 13, 37, 3

STREAMED = {"bidirectional": False, "causal": True}


def tiny_values(**overrides: Any) -> dict[str, Any]:
    return {
        "vocab_size": VOCABULARY,
        "embedding_size": 6,
        "hidden_size": 10,
        "attention_size": 7,
        "encoder_layers": 2,
        "num_mel_bins": MELS,
        "sampling_rate": 8000,
        "hop_length": 80,
        "subsampling_channels": [3, 4],
        "num_attention_heads": 2,
        "location_channels": 4,
        "location_kernel_size": 3,
        "embedding_dropout": 0.0,
        "hidden_dropout": 0.0,
        "readout_dropout": 0.0,
        "apply_spec_augment": False,
        **overrides,
    }


def with_large_weights(make: Callable[[], Any], seed: int = 0) -> Any:
    """A model in evaluation mode, with weights large enough that the outputs depend visibly on every input."""
    torch.manual_seed(seed)
    model = make()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def tiny_seq2seq(**overrides: Any) -> AttentionRnnForSpeechSeq2Seq:
    config = AttentionRnnSpeechConfig(**tiny_values(**overrides))
    return with_large_weights(lambda: AttentionRnnForSpeechSeq2Seq(config))


def tiny_ctc(**overrides: Any) -> AttentionRnnForCTC:
    config = AttentionRnnCTCConfig(**tiny_values(**overrides))
    return with_large_weights(lambda: AttentionRnnForCTC(config))


def tiny_classifier(**overrides: Any) -> AttentionRnnForAudioClassification:
    config = AttentionRnnSpeechConfig(**tiny_values(num_labels=5, **overrides))
    return with_large_weights(lambda: AttentionRnnForAudioClassification(config))


def tiny_speech(seed: int = 0) -> dict[str, Tensor]:
    """Features with padding on the right, on the left and in the middle."""
    generator = torch.Generator().manual_seed(seed)
    attention_mask = torch.ones(BATCH, FRAMES, dtype=torch.long)
    attention_mask[0, 29:] = 0
    attention_mask[1, :6] = 0
    attention_mask[2, 11:14] = 0
    return {
        "input_features": torch.randn(BATCH, FRAMES, MELS, generator=generator),
        "attention_mask": attention_mask,
    }


def tiny_labels(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, VOCABULARY, (BATCH, 5), generator=generator)
    labels[:, 4] = 2  # the end
    labels[1, 3:] = torch.tensor([2, -100])
    return labels


def without_padding(speech: dict[str, Tensor], row: int) -> Tensor:
    """The real frames of one row, (1, frames, mels)."""
    return speech["input_features"][row, speech["attention_mask"][row].bool()][None]
