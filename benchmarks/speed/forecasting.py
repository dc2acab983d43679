"""
Time of a forecaster against a plain recurrent layer of torch.nn that reads a series value by value.

    python benchmarks/speed/run.py forecasting
"""

from collections.abc import Callable, Iterator
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


def measure(rounds: int) -> Iterator[Line]:
    torch.manual_seed(0)
    config = AttentionRnnTimeSeriesConfig(
        prediction_length=HORIZON, context_length=CONTEXT, patch_length=24, hidden_size=HIDDEN
    )
    ours, theirs = AttentionRnnForTimeSeriesPrediction(config), PlainGru()
    past, future = torch.randn(64, CONTEXT), torch.randn(64, HORIZON)
    yield compare(
        f"training step, batch 64, {CONTEXT} to {HORIZON}",
        training(ours, lambda: ours(past_values=past, future_values=future).loss),
        training(theirs, lambda: (theirs(past) - future).abs().mean()),
        rounds,
        1.0,
    )
    ours.eval()
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
