"""Reading time series, cutting windows, baselines, metrics and pictures."""

import gzip
import json
import logging
import tracemalloc

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from datasets import Dataset
from utilsforecast import losses

from attention_rnn.forecasting import (
    Features,
    Windows,
    batches,
    collate,
    forecast_table,
    split_by_time,
    standardizers,
    tables,
)
from attention_rnn.forecasting.baselines import WindowRidge, repeat_last, seasonal_mean, seasonal_naive
from attention_rnn.forecasting.calendar import cycles_of, infer_frequency
from attention_rnn.forecasting.data import Series, SeriesSet, read_series
from attention_rnn.forecasting.metrics import Scores, compare
from attention_rnn.forecasting.plots import plot_calibration, plot_forecast_attention, plot_forecasts
from attention_rnn.forecasting.settings import choose_settings, find_season
from attention_rnn.forecasting.tables import Columns, ScatteredRows, read_by_item

NAN = float("nan")
DAYS = pd.date_range("2024-01-01", periods=6, freq="D")
LONG = pd.DataFrame(
    {
        "item_id": ["b"] * 6 + ["a"] * 4,
        "timestamp": [*DAYS, *DAYS[2:]],
        "target": [1.0, 2, NAN, 4, 5, 6, 10, 20, 30, 40],
        "price": np.arange(10.0),
    }
)


def read(frame, **options):
    return read_series({"train": frame}, **options)


def values(series):
    return {one.item_id: one.values[:, 0].tolist() for one in series.series}


def numbered(*series, targets=("value",), frequency=1, start=0):
    """A set of series that are given as arrays."""
    arrays = [np.asarray(one, dtype=np.float32).reshape(len(one), -1) for one in series]
    nothing = np.zeros(0, dtype=np.float32)
    rows = [
        Series(f"s{i}", 0, one, np.zeros((len(one), 0)), np.zeros((len(one), 0)), nothing, {"train": 0})
        for i, one in enumerate(arrays)
    ]
    return SeriesSet(rows, Columns(targets=list(targets)), start, frequency, max(map(len, arrays)))


def whole(series):
    return [(0, len(one)) for one in series.series]


# Reading


def test_a_long_table_becomes_series_on_one_calendar():
    series = read(LONG)
    assert (series.frequency, str(series.start)) == ("D", "2024-01-01 00:00:00")
    assert [(one.item_id, one.first) for one in series.series] == [("b", 0), ("a", 2)]
    np.testing.assert_equal(values(series), {"b": [1, 2, NAN, 4, 5, 6], "a": [10, 20, 30, 40]})
    assert series.columns == Columns("timestamp", "item_id", ["target"])
    assert str(series.stamp(series.series[1], 4)) == "2024-01-07 00:00:00"  # behind the end of all


def test_all_formats_of_a_table_give_the_same_series(tmp_path):
    texts = {"s.csv": LONG.to_csv(index=False), "s.tsv": LONG.to_csv(index=False, sep="\t")}
    texts["s.jsonl"] = LONG.to_json(orient="records", lines=True, date_format="iso")
    texts["s.json"] = LONG.to_json(orient="records", date_format="iso")
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "s.csv.gz").write_bytes(gzip.compress(texts["s.csv"].encode()))
    LONG.to_parquet(tmp_path / "s.parquet")
    sources = [str(tmp_path / name) for name in (*texts, "s.csv.gz", "s.parquet")]
    for source in [*sources, Dataset.from_pandas(LONG)]:
        np.testing.assert_equal(values(read(source)), values(read(LONG)), str(source))


def test_a_row_may_hold_a_whole_series_as_lists(tmp_path):
    rows = [
        {"id": name, "timestamp": group["timestamp"].astype(str).tolist(), "target": group["target"].tolist()}
        for name, group in LONG.fillna(0).groupby("item_id", sort=False)
    ]
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert values(read(str(tmp_path / "s.jsonl"))) == values(read(LONG.fillna(0)))
    assert values(read(Dataset.from_list(rows))) == values(read(LONG.fillna(0)))


def test_a_wide_table_is_one_series_of_several_channels():
    wide = pd.DataFrame({"Date": DAYS.astype(str), "north": range(6), "south": range(6, 12), "note": "x"})
    series = read(wide)
    assert series.columns == Columns("Date", None, ["north", "south"])
    assert series.series[0].values.T.tolist() == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]


def test_the_index_of_a_table_tells_series_and_time_stamps(tmp_path):
    by_both, expected = LONG.set_index(["item_id", "timestamp"]), values(read(LONG))
    for frame in (by_both, by_both.rename_axis([None, None]), LONG.set_index("timestamp"), LONG.set_index("item_id")):
        series = read(frame)
        assert (series.frequency, str(series.start)) == ("D", "2024-01-01 00:00:00")
        np.testing.assert_equal(values(series), expected)
    wide = pd.DataFrame({"bern": range(6), "chur": range(6)}, index=DAYS)
    wide.to_parquet(tmp_path / "wide.parquet")
    for source in (wide, wide.to_period("D"), wide.set_axis(DAYS.astype(str)), tmp_path / "wide.parquet"):
        series = read(source)
        assert (series.frequency, series.columns.targets) == ("D", ["bern", "chur"])
    assert read(wide.reset_index(drop=True)).frequency == 1


@pytest.mark.parametrize("stamp", ["1600-01-01", "2300-01-01", np.datetime64("1600-01-01"), 9 * 10**13])
def test_years_that_nanoseconds_do_not_reach_are_refused(stamp):
    with pytest.raises(ValueError, match="row 0: column 'timestamp' must hold time stamps of the years 1678 to 2261"):
        read(pd.DataFrame({"timestamp": [stamp] * 3, "v": 1.0}))


def test_a_column_is_not_known_ahead_and_forecast_at_once():
    with pytest.raises(ValueError, match="column 'target' must be a target or among known, got it as both"):
        read(LONG, columns=Columns(targets=["target"], known=["target"]))


def test_values_behind_the_last_target_tell_what_is_known_ahead():
    frame = LONG[:6].assign(target=[1, 2, 3, 4, NAN, NAN])
    one = read(frame, columns=Columns(known=["price"])).series[0]
    assert (len(one.values), one.known[:, 0].tolist()) == (4, [0, 1, 2, 3, 4, 5])


def test_missing_time_stamps_become_missing_values_and_are_told(caplog):
    frame = pd.DataFrame({"day": DAYS.delete([2, 3]), "sold": [1, 2, 5, 6]})
    with caplog.at_level(logging.INFO):
        series = read(frame, frequency="D")
    np.testing.assert_equal(values(series), {"series": [1, 2, NAN, NAN, 5, 6]})
    assert "2 time stamps are missing in 1 of 1 series, the first one in 'series' after 2024-01-02" in caplog.text


@pytest.mark.parametrize(
    ("stamps", "frequency"),
    [
        (pd.date_range("2024-01-31", periods=40, freq="ME").delete([4, 9]), "ME"),
        (pd.bdate_range("2024-01-01", periods=60).delete([7, 30]), "B"),
        (pd.date_range("2024-01-01", periods=50, freq="15min").delete([3, 4, 20]), "15min"),
        (pd.date_range("2024-01-03", periods=9, freq="W-WED"), "W-WED"),
        (pd.date_range("2024-01-01", periods=90, freq="D", tz="Europe/Berlin"), "D"),
    ],
)
def test_a_frequency_is_told_in_spite_of_gaps(stamps, frequency):
    assert infer_frequency({"s": stamps}) == frequency


def test_hours_of_a_zone_stay_regular_when_clocks_change():
    stamps = pd.date_range("2024-10-26", periods=60, freq="h", tz="Europe/Berlin")
    local = pd.DataFrame({"time": stamps.tz_localize(None).astype(str), "load": range(60)})
    with_offset = local.assign(time=stamps.astype(str))
    for series in (read(local, time_zone="Europe/Berlin"), read(with_offset), read(local.assign(time=stamps))):
        assert series.frequency == "h"
        assert series.stamps(0, 60).tz_convert("UTC").tolist() == stamps.tz_convert("UTC").tolist()
    assert read(local, time_zone="Europe/Berlin").stamps(27, 28)[0].hour == 2  # the second time
    with pytest.raises(ValueError, match=r"2024-10-27 02:00:00 must occur once.*time zone"):
        read(local)


def test_rows_without_time_stamps_and_whole_numbers_are_steps():
    assert read(pd.DataFrame({"v": [3, 1, 2]})).frequency == 1
    series = read(pd.DataFrame({"year": [1990, 1992, 1996], "v": [3, 1, 2]}))
    assert (series.start, series.frequency) == (1990, 2)
    np.testing.assert_equal(values(series), {"series": [3, 1, NAN, 2]})
    seconds = pd.DataFrame({"time": [1700000000, 1700003600, 1700007200], "v": [1, 2, 3]})
    assert str(read(seconds).start) == "2023-11-14 22:13:20"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"timestamp": [*DAYS[:5], DAYS[4]]}, "series 'b': the time stamp 2024-01-05 00:00:00 must occur once"),
        ({"timestamp": [*DAYS[:4], DAYS[5], DAYS[4]]}, "series 'b': time stamps must ascend, got 2024-01-05"),
        ({"timestamp": [*DAYS[:5], None]}, "row 5: column 'timestamp' must hold a time stamp, got nothing"),
        ({"timestamp": [*DAYS[:5].astype(str), "soon"]}, "row 5: column 'timestamp' must hold time stamps.*'soon'"),
        ({"timestamp": [*DAYS[:5].astype(str), "2024-01-06 00:00Z"]}, "row 5: column .* with an offset from UTC"),
        ({"target": [1, 2, 3, float("inf"), 5, 6]}, "series 'b', 2024-01-04 00:00:00: .*finite.*got inf"),
        ({"target": [1, 2, 3, 1e39, 5, 6]}, "series 'b', 2024-01-04 00:00:00: .*finite.*got inf"),
        ({"target": [NAN] * 6}, "series 'b': there must be a value of .*target.*got none in 6 rows"),
        ({"target": [1, 2, "three", 4, 5, 6]}, "row 2: column 'target' must hold a number or nothing, got 'three'"),
        ({"item_id": ["b"] * 5 + [None]}, "row 5: column 'item_id' must name a series"),
        ({"price": [1, 1, 1, 2, 1, 1]}, "series 'b': the static column 'price' must hold one number"),
    ],
)
def test_what_is_wrong_is_named_with_series_and_time_stamp(change, message):
    frame = LONG[:6].astype({"target": object}).assign(**change)
    columns = Columns("timestamp", "item_id", ["target"], static=["price"] if "price" in change else [])
    with pytest.raises(ValueError, match=message):
        read(frame, columns=columns)


def test_categories_are_words_of_a_series_and_what_was_not_seen_is_zero():
    frame = LONG.assign(kind=["x", None, "x", "x", " x", "x", 7, 7.0, "7", "7"])
    columns = Columns(categories=["kind"])
    series = read(frame, columns=columns)
    assert [one.categories for one in series.series] == [["x"], ["7"]]
    features = Features.fit(series, [(0, 4), (0, 0)])
    assert features.categories == {"kind": ["x"]}  # the second one is not trained on
    assert features.cardinality == [2]
    windows = Windows(series, whole(series), 2, 1, features)
    batch = collate([windows[0], windows[len(windows) - 1]])
    assert batch["static_categorical_features"].tolist() == [[1], [0]]
    assert batch["static_categorical_features"].dtype == torch.long


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        (["x"] * 5 + ["y"] + ["z"] * 4, "series 'b': the column of categories 'kind' must hold one in all rows"),
        (["x"] * 6 + [None] * 4, "series 'a': the column of categories 'kind' must hold one, got nothing"),
    ],
)
def test_a_series_has_one_category(kinds, message):
    with pytest.raises(ValueError, match=message):
        read(LONG.assign(kind=kinds), columns=Columns(categories=["kind"]))


def test_files_name_the_line_of_what_is_wrong(tmp_path):
    file = tmp_path / "s.csv"
    file.write_text("date,load\n2024-01-01,1\n2024-01-02,1;5\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"s\.csv, line 3: column 'load' must hold a number or nothing, got '1;5'"):
        read(str(file))


def test_days_come_before_months_where_they_must():
    frame = pd.DataFrame({"date": ["11/12/2023", "12/12/2023", "13/12/2023"], "v": 1.0})
    assert str(read(frame).start) == "2023-12-11 00:00:00"
    dashes = frame.assign(date=["11-12-2023", "12-12-2023", "13-12-2023"])
    assert str(read(dashes).start) == "2023-12-11 00:00:00"  # no offset from UTC


def test_a_file_is_recognised_by_more_than_its_first_row(tmp_path):
    days = pd.date_range("2021-01-01", periods=20)
    frame = pd.DataFrame({"date": days.strftime("%d.%m.%Y"), "visits": range(20), "sales": [None, *range(19)]})
    frame.to_csv(tmp_path / "days.csv", index=False)
    series = read(str(tmp_path / "days.csv"))
    assert (series.start, series.length) == (days[0], 20)
    assert series.columns.targets == ["visits", "sales"]


def test_a_day_stands_before_points():
    frame = pd.DataFrame({"date": ["01.01.2021", "01.02.2021", "01.03.2021", "01.04.2021"], "v": 1.0})
    assert read(frame).frequency == "MS"


@pytest.mark.parametrize("mark", ["/", "-"])
@pytest.mark.parametrize(
    ("stamps", "order"),
    [
        (pd.date_range("2019-01-01", periods=60, freq="MS"), "%d{0}%m{0}%Y"),  # not days of January
        (pd.date_range("2019-01-01", periods=60, freq="MS"), "%m{0}%d{0}%Y"),
        (pd.date_range("2019-02-01", periods=72, freq="h"), "%d{0}%m{0}%Y %H:%M"),
        (pd.date_range("2019-01-01", periods=4, freq="YS"), "%d{0}%m{0}%Y"),
    ],
)
def test_dates_that_can_be_read_both_ways_are_read_evenly(stamps, order, mark):
    frame = pd.DataFrame({"date": stamps.strftime(order.format(mark)), "v": 1.0})
    series = read(frame)
    assert (series.start, series.frequency) == (stamps[0], stamps.freqstr)


def test_dates_that_are_even_both_ways_are_refused():
    frame = pd.DataFrame({"date": pd.date_range("2019-01-01", periods=12).strftime("%d/%m/%Y"), "v": 1.0})
    with pytest.raises(ValueError, match=r"column 'date': dates such as 01/01/2019 .* Write them as 2024-01-31"):
        read(frame)


def test_a_later_row_tells_where_the_day_stands_in_all(monkeypatch, tmp_path):
    monkeypatch.setattr(tables, "ROWS_OF_A_CHUNK", 5)
    days = pd.date_range("2019-02-01", periods=20)
    pd.DataFrame({"date": days.strftime("%d/%m/%Y"), "v": range(20)}).to_csv(tmp_path / "s.csv", index=False)
    assert read(str(tmp_path / "s.csv")).stamps(0, 20).equals(days)


@pytest.mark.parametrize(
    ("item_ids", "stamps", "frequency", "message"),
    [
        (["a"] * 9, pd.date_range("2024-01-01", periods=9), "h", "series 'a': its time stamps are one in D, .* in h"),
        (["a"] * 9, pd.date_range("2024-01-01", periods=9, freq="MS"), "D", "series 'a': .* one in MS, .* in D"),
        (
            ["a"] * 40 + ["b"] * 9,
            [*pd.date_range("2024-01-01", periods=40, freq="h"), *pd.date_range("2024-01-01", periods=9)],
            None,
            "series 'b': its time stamps are one in D, .* in h",
        ),
    ],
)
def test_series_of_another_frequency_are_refused(item_ids, stamps, frequency, message):
    frame = pd.DataFrame({"item_id": item_ids, "timestamp": stamps, "v": 1.0})
    with pytest.raises(ValueError, match=message):
        read(frame, frequency=frequency)


def test_many_missing_time_stamps_are_a_warning(caplog):
    some = pd.date_range("2024-01-01", periods=30)[[0, 1, 9, 10, 28, 29]]
    assert len(read(pd.DataFrame({"date": some, "v": 1.0}), frequency="D").series[0]) == 30
    assert "24 time stamps are missing" in caplog.text


def test_semicolons_leave_commas_to_numbers(tmp_path):
    file = tmp_path / "s.csv"
    file.write_text("date;load;wind\n2024-01-01;1,5;2\n2024-01-02;;-3,25\n2024-01-03;7;1.5\n", encoding="utf-8")
    series = read(str(file))
    assert series.columns.targets == ["load", "wind"]
    np.testing.assert_array_equal(series.series[0].values, [[1.5, 2], [np.nan, -3.25], [7, 1.5]])


def test_without_a_column_of_numbers_is_said_what_there_is():
    frame = pd.DataFrame({"date": ["2024-01-01"] * 3, "price": ["$1.5"] * 3, "note": None})
    with pytest.raises(
        ValueError, match=r"left for the target, got '2024-01-01' in 'date', '\$1.5' in 'price', nothing"
    ):
        read(frame)


@pytest.mark.parametrize(
    ("stamps", "message"),
    [
        (["2024-01-01", "2024-01-02"], "its frequency cannot be told from 2 time stamps"),
        (["2024-01-01", "2024-01-02", "2024-01-02 07:00", "2024-01-09"], "its frequency cannot be told"),
    ],
)
def test_a_frequency_that_cannot_be_told_is_an_error(stamps, message):
    frame = pd.DataFrame({"date": stamps, "v": 1.0})
    with pytest.raises(ValueError, match=message):
        read(frame)
    with pytest.raises(ValueError, match=r"frequency must be an alias of pandas.*'often'"):
        read(frame, frequency="often")


def test_stamps_beside_the_calendar_are_an_error():
    frame = pd.DataFrame({"date": ["2024-01-01", "2024-01-02", "2024-01-03 06:00"], "v": 1.0})
    with pytest.raises(ValueError, match="2024-01-03 06:00:00 is not on the calendar"):
        read(frame, frequency="D")


def test_no_row_is_an_error():
    with pytest.raises(ValueError, match="there must be at least one row, got none in a DataFrame"):
        read(LONG[:0])


def test_series_come_one_by_one_and_cut_to_their_ends(tmp_path):
    LONG.to_csv(tmp_path / "s.csv", index=False)
    found = list(read_by_item(str(tmp_path / "s.csv"), Columns(), longest=3))
    assert [rows["target"].tolist()[-2:] for _, rows in found] == [["5.0", "6.0"], ["30.0", "40.0"]]
    mixed = pd.concat([LONG, LONG[:1]])
    with pytest.raises(ScatteredRows, match="row 0: the rows of series 'b' must follow each other"):
        list(read_by_item(mixed, Columns(), longest=3))
    by_time = LONG.sort_values("timestamp", kind="stable")
    found = list(read_by_item(by_time, Columns(), longest=3, in_memory=True))
    assert [rows["target"].tolist()[-2:] for _, rows in found] == [[5, 6], [30, 40]]


def test_a_time_zone_that_there_is_not_is_an_error():
    with pytest.raises(ValueError, match=r"time_zone must be the name of a zone such as .*, got 'Mars/City'"):
        read(LONG, time_zone="Mars/City")


# Splits, features and windows


def test_one_table_is_split_by_time_and_several_follow_each_other():
    series = numbered(np.arange(100.0), np.arange(12.0))
    parts = split_by_time(series, prediction_length=4, num_cutoffs=3)
    assert (parts["train"][0], parts["validation"][0], parts["test"][0]) == ((0, 76), (76, 88), (88, 100))
    assert parts["test"][1] == (0, 12)  # all that there is
    frames = {"train": LONG[:3], "validation": LONG[3:4], "test": LONG[4:6]}
    parts = split_by_time(read_series(frames, frequency="D"), prediction_length=1)
    assert [part[0] for part in parts.values()] == [(0, 3), (3, 4), (4, 6)]


def test_scales_are_those_of_the_training_part_alone():
    rows = np.concatenate([np.tile([1.0, 3.0], 10), np.full(20, 1e6)])
    loc, scale = standardizers(numbered(rows), [(0, 20)])
    assert loc.tolist() == [[2.0]]
    assert scale.tolist() == [[1.0]]


def test_windows_of_a_training_lie_in_it_and_those_of_a_test_see_what_was_before():
    series = numbered(np.arange(20.0))
    train = Windows(series, [(0, 12)], 5, 3, Features(1))
    assert [train.locate(i)[1] for i in range(len(train))] == [5, 6, 7, 8, 9]
    assert train[4]["future_values"][:, 0].tolist() == [9, 10, 11]  # the last of the part, and none behind it
    test = Windows(series, [(12, 20)], 5, 3, Features(1), sees_before=True, stride=2)
    assert [test.locate(i)[1] for i in range(len(test))] == [13, 15, 17]
    assert test[0]["past_values"][:, 0].tolist() == [8, 9, 10, 11, 12]


def test_short_series_are_padded_where_nothing_is_known():
    series = numbered(np.arange(4.0), np.arange(20.0))
    windows = Windows(series, whole(series), 6, 3, Features(1))
    batch = collate([windows[0], windows[len(windows) - 1]])
    assert batch["past_values"].shape == (2, 6)
    assert batch["past_values"][0].isnan().tolist() == [True] * 5 + [False]
    np.testing.assert_equal(batch["future_values"].numpy(), [[1, 2, 3], [17, 18, 19]])


def test_windows_without_any_value_are_left_out():
    series = numbered([1.0, 2, NAN, NAN, NAN, NAN, 7, 8, 9])
    cuts = Windows(series, [(0, 9)], 2, 2, Features(1), sees_before=True).cuts[0]
    assert list(cuts) == [1, 7]


def test_a_stride_that_is_chosen_sees_every_phase_of_the_season():
    windows = Windows(numbered(np.arange(1000.0)), [(0, 1000)], 24, 6, Features(1, season=24), most=170)
    assert len(windows) <= 170
    assert {windows.locate(i)[1] % 24 for i in range(len(windows))} == set(range(24))


def test_windows_of_many_series_take_no_memory_beside_the_series():
    series = numbered(*np.ones((300, 2000), dtype=np.float32))
    tracemalloc.start()
    windows = Windows(series, whole(series), 336, 96, Features(1))
    for index in (0, len(windows) // 2, len(windows) - 1):
        collate([windows[index]])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(windows) == 300 * (2000 - 336 - 96 + 1)
    assert peak < 2**20  # all windows together would take 800 MB


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_long_lists_are_read_few_at_a_time(tmp_path, ending, monkeypatch):
    monkeypatch.setattr(tables, "ROWS_OF_A_CHUNK", 100)
    monkeypatch.setattr(tables, "SERIES_OF_A_CHUNK", 8)
    frame = pd.DataFrame({"item_id": [f"s{i}" for i in range(20)], "target": [[float(i)] * 40 for i in range(20)]})
    file = tmp_path / f"s.{ending}"
    frame.to_parquet(file) if ending == "parquet" else frame.to_json(file, orient="records", lines=True)
    chunks = list(tables.read_chunks(str(file), Columns()))
    assert max(map(len, chunks)) <= 120
    assert sum(map(len, chunks)) == 800
    assert [one.values.mean() for one in read_series({"train": str(file)}).series] == list(range(20))


def test_calendar_features_follow_the_clock_of_the_zone():
    frame = pd.DataFrame({"t": pd.date_range("2024-03-30", periods=48, freq="h", tz="Europe/Berlin"), "v": range(48)})
    series = read(frame)
    features = Features.fit(series, whole(series), calendar=True)
    assert features.calendar == ["day", "week", "month", "year"]
    found = features.time_features(series, series.series[0], 24, 48, range(24, 48))
    assert found.shape == (24, 8)
    np.testing.assert_allclose(found[3, 0], np.sin(2 * np.pi * 4 / 24), rtol=1e-5)  # 2 o'clock is left out
    assert cycles_of("MS") == ["year"]
    assert cycles_of(1) == []


def test_covariates_are_scaled_by_the_training_and_wanted_up_to_the_end():
    series = read(LONG[:6], columns=Columns("timestamp", "item_id", ["target"], known=["price"], past_only=["price"]))
    features = Features.fit(series, [(0, 3)])
    assert features.known["price"] == (1.0, pytest.approx(np.std([0, 1, 2])))
    window = Windows(series, [(0, 6)], 3, 2, features, sees_before=True)[2]
    np.testing.assert_allclose(window["future_time_features"][:, 0] * features.known["price"][1] + 1, [3, 4])
    assert window["past_only_features"].shape == (3, 1)
    with pytest.raises(ValueError, match="series 'b', 2024-01-07 00:00:00: column 'price', which is known ahead"):
        Windows(series, [(0, 6)], 3, 2, features, beyond=True)[0]


def test_a_gap_in_what_is_known_ahead_is_told_and_hides_nothing(caplog):
    frame = LONG[:6].assign(price=[0, 1, NAN, 3, 4, 5])
    series = read(frame, columns=Columns("timestamp", "item_id", ["target"], known=["price"]))
    features = Features.fit(series, [(0, 6)])
    assert "Column 'price' lacks 1 values, for which its mean stands." in caplog.text
    window = Windows(series, [(0, 6)], 2, 2, features)[0]  # from the first to the fourth day
    loc, scale = features.known["price"]
    np.testing.assert_allclose(window["future_time_features"][:, 0] * scale + loc, [loc, 3], rtol=1e-6)


def test_what_is_known_ahead_must_reach_as_far_as_is_asked_for():
    series = read(LONG[:6], columns=Columns("timestamp", "item_id", ["target"], known=["price"]))
    series.series[0].known = np.arange(8, dtype=np.float32)[:, None]
    features = Features.fit(series, [(0, 6)])
    assert Windows(series, [(0, 6)], 3, 4, features, beyond=True, horizon=2)[0]["future_time_features"].shape == (4, 1)
    with pytest.raises(ValueError, match="2024-01-09 00:00:00: column 'price', which is known ahead"):
        Windows(series, [(0, 6)], 3, 4, features, beyond=True, horizon=3)[0]


@pytest.mark.parametrize("name", ["", "index", "Unnamed: 0"])
def test_the_numbers_that_pandas_gives_to_rows_are_no_channel(name):
    frame = pd.DataFrame({name: range(6), "timestamp": DAYS, "load": [3.0, 1, 4, 1, 5, 9]})
    assert read(frame).columns.targets == ["load"]
    frame[name] = [3, 1, 4, 1, 5, 9]
    assert read(frame).columns.targets == [name, "load"]


def test_the_only_column_of_words_tells_series_where_stamps_occur_again():
    frame = LONG.rename(columns={"item_id": "filiale"})[["filiale", "timestamp", "target"]]
    assert values(read(frame)).keys() == {"b", "a"}
    frame["note"] = "fair"
    with pytest.raises(ValueError, match="name the column that tells which: --item_column NAME"):
        read(frame)


def test_a_series_may_be_called_na(tmp_path):
    LONG.replace({"item_id": {"b": "NA"}}).to_csv(tmp_path / "s.csv", index=False)
    assert [one.item_id for one in read(str(tmp_path / "s.csv")).series] == ["NA", "a"]


@pytest.mark.parametrize(
    ("stamps", "start", "frequency"),
    [
        ([20240129, 20240130, 20240131], "2024-01-29", "D"),
        ([202311, 202312, 202401], "2023-11-01", "MS"),
        (["202311", "202312", "202401"], "2023-11-01", "MS"),
        (pd.array(["2024-01-29", "2024-01-30", "2024-01-31"], dtype="string[pyarrow]"), "2024-01-29", "D"),
        (pd.Series(["2024-01-29", "2024-01-30"], dtype=pd.ArrowDtype(pa.string())), "2024-01-29", None),
    ],
)
def test_dates_are_read_as_pandas_leaves_them(stamps, start, frequency):
    series = read(pd.DataFrame({"date": stamps, "v": range(len(stamps))}), frequency=None if frequency else "D")
    assert str(series.start)[:10] == start
    assert frequency in (None, series.frequency)


def test_tables_of_forecasts_are_in_the_units_of_the_series():
    series = read(LONG)
    scales = standardizers(series, whole(series))
    windows = Windows(series, whole(series), 3, 2, Features("D"), sees_before=True, scales=scales, stride=9)
    truth = np.stack([windows[i]["future_values"][:, 0] for i in range(2)])
    table = forecast_table(windows, range(2), truth, np.stack([truth - 1, truth], -1), [0.1, 0.5], truth)
    assert table.columns.tolist() == ["item_id", "cutoff", "timestamp", "target", "0.1", "0.5", "truth"]
    np.testing.assert_allclose(table["truth"], [5, 6, 30, 40], rtol=1e-6)
    np.testing.assert_allclose(table["target"] - table["0.1"], scales[1][[0, 0, 1, 1], 0], rtol=1e-5)
    assert table["timestamp"].astype(str).tolist()[:2] == ["2024-01-05", "2024-01-06"]


# Settings


def test_a_season_is_found_and_a_random_walk_has_none():
    noise = np.random.default_rng(0).normal(size=2000)
    day = np.sin(2 * np.pi * np.arange(2000) / 24)
    hours = {"frequency": "h", "start": pd.Timestamp("2024-01-01")}
    assert find_season(numbered(day + 0.3 * noise, **hours), [(0, 2000)]) == 24
    assert find_season(numbered(np.cumsum(noise), **hours), [(0, 2000)]) == 1
    assert find_season(numbered(noise, **hours), [(0, 2000)]) == 1
    assert find_season(numbered(np.arange(2000.0), **hours), [(0, 2000)]) == 1
    assert find_season(numbered(day + 0.3 * noise + 0.5 * np.arange(2000), **hours), [(0, 2000)]) == 24
    assert find_season(numbered(np.tile(noise[:7], 40)), [(0, 280)]) == 7  # steps that are numbered


def test_a_horizon_that_is_longer_than_the_series_is_refused():
    with pytest.raises(ValueError, match=r"prediction_length must be below .* 60, and best at most .* 12, .* got 60"):
        choose_settings(numbered(range(60)), prediction_length=60)


def test_settings_suit_the_frequency_and_what_is_given_stays(caplog):
    day = np.sin(2 * np.pi * np.arange(2000) / 24)
    series = numbered(day, frequency="h", start=pd.Timestamp("2024-01-01"))
    with caplog.at_level(logging.INFO):
        settings = choose_settings(series)
    assert vars(settings) == {"prediction_length": 24, "context_length": 336, "patch_length": 24, "season": 24}
    assert "a step being h: prediction_length 24" in caplog.text
    assert choose_settings(series, prediction_length=7, patch_length=4).context_length % 4 == 0
    changed = np.concatenate([day[:1200], np.random.default_rng(0).normal(size=800)])  # the test has no say
    assert choose_settings(numbered(changed, frequency="h", start=series.start)) == settings
    months = numbered(np.arange(40.0), frequency="MS", start=pd.Timestamp("2020-01-01"))
    assert choose_settings(months).prediction_length == 8  # of 12 a fifth of the series is left
    assert choose_settings(months, season=12).patch_length == 6  # of 12 values too many
    with pytest.raises(ValueError, match="season must be at least 1, got 0"):
        choose_settings(series, season=0)


# Baselines


def test_the_baselines_by_hand():
    past = np.array([1.0, 2, 3, 4, 5, NAN])[None, :, None]
    assert repeat_last(past, 2)[0, :, 0].tolist() == [5, 5]
    assert seasonal_naive(past, 5, 3)[0, :, 0].tolist() == [4, 5, 3, 4, 5]
    assert seasonal_mean(past, 4, 3)[0, :, 0].tolist() == [2.5, 3.5, 3, 2.5]
    assert seasonal_naive(past[:, :2], 3, 3)[0, :, 0].tolist() == [2, 1, 2]  # a phase that was never seen
    assert np.isnan(repeat_last(np.full((1, 3, 1), NAN), 2)).all()


def test_the_ridge_finds_a_linear_rule_and_scale_changes_nothing():
    steps = np.arange(600)
    series = numbered(
        np.sin(0.3 * steps) + np.sin(0.7 * steps + 1)
    )  # each value is a sum of multiples of the last four
    windows = Windows(series, whole(series), 8, 2, Features(1))
    ridge = WindowRidge(8, 2).fit(windows, windows)
    past = np.stack([windows[i]["past_values"] for i in range(100, 110)])
    future = np.stack([windows[i]["future_values"] for i in range(100, 110)])
    error = np.abs(ridge(past, 2) - future).mean()
    assert error < 0.02 * np.abs(repeat_last(past, 2) - future).mean()
    np.testing.assert_allclose(ridge(past * 1000 + 7, 2), ridge(past, 2) * 1000 + 7, rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(past[:, -8:, 0] @ ridge.map, ridge(past, 2)[..., 0], atol=1e-5)


# Metrics


def test_the_metrics_are_those_of_utilsforecast():
    rng = np.random.default_rng(0)
    series = numbered(*np.cumsum(rng.normal(size=(3, 60)), axis=1) + 20)
    train, levels, season = [(0, 50)] * 3, [0.1, 0.5, 0.9], 2
    scales = standardizers(series, train)
    windows = Windows(series, [(50, 60)] * 3, 20, 10, Features(1, season), sees_before=True, scales=scales)
    truth = np.stack([windows[i]["future_values"][:, 0] for i in range(3)])
    quantiles = np.sort(truth[..., None] + rng.normal(size=(3, 10, 3)), axis=-1)
    scores = Scores(series, train, season, scales, levels)
    scores.add(windows, range(3), truth, quantiles[..., 1], quantiles)
    found = scores.result()
    frame = forecast_table(windows, range(3), quantiles[..., 1], quantiles, levels, truth)
    frame = frame.rename(columns={"item_id": "unique_id", "timestamp": "ds"})
    history = pd.DataFrame(
        {
            "unique_id": np.repeat(["s0", "s1", "s2"], 50),
            "ds": np.tile(np.arange(50), 3),
            "truth": np.concatenate([s.values[:50, 0] for s in series.series]),
        }
    )
    options = {"models": ["target"], "target_col": "truth"}
    mase = losses.mase(frame, seasonality=season, train_df=history, **options)
    assert found["mase"] == pytest.approx(mase["target"].mean())
    assert found["smape"] == pytest.approx(200 * losses.smape(frame, **options)["target"].mean())
    loss = [
        losses.quantile_loss(frame, models={"q": f"{level}"}, q=level, target_col="truth")["q"].mean()
        for level in levels
    ]
    size = frame["truth"].abs().mean()
    assert found["weighted_quantile_loss"] == pytest.approx(2 * np.mean(loss) / size)
    inside = losses.coverage(
        frame.rename(columns={"0.1": "q-lo-80", "0.9": "q-hi-80"}), models=["q"], level=80, target_col="truth"
    )
    assert found["coverage"] == pytest.approx(100 * inside["q"].mean())
    assert found["mse"] == pytest.approx(((truth - quantiles[..., 1]) ** 2).mean(), rel=1e-5)
    assert found["mae"] == pytest.approx(np.abs(truth - quantiles[..., 1]).mean(), rel=1e-5)


def test_what_is_missing_is_not_scored_and_the_worst_series_come_first():
    series = numbered([1.0, 2, 3, 4, 5, 6], [1.0, 2, 3, 4, 5, NAN])
    train = [(0, 4), (0, 4)]
    windows = Windows(series, [(4, 6)] * 2, 4, 2, Features(1), sees_before=True)
    scores = Scores(series, train, 1, standardizers(series, train), [])
    truth = np.array([[5, 6], [5, NAN]])
    scores.add(windows, range(2), truth, np.array([[5, 6], [8, 100]]))
    assert scores.result()["mase"] == pytest.approx(1.0)  # (0 + 0 + 3) / 3
    assert scores.by_series()["item_id"].tolist() == ["s1", "s0"]
    assert "coverage" not in scores.result()


def test_metrics_do_not_depend_on_the_batches():
    series = numbered(np.sin(np.arange(80.0)), np.cos(np.arange(80.0)))
    windows = Windows(series, whole(series), 8, 4, Features(1))
    scales = standardizers(series, whole(series))
    found = []
    for size in (1, 7, 500):
        scores = Scores(series, whole(series), 1, scales, [0.5])
        for indices, batch in batches(windows, size):
            mean = repeat_last(batch["past_values"].numpy()[..., None], 4)
            scores.add(windows, indices, batch["future_values"], mean, mean)
        found.append(scores.result())
    assert found[0] == pytest.approx(found[1])
    assert found[0] == pytest.approx(found[2])


def test_a_model_that_does_not_beat_the_best_baseline_is_told_so():
    tables = {"test": {"this model": {"mase": 1.1}, "repeat-last": {"mase": 1.4}, "ridge": {"mase": 1.0}}}
    table, verdict = compare(tables, "mase")
    assert "**The model does not beat ridge**" in verdict
    assert "| test, this model | 1.100 |" in table
    tables["test"]["this model"]["mase"] = 0.9
    assert "The model beats what needs no training: its mase on the test is 0.900" in compare(tables, "mase")[1]


def test_a_score_that_looks_the_same_is_no_win_and_quantiles_are_told():
    mine, ridge = {"mase": 0.9001, "crps": 0.5, "coverage": 80.0}, {"mase": 0.9004, "crps": 0.7}
    verdict = compare({"test": {"this model": mine, "ridge": ridge, "repeat-last": {"mase": 2, "crps": 0.6}}}, "mase")[
        1
    ]
    assert "**The model does not beat ridge**" in verdict
    assert (
        "its mase on the test is 0.900, that of ridge 0.900, and its crps 0.500, that of repeat-last 0.600" in verdict
    )


def test_quantiles_that_are_worse_than_a_number_are_told():
    mine, ridge = {"mase": 0.8, "crps": 0.7, "coverage": 100.0}, {"mase": 0.9, "crps": 0.6}
    verdict = compare({"test": {"this model": mine, "ridge": ridge}}, "mase")[1]
    assert verdict.endswith("that of ridge 0.600, so that its quantiles say less than a single number.")


def test_a_model_that_wins_on_the_test_alone_is_told_so():
    tables = {
        "validation": {"this model": {"mae": 1.1}, "repeat-last": {"mae": 1.0}},
        "test": {"this model": {"mae": 0.9}, "repeat-last": {"mae": 1.0}},
    }
    verdict = compare(tables, "mase")[1]
    assert "on the test alone, which may be chance: its mae on the test is 0.900, that of repeat-last 1.000" in verdict
    assert "**its mae on the validation is 1.100, that of repeat-last 1.000**" in verdict


# Pictures


def test_pictures_show_the_forecast_its_bands_and_where_it_looked():
    panel = {
        "title": "bern, $",
        "name": "sales, $",
        "past_stamps": DAYS,
        "past": np.arange(6),
        "stamps": pd.date_range("2024-01-07", periods=2),
        "mean": np.array([6, 7]),
        "quantiles": np.array([[5, 5.5, 6, 6.5, 7]] * 2),
        "levels": [0.1, 0.25, 0.5, 0.75, 0.9],
        "truth": np.array([6, NAN]),
    }
    figure = plot_forecasts([panel, panel])
    assert len(figure.axes) == 2
    assert len(figure.axes[0].collections) == 2  # two bands
    assert figure.axes[0].get_ylabel() == "sales, $"
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["80 %", "50 %", "what came", "forecast"]
    weights = torch.softmax(torch.randn(2, 3), dim=-1).numpy()
    figure = plot_forecast_attention(weights, panel["stamps"], DAYS[1:], patch_length=2)
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["2024-01-02", "2024-01-03", "2024-01-05"]
    assert plot_calibration({0.1: 0.2, 0.9: 0.8}).axes[0].lines[1].get_ydata().tolist() == [0.2, 0.8]
    with pytest.raises(ValueError, match=r"weights must have the axes \(steps, past patches\)"):
        plot_forecast_attention(weights[None], DAYS, DAYS, 2)
