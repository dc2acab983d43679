"""
What transformers' tests ask of a model under test: its classes, small configs, and a batch of inputs.

A new class is added to the `model_classes` of the tester whose inputs it takes, and to `PIPELINES` if a pipeline runs
it.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import attention_rnn
from attention_rnn import AttentionRnnConfig, AttentionRnnTimeSeriesConfig
from attention_rnn.tokenizer_training import train_tokenizer


class EncoderTester:
    """The encoder, and heads over it."""

    model_classes: tuple[Any, ...] = (
        attention_rnn.AttentionRnnModel,
        attention_rnn.AttentionRnnForSequenceClassification,
        attention_rnn.AttentionRnnForTokenClassification,
    )
    variants: dict[str, dict[str, Any]] = {
        "Gru": {"bidirectional": True},
        "Lstm": {"cell_type": "lstm", "bidirectional": False, "layer_norm": True, "residual": True},
    }
    is_encoder_decoder = False
    is_training = True
    batch_size = 5
    seq_length = 7
    num_hidden_layers = 2
    hidden_size = 24  # of the first of the hidden states: the embeddings

    def __init__(self, **overrides: Any) -> None:
        self.overrides = overrides

    def get_config(self) -> AttentionRnnConfig:
        values = {
            "vocab_size": 41,
            "embedding_size": self.hidden_size,
            "hidden_size": 42,
            "attention_size": 28,
            "encoder_layers": self.num_hidden_layers,
            "decoder_layers": self.num_hidden_layers,
            "location_channels": 3,
            "location_kernel_size": 3,
            "embedding_dropout": 0.0,
            "hidden_dropout": 0.0,
            "readout_dropout": 0.0,
            "is_encoder_decoder": self.is_encoder_decoder,
        }
        return AttentionRnnConfig(**{**values, **self.overrides})

    def prepare_config_and_inputs_for_common(self) -> tuple[AttentionRnnConfig, dict[str, Tensor]]:
        return self.get_config(), {
            "input_ids": self.random_ids(self.seq_length),
            "attention_mask": self.mask(self.seq_length),
        }

    def random_ids(self, length: int) -> Tensor:
        return torch.randint(4, self.get_config().vocab_size, (self.batch_size, length))

    def mask(self, length: int) -> Tensor:
        """With padding on the right in the first row, on the left in the second."""
        mask = torch.ones(self.batch_size, length, dtype=torch.long)
        mask[0, -2:] = mask[1, :1] = 0
        return mask


class QuestionAnsweringTester(EncoderTester):
    """Question and context in one sequence."""

    model_classes = (attention_rnn.AttentionRnnForQuestionAnswering,)

    def prepare_config_and_inputs_for_common(self) -> tuple[AttentionRnnConfig, dict[str, Tensor]]:
        config, inputs = super().prepare_config_and_inputs_for_common()
        # labels are zero in these tests, and so must point to a real token
        inputs["attention_mask"][:, 0] = 1
        inputs["token_type_ids"] = torch.zeros_like(inputs["input_ids"])
        inputs["token_type_ids"][:, 3:] = 1
        return config, inputs


class LabellingTester(EncoderTester):
    """Words, each with its characters."""

    model_classes = (attention_rnn.AttentionRnnForTokenClassification,)
    variants = {"Crf": {"character_size": 9, "crf": True}}

    def prepare_config_and_inputs_for_common(self) -> tuple[AttentionRnnConfig, dict[str, Tensor]]:
        config, inputs = super().prepare_config_and_inputs_for_common()
        inputs["character_ids"] = torch.randint(1, 30, (self.batch_size, self.seq_length, 6))
        return config, inputs


class LanguageModelTester(EncoderTester):
    """Models that read and write one text."""

    model_classes = (attention_rnn.AttentionRnnForCausalLM,)
    causal_lm_class = model_classes[0]
    variants = {
        "Gru": {},
        "LstmSelfAttention": {"cell_type": "lstm", "past_attention_window": "all"},
        "GruWindow": {"attention_type": "scaled_dot", "bidirectional": False, "past_attention_window": 3},
    }


class SequenceToSequenceTester(EncoderTester):
    """Encoder-decoders. The source is longer than the target."""

    model_classes = (attention_rnn.AttentionRnnModel, attention_rnn.AttentionRnnForConditionalGeneration)
    causal_lm_class = model_classes[1]
    variants = {
        "GruParallel": {"cell_type": "gru", "context_feeding": "parallel"},
        "LstmInput": {
            "cell_type": "lstm",
            "attention_type": "general",
            "context_feeding": "input",
            "bridge": "mean",
            "layer_norm": True,
            "residual": True,
            "hidden_dropout": 0.1,
            "word_dropout": 0.1,
            "recurrent_dropout": 0.1,
            "variational_dropout": True,
        },
        "GruConditional": {
            "cell_type": "gru",
            "attention_type": "location",
            "context_feeding": "conditional",
            "cell_layer_norm": True,
        },
        "PointerGenerator": {"cell_type": "lstm", "context_feeding": "output", "copy": True, "coverage": True},
        "NoAttention": {"cell_type": "rnn_tanh", "attention_type": None},
    }
    is_encoder_decoder = True
    encoder_seq_length = 7
    decoder_seq_length = seq_length = 5

    def prepare_config_and_inputs_for_common(self) -> tuple[AttentionRnnConfig, dict[str, Tensor]]:
        config = self.get_config()
        inputs = {
            "input_ids": self.random_ids(self.encoder_seq_length),
            "attention_mask": self.mask(self.encoder_seq_length),
            "decoder_input_ids": self.random_ids(self.decoder_seq_length),
            "decoder_attention_mask": self.mask(self.decoder_seq_length),
        }
        if config.copy:
            inputs["copy_ids"] = inputs["input_ids"]
        return config, inputs


class TimeSeriesTester:
    """Series of numbers, with gaps."""

    model_classes: tuple[Any, ...] = (
        attention_rnn.AttentionRnnTimeSeriesModel,
        attention_rnn.AttentionRnnForTimeSeriesPrediction,
    )
    variants: dict[str, dict[str, Any]] = {
        "Parallel": {},
        "Autoregressive": {"decoding": "autoregressive", "cell_type": "lstm", "distribution_output": "student_t"},
    }
    is_encoder_decoder = True
    is_training = True
    batch_size = 5
    seq_length = 13

    def __init__(self, **overrides: Any) -> None:
        self.overrides = overrides

    def get_config(self) -> AttentionRnnTimeSeriesConfig:
        values = {"hidden_size": 24, "prediction_length": 6, "patch_length": 4, "readout_dropout": 0.0}
        return AttentionRnnTimeSeriesConfig(**{**values, **self.overrides})

    def prepare_config_and_inputs_for_common(self) -> tuple[AttentionRnnTimeSeriesConfig, dict[str, Tensor]]:
        values = torch.randn(self.batch_size, self.seq_length)
        observed = torch.ones(self.batch_size, self.seq_length, dtype=torch.long)
        observed[0, :5] = observed[1, 7] = 0
        return self.get_config(), {"past_values": values, "past_observed_mask": observed}


class TimeSeriesClassificationTester(TimeSeriesTester):
    """Series and their classes."""

    model_classes = (attention_rnn.AttentionRnnForTimeSeriesClassification,)
    variants = {"Gru": {"bidirectional": True}}
    is_encoder_decoder = False


TESTERS: dict[str, type[Any]] = {
    "Encoder": EncoderTester,
    "QuestionAnswering": QuestionAnsweringTester,
    "Labelling": LabellingTester,
    "LanguageModel": LanguageModelTester,
    "SequenceToSequence": SequenceToSequenceTester,
    "TimeSeries": TimeSeriesTester,
    "TimeSeriesClassification": TimeSeriesClassificationTester,
}

PIPELINES = {
    "feature-extraction": attention_rnn.AttentionRnnModel,
    "text-classification": attention_rnn.AttentionRnnForSequenceClassification,
    "zero-shot": attention_rnn.AttentionRnnForSequenceClassification,
    "token-classification": attention_rnn.AttentionRnnForTokenClassification,
    "text-generation": attention_rnn.AttentionRnnForCausalLM,
}


def write_tiny_checkpoints(folder: Path) -> None:
    """Checkpoints for the tests of the pipelines, with the summary that these read of what there is."""
    tokenizer = train_tokenizer(["a cab", "a dead bee"], kind="character")
    summary = {}
    for model_class in set(PIPELINES.values()):
        model = model_class(EncoderTester(vocab_size=len(tokenizer)).get_config())
        checkpoint = folder / model.config.model_type / model_class.__name__
        model.save_pretrained(checkpoint)
        tokenizer.save_pretrained(checkpoint)
        summary[model_class.__name__] = {
            "tokenizer_classes": [type(tokenizer).__name__],
            "processor_classes": [],
        }
    (folder / "reports").mkdir()
    (folder / "reports" / "tiny_model_summary.json").write_text(json.dumps(summary))
