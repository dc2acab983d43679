"""transformers' shared tests of configs, models, training and pipelines, on every model class of this project."""

import unittest
from typing import Any

import torch
from testers import PIPELINES, TESTERS, TimeSeriesTester
from tests.generation.test_utils import GenerationTesterMixin
from tests.test_configuration_common import ConfigTester
from tests.test_modeling_common import ModelTesterMixin
from tests.test_pipeline_mixin import PipelineTesterMixin
from tests.test_training_mixin import TrainingTesterMixin
from torch import Tensor

from attention_rnn import AttentionRnnConfig, AttentionRnnForTimeSeriesPrediction, AttentionRnnTimeSeriesConfig
from attention_rnn.models.configuration_attention_rnn import AUTO_MAP
from attention_rnn.models.configuration_attention_rnn_time_series import AUTO_MAP as AUTO_MAP_OF_SERIES


class ConfigTest(unittest.TestCase):
    def test_config(self) -> None:
        tester = ConfigTester(self, config_class=AttentionRnnConfig, hidden_size=37, cell_type="lstm", copy=True)
        tester.run_common_tests()


class TimeSeriesConfigTest(unittest.TestCase):
    def test_config(self) -> None:
        tester = ConfigTester(
            self, config_class=AttentionRnnTimeSeriesConfig, has_text_modality=False, hidden_size=37, cell_type="lstm"
        )
        tester.run_common_tests()


class PipelineTest(PipelineTesterMixin, unittest.TestCase):
    pipeline_model_mapping = PIPELINES


class ModelTests(ModelTesterMixin):
    model_tester: Any = None
    test_can_init_all_missing_weights_before_2023 = True  # our files name no year

    def test_retain_grad_hidden_states_attentions(self) -> None:
        # There is no self-attention, and the weights of a loop over the target are put together behind it.
        self.has_attentions = False
        super().test_retain_grad_hidden_states_attentions()


class GeneratingModelTests(ModelTests, GenerationTesterMixin, TrainingTesterMixin):
    model_tester: Any = None
    training_overfit_learning_rate = 5e-3
    training_overfit_seq_length = 24

    def _create_text_training_batch(self, batch_size: int, seq_length: int, vocab_size: int) -> dict[str, Tensor]:
        batch = super()._create_text_training_batch(batch_size, seq_length, vocab_size)
        if self.is_encoder_decoder:
            # The test goes on to generate the sequence from its first token, which is then the whole source.
            batch["attention_mask"] = torch.zeros_like(batch["input_ids"])
            batch["attention_mask"][:, 0] = 1
            batch["labels"] = batch["labels"][:, 1:]
        return batch


class TimeSeriesModelTests(ModelTests):
    def _prepare_for_class(self, inputs_dict: dict[str, Any], model_class: Any, return_labels: bool = False) -> Any:
        inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels)
        if return_labels and model_class is AttentionRnnForTimeSeriesPrediction:
            inputs["future_values"] = torch.ones(len(inputs["past_values"]), 6)
        return inputs


def model_test(name: str, tester: Any) -> type:
    """A test case of the tests that fit a tester's classes."""
    tests: type = ModelTests
    if isinstance(tester, TimeSeriesTester):
        tests = TimeSeriesModelTests
    elif any(model_class.can_generate() for model_class in tester.model_classes):
        tests = GeneratingModelTests
    attributes = {
        "__module__": __name__,
        "model_tester": tester,
        "all_model_classes": tester.model_classes,
        "is_encoder_decoder": tester.is_encoder_decoder,
    }
    return type(name, (tests, unittest.TestCase), attributes)


for kind, tester_class in TESTERS.items():
    for variant, overrides in tester_class.variants.items():
        globals()[f"{kind}{variant}Test"] = model_test(f"{kind}{variant}Test", tester_class(**overrides))


def test_every_class_is_tested() -> None:
    tested = {model_class.__name__ for tester in TESTERS.values() for model_class in tester.model_classes}
    references = {**AUTO_MAP, **{f"{name} of series": of_series for name, of_series in AUTO_MAP_OF_SERIES.items()}}
    classes = {reference.rpartition(".")[2] for name, reference in references.items() if "AutoConfig" not in name}
    assert classes <= tested
