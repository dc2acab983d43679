"""
Bad series: a right result, or a ValueError or TypeError that names the series and the time stamp, as in
`test_bad_input.py`.
"""

from functools import cache

import numpy as np
import pandas as pd
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_bad_input import attempt
from transformers import AutoModelForTimeSeriesPrediction, pipeline

from attention_rnn import AttentionRnnTimeSeriesConfig
from attention_rnn.forecasting import Features, Windows, collate, split_by_time, standardizers
from attention_rnn.forecasting.data import read_series
from attention_rnn.forecasting.metrics import Scores
from attention_rnn.forecasting.settings import choose_settings

many = st.data()
FREQUENCIES = ("15min", "h", "D", "B", "W-MON", "MS", "QS", "YS")
numbers = st.floats(-1e9, 1e9, width=32)
# what may be wrong in the rows of a series, each with what its error names
FAULTS = {
    "twice": "'odd': the time stamp",
    "unordered": "'odd': time stamps must ascend",
    "infinite": "'odd', ",
    "text": "column 'target' must hold a number",
    "all missing": "'odd': there must be a value",
    "no stamp": "column 'timestamp' must hold a time stamp",
    "no date": "column 'timestamp' must hold time stamps",
    "beside the calendar": "'odd': the time stamp",
    "no name": "column 'item_id' must name a series",
}


def spoil(frame, fault, row):
    """The rows of a series, of which one has that fault."""
    stamps, values, names = (frame[name].tolist() for name in ("timestamp", "target", "item_id"))
    if fault == "twice":
        stamps[row] = stamps[row - 1]
    elif fault == "unordered":
        stamps[row - 1], stamps[row] = stamps[row], stamps[row - 1]
    elif fault == "infinite":
        values[row] = float("-inf")
    elif fault == "text":
        values[row] = "much"
    elif fault == "all missing":
        values = [float("nan")] * len(values)
    elif fault == "no stamp":
        stamps[row] = None
    elif fault == "no date":
        stamps = [*map(str, stamps[:row]), "some day", *map(str, stamps[row + 1 :])]
    elif fault == "beside the calendar":
        stamps[row] = stamps[row] - pd.Timedelta("61s")
    elif fault == "no name":
        names[row] = None
    return pd.DataFrame({"item_id": names, "timestamp": stamps, "target": pd.Series(values, dtype=object)})


@given(many)
def test_series_are_read_or_their_fault_is_named(data):
    frequency = data.draw(st.sampled_from(FREQUENCIES))
    zone = data.draw(st.sampled_from([None, "UTC", "Europe/Berlin"])) if frequency not in ("15min", "h") else None
    frames = []
    for name in ("plain", "odd", "last"):
        length, offset = data.draw(st.integers(4, 12)), data.draw(st.integers(0, 5))
        stamps = pd.date_range("2023-03-01", periods=length + offset, freq=frequency, tz=zone)[offset:]
        values = data.draw(st.lists(numbers | st.just(float("nan")), min_size=length, max_size=length))
        frame = pd.DataFrame({"item_id": name, "timestamp": stamps, "target": [1.0, *values[1:-1], 2.0]})
        gaps = data.draw(st.sets(st.integers(1, length - 2), max_size=2)) if length > 5 else set()
        frames.append(frame.drop(index=gaps).reset_index(drop=True))
    wrong = data.draw(st.none() | st.sampled_from(sorted(FAULTS)))
    if wrong:
        frames[1] = spoil(frames[1], wrong, data.draw(st.integers(1, len(frames[1]) - 2)))
    table = pd.concat([frame.astype({"target": object}) for frame in frames], ignore_index=True)
    series = attempt(lambda: read_series({"train": table}, frequency=frequency), {FAULTS[wrong]} if wrong else ())
    if series is not None:
        for one, frame in zip(series.series, frames, strict=True):
            stamps = series.stamps(one.first, one.first + len(one))
            read = pd.Series(one.values[:, 0], index=stamps).reindex(frame["timestamp"])
            np.testing.assert_array_equal(read.to_numpy(), frame["target"].to_numpy(dtype=np.float32))


@given(many)
def test_windows_hold_what_the_series_hold(data):
    rows = []
    for name in range(data.draw(st.integers(1, 4))):
        length = data.draw(st.integers(1, 40))
        values = data.draw(st.lists(numbers | st.just(float("nan")), min_size=length, max_size=length))
        values[0] = values[-1] = 1.0
        rows += [{"item_id": f"s{name}", "v": value} for value in values]
    series = read_series({"train": pd.DataFrame(rows)})
    lengths = {"prediction_length": data.draw(st.integers(1, 9)), "context_length": data.draw(st.integers(1, 30))}
    wrong = set()
    if data.draw(st.integers(0, 9)) == 0:
        name = data.draw(st.sampled_from(sorted(lengths)))
        lengths[name] = data.draw(st.sampled_from([0, -3]))
        wrong.add(name)

    def check():
        settings = choose_settings(series, **lengths)
        parts = split_by_time(series, settings.prediction_length, data.draw(st.integers(1, 3)))
        scales = standardizers(series, parts["train"])
        scores = Scores(series, parts["train"], settings.season, scales)
        for split, part in parts.items():
            context, horizon = settings.context_length, settings.prediction_length
            windows = Windows(series, part, context, horizon, Features(1), scales=scales, sees_before=split != "train")
            for index in range(len(windows)):
                which, cut = windows.locate(index)
                window, values = windows[index], series.series[which].values
                past = windows.unscaled([index], window["past_values"][None])[0]
                size = max(1.0, float(np.nanmax(np.abs(values))))
                np.testing.assert_allclose(past, values[max(0, cut - context) : cut], atol=1e-3 * size)
                assert part[which][0] <= cut < part[which][1]
                assert not np.isnan(window["past_values"]).all()
                assert not np.isnan(window["future_values"]).all()
                truth = collate([window])["future_values"]
                scores.add(windows, [index], truth, np.nan_to_num(truth))
        assert all(np.isfinite(value) for value in scores.result().values())

    attempt(check, wrong, contradicting=["there must be a window", "prediction_length must be below the length"])


@cache
def forecaster():
    torch.manual_seed(0)
    config = AttentionRnnTimeSeriesConfig(hidden_size=4, patch_length=3, prediction_length=4, context_length=9)
    return pipeline("time-series-forecasting", AutoModelForTimeSeriesPrediction.from_config(config).eval())


@given(many)
def test_a_forecast_is_finite_or_its_series_is_named(data):
    good = st.lists(numbers | st.none() | st.just(float("nan")), max_size=8).map(lambda values: [*values, 3.0])
    bad = st.sampled_from([[], [None], [float("nan")] * 3, [1.0, float("inf")], [1e39], ["1", "b"], [[1.0, 2.0]], "12"])
    series = data.draw(st.lists(good, min_size=1, max_size=4))
    wrong = set()
    if data.draw(st.booleans()):
        place = data.draw(st.integers(0, len(series) - 1))
        series[place] = data.draw(bad)
        wrong.add(f"series {place}")
    options = {"prediction_length": data.draw(st.integers(1, 12)), "num_parallel_samples": 3}
    if data.draw(st.integers(0, 9)) == 0:
        options["prediction_length"] = data.draw(st.sampled_from([0, -1, 1.5, True]))
        wrong.add("prediction_length")
    found = attempt(lambda: forecaster()(series, batch_size=data.draw(st.integers(1, 5)), **options), wrong)
    if found is not None:
        assert len(found) == len(series)
        for one in found:
            assert np.shape(one["target"]) == (options["prediction_length"],)
            assert np.isfinite(one["target"]).all()
            levels = np.array(list(one["quantiles"].values()))
            assert (np.diff(levels, axis=0) >= 0).all()
