"""Ridge regression for the readout of a model whose other weights stay as they are, in one pass over the data."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .models.modeling_attention_rnn_time_series_prediction import AttentionRnnForTimeSeriesPrediction


@torch.no_grad()
def fit_readout(model: Any, batches: Iterable[Mapping[str, Tensor]], regularization: float = 1e-6) -> None:
    """
    Set the last linear layer of a model to the minimum of

        sum_i |W v_i + b - y_i|^2 + regularization |W|^2

    over all examples: of an echo state network (`cell_type="echo_state"`) this is the training (Jaeger, 2001). For
    forecasts v is the vector of a future patch and y its scaled values; with `decoding="autoregressive"` each patch
    knows the true values before it, so that one long series makes as many examples as it has patches. For classes v
    is the pooled vector and y 1 for its class and 0 for the others.

    The examples pass by once; what is kept of them has the size of W squared, in double precision.

    Args:
        model (`AttentionRnnForTimeSeriesPrediction` or `AttentionRnnForTimeSeriesClassification`):
            With `distribution_output="point"`, without `copy` and highway, or with single labels. It is put into
            evaluation mode.
        batches: what `forward` takes, with `future_values` or `labels`. Patches with a missing value are left out.
        regularization: the larger, the smaller the weights.

    Raises:
        ValueError: the model has another readout, or there is no example.
    """
    if regularization < 0:
        raise ValueError(f"`regularization` must be at least 0, got {regularization}.")
    forecasts = isinstance(model, AttentionRnnForTimeSeriesPrediction)
    if forecasts and (
        model.config.distribution_output != "point" or model.config.copy or model.readout.highway is not None
    ):
        raise ValueError(
            '`model` must have `distribution_output="point"`, `copy=False` and `highway_length=None` for a readout '
            f'that is a single linear layer, got "{model.config.distribution_output}", {model.config.copy} and '
            f"{model.config.highway_length}."
        )
    if forecasts and model.config.prediction_length % model.config.patch_length:
        raise ValueError(
            "`model` must forecast whole patches: `prediction_length` must be a multiple of `patch_length`, got "
            f"{model.config.prediction_length} and {model.config.patch_length}."
        )
    layer = model.readout.projection if forecasts else model.classifier
    model.eval()
    width = layer.in_features + 1
    gram = torch.zeros(width, width, dtype=torch.float64, device=layer.weight.device)
    products = gram.new_zeros(width, layer.out_features)
    for batch in batches:
        batch = {name: values.to(gram.device) for name, values in batch.items()}
        vectors, targets = _of_forecasts(model, batch) if forecasts else _of_classes(model, batch)
        vectors = nn.functional.pad(vectors.double(), (0, 1), value=1.0)  # the bias
        gram += vectors.t() @ vectors
        products += vectors.t() @ targets.double()
    if gram[-1, -1] == 0:
        raise ValueError("`batches` must hold an example whose values are all known, got none.")
    gram.diagonal()[:-1] += regularization
    solution = (
        torch.linalg.lstsq(gram, products).solution if regularization == 0 else torch.linalg.solve(gram, products)
    )
    layer.weight.copy_(solution[:-1].t())
    layer.bias.copy_(solution[-1])


def _of_forecasts(model: Any, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The vectors (examples, hidden) and the scaled values (examples, patch length * channels) of whole patches."""
    body = model.model
    names = ("time_features", "observed_mask", "only_features")
    static = ("static_categorical_features", "static_real_features")
    series = body.read(
        batch["past_values"], *(batch.get(f"past_{name}") for name in names), *(batch.get(name) for name in static)
    )
    known = body.known(batch.get("future_time_features"), series, model.config.prediction_length)
    values = body.future(batch["future_values"], batch.get("future_observed_mask"), series)
    vectors, _ = body.decode(series, known, values)
    targets = values.unflatten(1, (-1, model.config.patch_length)).flatten(2)
    is_whole = targets.isfinite().all(dim=-1)
    return vectors[is_whole], targets[is_whole]


def _of_classes(model: Any, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The vectors (examples, width) and the classes (examples, labels) of labelled series."""
    labels = batch.pop("labels")
    vectors = model.pooled(**batch)[0]
    is_labelled = labels >= 0
    targets = nn.functional.one_hot(labels[is_labelled], model.config.num_labels)
    return vectors[is_labelled], targets
