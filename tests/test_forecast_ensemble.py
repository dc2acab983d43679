"""Several forecasters as one."""

import pytest
import torch
from tiny_series import tiny_future, tiny_inputs, tiny_model

from attention_rnn import AttentionRnnForecastEnsemble


def test_forecasts_are_the_means_of_the_members():
    members = [tiny_model(0), tiny_model(1, patch_length=5, decoding="autoregressive")]
    inputs, future = tiny_inputs(members[0].config), tiny_future(members[0].config)
    outputs = AttentionRnnForecastEnsemble(members)(**inputs, future_values=future)
    first, second = (member(**inputs, future_values=future) for member in members)
    torch.testing.assert_close(outputs.full_predictions, (first.full_predictions + second.full_predictions) / 2)
    torch.testing.assert_close(outputs.mean_predictions, outputs.full_predictions[..., 0])
    torch.testing.assert_close(outputs.loss, (first.loss + second.loss) / 2)
    assert (outputs.full_predictions[..., 1:].diff(dim=-1) >= 0).all()


def test_paths_are_of_all_members():
    members = [tiny_model(seed) for seed in (0, 1, 2)]
    inputs = tiny_inputs(members[0].config)
    ensemble = AttentionRnnForecastEnsemble(members)
    assert ensemble.generate(**inputs, num_parallel_samples=7, prediction_length=13).sequences.shape == (3, 7, 13)
    with pytest.raises(ValueError, match="at least the number of members, 3, got 2"):
        ensemble.generate(**inputs, num_parallel_samples=2)


def test_an_ensemble_is_loaded_from_its_members(tmp_path):
    members = [tiny_model(0), tiny_model(1)]
    for index, member in enumerate(members):
        member.save_pretrained(tmp_path / str(index))
    loaded = AttentionRnnForecastEnsemble.from_pretrained([tmp_path / "0", tmp_path / "1"])
    inputs = tiny_inputs(members[0].config)
    expected = AttentionRnnForecastEnsemble(members)(**inputs)
    assert torch.equal(loaded(**inputs).full_predictions, expected.full_predictions)
    with pytest.raises(NotImplementedError):
        loaded.save_pretrained(tmp_path)


def test_members_must_forecast_the_same():
    with pytest.raises(ValueError, match="the same prediction_length, but it is 10 in the first and 5 in member 1"):
        AttentionRnnForecastEnsemble([tiny_model(), tiny_model(prediction_length=5)])
    with pytest.raises(ValueError, match="at least one model"):
        AttentionRnnForecastEnsemble([])
