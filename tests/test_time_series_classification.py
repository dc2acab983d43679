"""Classes of whole series."""

import pytest
import torch
from tiny_series import BATCH, VARIANTS, tiny_config, tiny_inputs, tiny_model
from transformers import AutoModelForSequenceClassification
from transformers.models.auto.modeling_auto import MODEL_FOR_TIME_SERIES_CLASSIFICATION_MAPPING

from attention_rnn import AttentionRnnForTimeSeriesClassification

WAYS = {
    name: {**VARIANTS[name], "num_labels": 4}
    for name in ("parallel", "channels", "mixed", "unscaled", "features", "no_attention")
}
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def tiny_classifier(**overrides):
    torch.manual_seed(0)
    return AttentionRnnForTimeSeriesClassification(tiny_config(**overrides)).eval()


def inputs_of(model):
    return {name: values for name, values in tiny_inputs(model.config).items() if not name.startswith("future")}


@every_way
def test_logits_losses_and_gradients(way):
    model = tiny_classifier(**way, pooling_heads=2).train()
    outputs = model(**inputs_of(model), labels=torch.tensor([0, 3, 1]), output_attentions=True)
    outputs.loss.backward()
    assert outputs.logits.shape == (BATCH, 4)
    sequences = 2 if way.get("num_channels") == 2 and not way.get("channel_mixing") else 1
    assert outputs.attentions[0].shape == (BATCH, 2 * sequences, 1, 6)
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


@every_way
def test_padding_on_the_left_changes_nothing(way):
    model = tiny_classifier(**way)
    inputs = inputs_of(model)
    padded = {
        name: torch.cat([torch.full_like(values[:, :9], torch.nan), values], dim=1)
        if name.startswith("past")
        else values
        for name, values in inputs.items()
    }
    torch.testing.assert_close(model(**padded).logits, model(**inputs).logits)


def test_the_order_of_the_channels_matters():
    model = tiny_classifier(num_channels=2, channel_embedding=False)
    values = inputs_of(model)["past_values"]
    assert not torch.allclose(model(values).logits, model(values.flip(2)).logits)


def test_transformers_opens_it_by_its_table_and_by_an_auto_class(tmp_path):
    model = tiny_classifier(num_labels=4)
    assert MODEL_FOR_TIME_SERIES_CLASSIFICATION_MAPPING[type(model.config)] is type(model)
    model.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert torch.equal(again(**inputs_of(model)).logits, model(**inputs_of(model)).logits)


def test_the_encoder_of_a_forecaster_is_taken_over(tmp_path):
    forecaster = tiny_model()
    forecaster.save_pretrained(tmp_path)
    model = AttentionRnnForTimeSeriesClassification.from_pretrained(tmp_path, num_labels=4)
    of_forecaster = forecaster.state_dict()
    for name, values in model.model.state_dict().items():
        assert torch.equal(values, of_forecaster[f"model.{name}"])


def test_it_learns_which_series_rise():
    torch.manual_seed(0)
    slopes = torch.tensor([1.0, -1.0]).repeat(16)
    values = slopes[:, None] * torch.linspace(-1, 1, 20) + 0.3 * torch.randn(32, 20)
    model = tiny_classifier(num_labels=2).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(30):
        loss = model(values, labels=(slopes > 0).long()).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1
