"""Patches: successive values of a series that are read, or forecast, as one step."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import initialization as init

from .checks import has_values
from .configuration_attention_rnn_time_series import AttentionRnnTimeSeriesConfig

SMALL = 0.1  # the size of the first weights beside a highway that was solved for


class Past(NamedTuple):
    """What has been read of a batch of sequences, for the decoder to look at."""

    values: Tensor  # scaled, zero where missing, (batch, patches, patch length * channels)
    observed: Tensor  # 1 where observed, of the same shape
    memory: Tensor  # (batch, patches, memory)
    mask: Tensor  # true at patches with an observed value, (batch, patches)
    final_state: Tensor  # (batch, encoder layers, width)

    def followed_by(self, later: "Past") -> "Past":
        """This past and what has been read after it."""
        names = ("values", "observed", "memory", "mask")
        joined = {name: torch.cat([getattr(self, name), getattr(later, name)], dim=1) for name in names}
        return Past(**joined, final_state=later.final_state)


def unless_whole(mask: Tensor) -> Tensor | None:
    """The mask, or `None` where nothing is known to be missing, which is faster."""
    return None if has_values(mask) and bool(mask.all()) else mask


def past_patches(values: Tensor, patch_length: int, fill: float = 0.0) -> Tensor:
    """
    Patches counted from the end; the first one is filled up on its left.

    Args:
        values: (batch, time, channels).

    Returns:
        (batch, patches, patch_length * channels)
    """
    missing = -values.shape[1] % patch_length
    return pad(values, (0, 0, missing, 0), value=fill).unflatten(1, (-1, patch_length)).flatten(2)


def future_patches(values: Tensor, patch_length: int, fill: float = 0.0) -> Tensor:
    """As `past_patches`, counted from the beginning; the last one is filled up on its right."""
    missing = -values.shape[1] % patch_length
    return pad(values, (0, 0, 0, missing), value=fill).unflatten(1, (-1, patch_length)).flatten(2)


class PatchEmbedding(nn.Module):
    """
    A vector for each patch: a rectified linear layer on its values, on which of them are observed, and on the features
    of their times. For an echo state it is linear, as the weights behind it are random already.

    Args:
        num_features: features of each time.
    """

    def __init__(self, config: AttentionRnnTimeSeriesConfig, num_features: int) -> None:
        super().__init__()
        width = config.patch_length * (2 * config.channels_together + num_features)
        self.projection = nn.Linear(width, config.hidden_size)
        self.is_linear = config.cell_type == "echo_state"

    def forward(self, values: Tensor, features: Tensor, of_series: Tensor) -> Tensor:
        """
        Args:
            values: scaled, NaN where missing, (batch, patches, patch length * channels).
            features: (batch, patches, patch length * features).
            of_series: what is known of the whole series, (batch, 1, hidden).

        Returns:
            (batch, patches, hidden)
        """
        is_missing = values.isnan()
        parts = [values.masked_fill(is_missing, 0), (~is_missing).to(values.dtype), features]
        vectors = self.projection(torch.cat(parts, dim=-1)) + of_series
        return vectors if self.is_linear else torch.relu(vectors)


class PatchReadout(nn.Module):
    """
    Numbers for each future value, of the vector of its patch; and, with `copy`, what the attention copies of the past
    (after the pointer-generator of See et al., 2017, https://arxiv.org/abs/1704.04368, equation 9):

        first = W v + g * sum_j a_j past_j,  g = sigmoid(W_g v + b_g)

    where past_j is the value at the same place of the past patch j, left out where it is missing. Unlike there, what is
    computed is not weighted by 1 - g: it corrects what is copied. The bias of the gate starts at -1.

    With `highway_length`, `first` has besides a linear map of so many of the last values, zero where missing, the same
    for all channels, to all future ones (LSTNet, Lai et al., 2018, https://arxiv.org/abs/1703.07015, equation 7). It
    starts at zero. With `freeze_highway` it is not trained, W and its bias start `SMALL` times as large, and b_g at -4.

    Args:
        numbers: how many there are for each value; copied is what the first one stands for.
    """

    def __init__(self, config: AttentionRnnTimeSeriesConfig, numbers: int) -> None:
        super().__init__()
        self.shape = (config.patch_length, config.channels_together, numbers)
        width = config.patch_length * config.channels_together
        self.projection = nn.Linear(config.hidden_size, width * numbers)
        self.gate = nn.Linear(config.hidden_size, width) if config.copy else None
        self.highway: Any = None
        if config.highway_length is not None:
            future = config.num_future_patches * config.patch_length
            self.highway = nn.Linear(config.highway_length, future, bias=False)
            self.highway.is_frozen = config.freeze_highway
            self.highway.requires_grad_(not config.freeze_highway)

    def initialize(self) -> None:
        """What is copied and what the highway carries begin small."""
        solved = self.highway is not None and self.highway.is_frozen
        if self.gate is not None:
            init.constant_(self.gate.bias, -4.0 if solved else -1.0)
        if self.highway is not None:
            init.zeros_(self.highway.weight)
            if solved:
                for parameter in self.projection.parameters():
                    init.copy_(parameter, SMALL * parameter)

    @torch.no_grad()
    def set_highway(self, weights: Tensor) -> None:
        """
        Let the highway be a map that was solved for.

        Args:
            weights: (last values, future values), of values that are not scaled: those of a future value sum to one.

        Raises:
            ValueError: there is no highway, or one of another size.
        """
        shape = (0, 0) if self.highway is None else tuple(self.highway.weight.T.shape)
        if self.highway is None or weights.shape[0] != shape[0] or weights.shape[1] > shape[1]:
            raise ValueError(f"`weights` must fit the highway, {shape}, got {tuple(weights.shape)}.")
        self.highway.weight.zero_()
        self.highway.weight[: weights.shape[1]] = weights.T.to(self.highway.weight)

    def forward(self, vectors: Tensor, weights: Tensor | None, past: Past, link: Any) -> tuple[Tensor, Tensor]:
        """
        Args:
            vectors: (batch, future patches, hidden).
            weights: the attention, (batch, heads, future patches, past patches), averaged over the heads.
            link: what makes a value of the first number.

        Returns:
            The first numbers (batch, time, channels), through `link` and with what is copied, and the others
            (batch, time, channels, numbers - 1).
        """
        numbers = self.projection(vectors).unflatten(-1, self.shape)
        first, others = numbers[..., 0], numbers[..., 1:]
        if self.highway is not None:
            first = first + self._straight(self.highway, past)[:, : vectors.shape[1]]
        first = link(first)
        if self.gate is not None and weights is not None:
            gate = torch.sigmoid(self.gate(vectors)).unflatten(-1, self.shape[:2])
            first = first + gate * self._copied(weights.mean(dim=1), past).unflatten(-1, self.shape[:2])
        return first.flatten(1, 2), others.flatten(1, 2)

    def _straight(self, highway: nn.Linear, past: Past) -> Tensor:
        """Of the last values alone, (batch, future patches, patch length, channels)."""
        values = past.values.unflatten(-1, self.shape[:2]).flatten(1, 2).transpose(1, 2)  # (batch, channels, time)
        values = pad(values, (highway.in_features - values.shape[-1], 0))  # a longer past is cut
        return highway(values).transpose(1, 2).unflatten(1, (-1, self.shape[0]))

    @staticmethod
    def _copied(weights: Tensor, past: Past) -> Tensor:
        """Weighted means of the past values at the same place, (batch, future patches, patch length * channels)."""
        shares = weights @ past.observed
        return weights @ past.values / shares.clamp(min=torch.finfo(shares.dtype).tiny)
