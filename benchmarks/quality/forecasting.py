"""The tasks of forecasting: their data, and which trainings and lines of the table there are."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from attention_rnn import AttentionRnnForecastEnsemble
from attention_rnn.forecasting import Features, Windows, batches, read_series, split_by_time, standardizers
from attention_rnn.forecasting.metrics import Scores

HORIZONS = (96, 192, 336, 720)
ALONE = "alone"  # a model beside which there is no ridge regression
LENGTH = {"num_train_epochs": 8, "per_device_train_batch_size": 64}  # of a training, whatever the horizon
NOTES = (
    "All channels are forecast, z-scored by the training part, from every time step of the test part, the last batch "
    "included. MSE and MAE are of a model trained by one of the two; CRPS is the mean of twice the quantile losses of "
    "nine quantiles, and the absolute error of what gives none."
)


def read_etth1(data_dir: Path, setting: str, split: str) -> Iterator[dict[str, Any]]:
    """The first 12 months, the next 4 and the next 4, as Informer splits them."""
    begin, end = {"train": (0, 8640), "dev": (8640, 11520), "test": (11520, 14400)}[split]
    with open(data_dir / "ETTh1.csv", encoding="utf-8") as lines:
        names, *rows = csv.reader(lines)
    for date, *values in rows[begin:end]:
        yield {"date": date, **dict(zip(names[1:], map(float, values), strict=True))}


def read_exchange_rate(data_dir: Path, setting: str, split: str) -> Iterator[dict[str, Any]]:
    """70, 10 and 20 % of the days, which the file does not date."""
    with open(data_dir / "exchange_rate.txt", encoding="utf-8") as lines:
        rows = [list(map(float, row)) for row in csv.reader(lines)]
    train, test = int(len(rows) * 0.7), len(rows) - int(len(rows) * 0.2)
    begin, end = {"train": (0, train), "dev": (train, test), "test": (test, len(rows))}[split]
    for day, values in enumerate(rows[begin:end], start=begin):
        yield {"day": day, **{f"rate{number}": value for number, value in enumerate(values, start=1)}}


def setting_arguments(setting: str) -> list[str]:
    """Of a setting such as `96_mse`; every window of the test set counts."""
    horizon, *others = setting.split("_")
    highway = ["--fit_highway", "False"] if ALONE in others else []
    return ["--prediction_length", horizon, "--cutoff_stride", "1", "--num_pictures", "0", *highway]


def settings() -> dict[str, str]:
    """Each horizon trained by both errors, by the absolute one also without ridge regression, and 96 for quantiles."""
    points = {f"{h}_{loss}": f"distribution_output=point,loss={loss}" for h in HORIZONS for loss in ("mse", "mae")}
    alone = {f"{h}_mae_{ALONE}": points[f"{h}_mae"] for h in HORIZONS}
    return {**points, **alone, f"96_quantiles_{ALONE}": "distribution_output=student_t"}


def results() -> dict[str, list[str]]:
    lines = {}
    losses = {"MSE loss": "mse", "MAE loss": "mae", "MAE loss, without a highway": f"mae_{ALONE}"}
    for name, loss in losses.items():
        lines |= {f"{horizon}, {name}": [f"{horizon}_{loss}"] for horizon in HORIZONS}
        lines[f"mean, {name}"] = [f"{horizon}_{loss}" for horizon in HORIZONS]
    return {**lines, "96, 9 quantiles of Student's t, without a highway": [f"96_quantiles_{ALONE}"]}


def by_horizon(systems: dict[str, list[tuple[float, ...]]]) -> dict[str, dict[str, float]]:
    """Of each system MSE and, where it is known, MAE at each of `HORIZONS`."""
    return {
        f"{horizon}, {system}": dict(zip(("mse", "mae"), of_system[index], strict=False))
        for index, horizon in enumerate(HORIZONS)
        for system, of_system in systems.items()
    }


@torch.no_grad()
def score_together(folders: list[Path], files: dict[str, Path]) -> dict[str, float]:
    """The scores of models whose forecasts are averaged, on the last of these files, as the script scores one."""
    ensemble = AttentionRnnForecastEnsemble.from_pretrained(folders)
    config: Any = ensemble.config
    features, length = Features(**config.features), config.prediction_length
    series = read_series({split: str(file) for split, file in files.items()})
    parts = split_by_time(series, length)
    scales = standardizers(series, parts["train"])
    part = parts[list(files)[-1]]
    windows = Windows(series, part, config.context_length, length, features, scales=scales, sees_before=True)
    levels = [] if config.distribution_output == "point" else config.quantile_levels
    scores = Scores(series, parts["train"], features.season, scales, levels)
    for indices, batch in batches(windows):
        outputs = ensemble(**batch)
        quantiles = outputs.full_predictions[..., 1:].numpy() if levels else None
        scores.add(windows, indices, batch["future_values"].numpy(), outputs.mean_predictions.numpy(), quantiles)
    return scores.result()
