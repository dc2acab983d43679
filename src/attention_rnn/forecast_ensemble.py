"""Ensembles of forecasters: the mean of their forecasts."""

import copy
from collections.abc import Sequence
from os import PathLike
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import SampleTSPredictionOutput
from transformers.utils.generic import can_return_tuple

from .models.modeling_attention_rnn_time_series import AttentionRnnTimeSeriesPreTrainedModel
from .models.modeling_attention_rnn_time_series_prediction import AttentionRnnForTimeSeriesPrediction
from .models.outputs import AttentionRnnTimeSeriesPredictionOutput

_SHARED = ("prediction_length", "num_channels", "quantile_levels", "distribution_output", "loss", "num_time_features")


class AttentionRnnForecastEnsemble(AttentionRnnTimeSeriesPreTrainedModel):
    """
    Several forecasters, whose point forecasts and quantiles are averaged level by level (Lichtendahl et al., 2013,
    https://doi.org/10.1287/mnsc.1120.1667): the same model from several seeds, or with several patch lengths.

    Args:
        members (`Sequence[AttentionRnnForTimeSeriesPrediction]`):
            One model or more, on one device, which forecast the same. They are used, not copied, and put into
            evaluation mode. `config` is a copy of the first's.

    Raises:
        TypeError: a member is of another class.
        ValueError: there is no member, or members differ in what they forecast.

    Example:
        >>> ensemble = AttentionRnnForecastEnsemble.from_pretrained(["runs/seed1", "runs/seed2"])
        >>> ensemble(past_values=values).full_predictions
    """

    accepts_loss_kwargs = False
    members: Any  # nn.ModuleList

    def __init__(self, members: Sequence[AttentionRnnForTimeSeriesPrediction]) -> None:
        _check_members(members)
        super().__init__(copy.deepcopy(members[0].config))
        # without `post_init`, which would give the weights initial values
        self.members = nn.ModuleList(members)
        self.eval()

    @classmethod
    def from_pretrained(cls, folders: Sequence[str | PathLike], **kwargs: Any) -> "AttentionRnnForecastEnsemble":  # type: ignore[override]
        """
        The ensemble of several checkpoints.

        Args:
            folders: their folders, or names on the Hub.
            kwargs: as for `from_pretrained` of one model, for each.

        Raises:
            TypeError: `folders` is a single folder.
        """
        if isinstance(folders, (str, PathLike)):
            raise TypeError(f"`folders` must be a list of folders, got {folders!r}.")
        return cls([AttentionRnnForTimeSeriesPrediction.from_pretrained(folder, **kwargs) for folder in folders])

    def save_pretrained(self, *args: Any, **kwargs: Any) -> NoReturn:
        """An ensemble is not saved; its members are."""
        raise NotImplementedError(
            "An ensemble is not saved as a whole. Save its `members` and load them by `from_pretrained([...])`."
        )

    @can_return_tuple
    def forward(
        self,
        past_values: Tensor,
        past_time_features: Tensor | None = None,
        past_observed_mask: Tensor | None = None,
        past_only_features: Tensor | None = None,
        static_categorical_features: Tensor | None = None,
        static_real_features: Tensor | None = None,
        future_values: Tensor | None = None,
        future_time_features: Tensor | None = None,
        future_observed_mask: Tensor | None = None,
        return_loss: bool = True,
        **kwargs: Any,
    ) -> AttentionRnnTimeSeriesPredictionOutput:
        """
        See `AttentionRnnForTimeSeriesPrediction.forward`.

        Returns:
            `mean_predictions`, `full_predictions`: the means over the members. `loss`: the mean of their losses; that
            of the mean forecast is no larger, for quantiles and numbers.
        """
        inputs = {
            "past_values": past_values,
            "past_time_features": past_time_features,
            "past_observed_mask": past_observed_mask,
            "past_only_features": past_only_features,
            "static_categorical_features": static_categorical_features,
            "static_real_features": static_real_features,
            "future_values": future_values,
            "future_time_features": future_time_features,
            "future_observed_mask": future_observed_mask,
            "return_loss": return_loss,
        }
        outputs = [member(**inputs, return_dict=True) for member in self.members]

        def mean(name: str) -> Any:
            values = [output[name] for output in outputs if output.get(name) is not None]
            return torch.stack(values).mean(dim=0) if values else None

        return AttentionRnnTimeSeriesPredictionOutput(
            loss=mean("loss"), mean_predictions=mean("mean_predictions"), full_predictions=mean("full_predictions")
        )

    def generate(
        self, past_values: Tensor, num_parallel_samples: int | None = None, **kwargs: Any
    ) -> SampleTSPredictionOutput:
        """
        Paths of all members, about as many of each; see `AttentionRnnForTimeSeriesPrediction.generate`.

        Raises:
            ValueError: there are fewer paths than members.
        """
        samples = self.config.num_parallel_samples if num_parallel_samples is None else num_parallel_samples
        if samples < len(self.members):
            raise ValueError(
                f"`num_parallel_samples` must be at least the number of members, {len(self.members)}, got {samples}."
            )
        each, more = divmod(samples, len(self.members))
        paths = [
            member.generate(past_values, num_parallel_samples=each + (index < more), **kwargs).sequences
            for index, member in enumerate(self.members)
        ]
        return SampleTSPredictionOutput(sequences=torch.cat(paths, dim=1))


def _check_members(members: Sequence[Any]) -> None:
    if len(members) == 0:
        raise ValueError("`members` must hold at least one model, got none.")
    for index, member in enumerate(members):
        if not isinstance(member, AttentionRnnForTimeSeriesPrediction):
            raise TypeError(f"`members` must be of AttentionRnnForTimeSeriesPrediction, got {type(member).__name__}.")
        for name in _SHARED:
            expected, value = getattr(members[0].config, name), getattr(member.config, name)
            if value != expected:
                raise ValueError(
                    f"`members` must have the same {name}, but it is {expected!r} in the first and {value!r} in member "
                    f"{index}."
                )
