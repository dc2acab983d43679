"""Pictures of forecasts: what came before, what was said and what came; where the model looked; how honest it is."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from ..plotting import figure_class
from .metrics import Scores
from .windows import Windows, collate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PICTURES = {
    "forecast.png": "What comes next (blue, with bands)",
    "predictions.png": "What was forecast at the last cut-off (blue, with bands), and what came (black)",
    "worst.png": "The series that are forecast worst",
    "attention.png": "Where each step of the forecast at the last cut-off looked, of the first series and channel",
    "calibration.png": "The share of the values below each quantile; on the diagonal quantiles say what they mean",
}
_BLUE, _BLACK = "#1f68c4", "0.25"


def _figure(width: float, height: float) -> "Figure":
    return figure_class()(figsize=(width, height), layout="constrained")


def plot_forecasts(panels: Sequence[Mapping[str, Any]]) -> "Figure":
    """
    Draw forecasts behind what came before them, one below the other.

    Args:
        panels (`Sequence[dict[str, Any]]`): each with

            - `title`, `name` (`str`): of the series and of its values;
            - `past_stamps`, `past` (time,): what came before;
            - `stamps`, `mean` (horizon,): the forecast;
            - `quantiles` (horizon, levels), `levels`, optional: bands between the outer ones, the next ones, ...;
            - `truth` (horizon,), optional: what came.
    """
    figure = _figure(8, 2.4 * len(panels))
    for axes, panel in zip(figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels, strict=True):
        _draw_forecast(axes, panel)
    return figure


def _draw_forecast(axes: "Axes", panel: Mapping[str, Any]) -> None:
    axes.plot(panel["past_stamps"], panel["past"], color=_BLACK, linewidth=1)
    stamps, levels = panel["stamps"], list(panel.get("levels") or ())
    for index in range(len(levels) // 2):
        low, high = panel["quantiles"][:, index], panel["quantiles"][:, -1 - index]
        label = f"{100 * (levels[-1 - index] - levels[index]):.0f} %"
        shade = _shade(0.6 * (index + 1) / (len(levels) // 2))
        axes.fill_between(stamps, low, high, color=shade, linewidth=0, label=label)
    if panel.get("truth") is not None:
        came = np.concatenate([panel["past"][-1:], panel["truth"]])
        axes.plot(panel["past_stamps"][-1:].append(stamps), came, color=_BLACK, linewidth=1, label="what came")
    axes.plot(stamps, panel["mean"], color=_BLUE, linewidth=1.5, label="forecast")
    axes.set_title(panel["title"], fontsize=10, loc="left", parse_math=False)
    axes.set_ylabel(panel["name"], fontsize=8, parse_math=False)
    axes.tick_params(labelsize=8)
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    axes.spines[["top", "right"]].set_visible(False)


def _shade(share: float) -> tuple[float, ...]:
    """White with a share of blue. A colour that is clear would be the same for all bands in the legend."""
    return tuple(1 - share * (1 - int(_BLUE[place : place + 2], 16) / 255) for place in (1, 3, 5))


def plot_forecast_attention(
    weights: np.ndarray, stamps: pd.Index, past_stamps: pd.Index, patch_length: int, title: str = ""
) -> "Figure":
    """
    Draw where each step of a forecast looked in the past.

    Args:
        weights (`np.ndarray` of shape (steps, past patches)): those of the attention, patches counted from the end.
        stamps (`pd.Index`): of the values that are forecast, `patch_length` for each step.
        past_stamps (`pd.Index`): of the values that were read.
        patch_length (`int`): values of a patch.
        title (`str`): the heading.

    Raises:
        ValueError: `weights` has not two axes.
    """
    if np.ndim(weights) != 2:
        raise ValueError(f"weights must have the axes (steps, past patches), got the shape {np.shape(weights)}")
    steps, patches = weights.shape
    figure = _figure(min(3 + 0.25 * patches, 14), min(1.8 + 0.25 * steps, 10))
    axes = figure.add_subplot()
    largest = max(float(np.nanmax(weights)), 1e-9)
    image = axes.imshow(weights, aspect="auto", cmap="Blues", vmin=0, vmax=largest, interpolation="nearest")
    figure.colorbar(image, ax=axes, label="weight")
    # patches are counted from the end, so the first may begin before the series
    begins = [len(past_stamps) - (patches - patch) * patch_length for patch in range(patches)]
    columns = range(0, patches, max(1, patches // 12))
    rows = range(0, steps, max(1, steps // 12))
    of_columns = [_told(past_stamps[max(begins[i], 0)]) for i in columns]
    axes.set_xticks(list(columns), of_columns, rotation=45, ha="right")
    axes.set_yticks(list(rows), [_told(stamps[min(i * patch_length, len(stamps) - 1)]) for i in rows])
    axes.set_xlabel(f"past patches of {patch_length}, by their first time stamp")
    axes.set_ylabel("forecast from")
    axes.set_title(title, fontsize=10, loc="left", parse_math=False)
    axes.tick_params(labelsize=7, length=0)
    return figure


def _told(stamp: Any) -> str:
    """A time stamp, by the local clock, without the parts of it that are zero."""
    text = str(stamp.tz_localize(None) if isinstance(stamp, pd.Timestamp) else stamp)
    return text.removesuffix(":00").removesuffix(" 00:00")


def plot_calibration(shares: Mapping[float, float]) -> "Figure":
    """
    Draw, for each quantile level, which share of the values lay below that quantile. On the diagonal the quantiles say
    what they mean; a line flatter than it is of a model that is too sure, a steeper one of a model that is too careful.
    """
    figure = _figure(3.6, 3.6)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    axes.plot(list(shares), list(shares.values()), color=_BLUE, marker="o", markersize=4)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="level", ylabel="share of the values below the quantile")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_pictures(folder: Path, model: Any, windows: Windows, scores: Scores, count: int) -> dict[str, str]:
    """
    Draw the forecasts of a model into a folder: of `count` series what comes next and what was forecast at the last
    cut-off, this too of those that it forecasts worst, where it looked, and its calibration.

    Returns:
        `dict[str, str]`: what each file shows, of `PICTURES`.
    """
    if not count:
        return {}
    last = {windows.locate(index)[0]: index for index in range(len(windows))}  # of each series
    names = [one.item_id for one in windows.series.series]
    channels = windows.series.columns.targets
    worst = [(names.index(row.item_id), channels.index(row.channel)) for row in scores.by_series().itertuples()]
    shown = [(which, channel) for which in last for channel in range(len(channels))]
    figures = {}
    with suppress(ValueError):  # where it is not told what must be known ahead
        ahead = _ahead(windows)
        ends = dict(enumerate(range(len(ahead))))
        figures["forecast.png"] = plot_forecasts(_panels(model, ahead, ends, shown[:count], scores.levels))
    figures["predictions.png"] = plot_forecasts(_panels(model, windows, last, shown[:count], scores.levels))
    if len(worst) > count:
        figures["worst.png"] = plot_forecasts(_panels(model, windows, last, worst[:count], scores.levels))
    which, channel = shown[0]
    weights = _attention(model, windows, last[which], channel)
    if weights is not None:
        one, (_, cut) = windows.series.series[which], windows.locate(last[which])
        begin = one.first + max(0, cut - windows.context_length)
        stamps = windows.series.stamps(one.first + cut, one.first + cut + windows.prediction_length)
        past = windows.series.stamps(begin, one.first + cut)
        title = _title(windows, which, channel)
        figures["attention.png"] = plot_forecast_attention(weights, stamps, past, model.config.patch_length, title)
    if scores.levels:
        figures["calibration.png"] = plot_calibration(scores.calibration())
    for name, figure in figures.items():
        figure.savefig(folder / name, dpi=150)
    return {name: PICTURES[name] for name in figures}


def _ahead(windows: Windows) -> Windows:
    """The windows behind the ends of the same series."""
    ends = [(0, len(one)) for one in windows.series.series]
    lengths = windows.context_length, windows.prediction_length
    return Windows(windows.series, ends, *lengths, windows.features, scales=windows.scales, beyond=True)


def _title(windows: Windows, which: int, channel: int) -> str:
    """A series and its channel, as far as they have names of their own."""
    columns, name = windows.series.columns, windows.series.series[which].item_id
    if columns.item is None:
        return str(columns.targets[channel])
    return f"{name}, {columns.targets[channel]}" if len(columns.targets) > 1 else name


@torch.no_grad()
def _panels(
    model: Any, windows: Windows, last: Mapping[int, int], chosen: Sequence[tuple[int, int]], levels: Sequence[float]
) -> list[dict[str, Any]]:
    panels = []
    for which, channel in chosen:
        index, one = last[which], windows.series.series[which]
        window = windows[index]
        batch = {name: values.to(model.device) for name, values in collate([window]).items()}
        truth = batch.pop("future_values", None)
        outputs = model.eval()(**batch)
        mean = windows.unscaled([index], outputs.mean_predictions.float().cpu())
        came = None if truth is None else windows.unscaled([index], truth.cpu())[0, :, channel]
        quantiles = windows.unscaled([index], outputs.full_predictions.float().cpu(), has_levels=True)[..., 1:]
        shown = min(len(window["past_values"]), 3 * windows.prediction_length + 24)
        cut = one.first + windows.locate(index)[1]
        panels.append(
            {
                "title": _title(windows, which, channel),
                "name": str(windows.series.columns.targets[channel]),
                "past_stamps": windows.series.stamps(cut - shown, cut),
                "past": windows.unscaled([index], window["past_values"][None])[0, -shown:, channel],
                "stamps": windows.series.stamps(cut, cut + windows.prediction_length),
                "mean": mean[0, :, channel],
                "truth": came,
                "quantiles": quantiles[0, :, channel],
                "levels": levels,
            }
        )
    return panels


@torch.no_grad()
def _attention(model: Any, windows: Windows, index: int, channel: int) -> np.ndarray | None:
    """The weights of one channel, the mean over the heads, (steps, past patches); `None` without attention."""
    batch = {name: values.to(model.device) for name, values in collate([windows[index]]).items()}
    batch.pop("future_values")
    attentions = model.eval()(**batch, output_attentions=True).cross_attentions
    if not attentions:
        return None
    weights = attentions[0][0].float().cpu()
    if weights.dim() == 4:  # of channels that are not mixed, each has its own
        weights = weights[channel]
    return weights.mean(dim=0).numpy()
