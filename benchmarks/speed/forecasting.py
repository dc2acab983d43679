"""
Time of a forecaster against a plain recurrent layer of torch.nn that reads a series value by value, and against the
recurrent forecasters of other libraries where they are installed, in an environment of their own:

    pip install neuralforecast gluonts lightning
    python benchmarks/speed/run.py forecasting
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from comparison import Line, compare
from torch import Tensor, nn

from attention_rnn import AttentionRnnForTimeSeriesPrediction, AttentionRnnTimeSeriesConfig

CONTEXT, HORIZON, HIDDEN = 336, 96, 64


class PlainGru(nn.Module):
    """The last state of a GRU, and a linear layer for the whole horizon."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.readout = nn.GRU(1, HIDDEN, batch_first=True), nn.Linear(HIDDEN, HORIZON)

    def forward(self, past: Tensor) -> Tensor:
        return self.readout(self.layer(past[..., None])[1][-1])


class NeuralForecastGru(nn.Module):
    """`GRU` of neuralforecast, without its data loading."""

    def __init__(self) -> None:
        super().__init__()
        from neuralforecast.models import GRU

        widths = {"encoder_hidden_size": HIDDEN, "decoder_hidden_size": HIDDEN}
        self.model = GRU(h=HORIZON, input_size=CONTEXT, encoder_n_layers=1, decoder_layers=1, **widths)

    def forward(self, past: Tensor) -> Tensor:
        nothing = dict.fromkeys(("futr_exog", "hist_exog", "stat_exog"))
        return self.model({"insample_y": past[..., None], **nothing})[..., 0]


class GluontsDeepAr(nn.Module):
    """`DeepARModel` of GluonTS, without its data loading; a forecast samples 100 paths."""

    def __init__(self) -> None:
        super().__init__()
        from gluonts.torch.model.deepar.module import DeepARModel

        self.model = DeepARModel("h", CONTEXT, HORIZON, num_layers=1, hidden_size=HIDDEN, lags_seq=[1])

    def inputs(self, past: Tensor) -> dict[str, Tensor]:
        past = nn.functional.pad(past, (1, 0))  # the lag before the first value
        one = past.new_zeros(len(past), 1)
        return {
            "feat_static_cat": one.long(),
            "feat_static_real": one,
            "past_time_feat": torch.zeros_like(past)[..., None],
            "past_target": past,
            "past_observed_values": torch.ones_like(past),
            "future_time_feat": past.new_zeros(len(past), HORIZON, 1),
        }

    def loss(self, past: Tensor, future: Tensor) -> Tensor:
        ones = torch.ones_like(future)
        return self.model.loss(**self.inputs(past), future_target=future, future_observed_values=ones).mean()

    def forward(self, past: Tensor) -> Tensor:
        return self.model(**self.inputs(past))


def measure(rounds: int) -> Iterator[Line]:
    torch.manual_seed(0)
    config = AttentionRnnTimeSeriesConfig(
        prediction_length=HORIZON, context_length=CONTEXT, patch_length=24, hidden_size=HIDDEN
    )
    ours, theirs = AttentionRnnForTimeSeriesPrediction(config), PlainGru()
    past, future = torch.randn(64, CONTEXT), torch.randn(64, HORIZON)
    step = f"training step, batch 64, {CONTEXT} to {HORIZON}"
    our_step = training(ours, lambda: ours(past_values=past, future_values=future).loss)
    yield compare(step, our_step, training(theirs, lambda: (theirs(past) - future).abs().mean()), rounds, 1.0)
    peers: dict[str, Any] = {"neuralforecast's GRU": NeuralForecastGru, "GluonTS's DeepAR": GluontsDeepAr}
    for name, kind in peers.items():
        try:
            peers[name] = peer = kind()
        except ImportError as error:
            print(f"{name} is skipped: {error}. benchmarks/speed/forecasting.py says how to install it.")
            peers[name] = None
            continue
        loss = getattr(peer, "loss", lambda past, future, peer=peer: (peer(past) - future).abs().mean())
        yield compare(f"{step}, {name}", our_step, training(peer, partial(loss, past, future)), rounds, 1.0)
    ours.eval()
    for name, peer in peers.items():
        if peer is not None:
            peer.eval()
            with torch.no_grad():
                yield compare(
                    f"forecast of 64 series, {name}", partial(ours, past_values=past), partial(peer, past), rounds, 1.0
                )
    for batch in (1, 256):
        series = torch.randn(batch, CONTEXT)
        with torch.no_grad():
            name = f"forecast of {batch} series, {CONTEXT} to {HORIZON}"
            yield compare(name, lambda: ours(past_values=series), lambda: theirs(series), rounds, 1.0)  # noqa: B023
    series = torch.randn(10_000, CONTEXT)
    with torch.no_grad():
        yield compare(
            f"forecast of 10,000 series, {CONTEXT} to {HORIZON}, batch 256",
            lambda: [ours(past_values=batch) for batch in series.split(256)],
            lambda: [theirs(batch) for batch in series.split(256)],
            min(rounds, 3),
            1.0,
        )


def training(model: nn.Module, loss: Callable[[], Any]) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def step() -> None:
        model.train()
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return step
