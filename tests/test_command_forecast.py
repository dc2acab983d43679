"""The command `attention-rnn forecast`, run within this process."""

import importlib.util

import numpy as np
import pandas as pd
import pytest
from command_line import messages, refused, run  # noqa: F401
from tiny import tiny_model

from attention_rnn import AttentionRnnTimeSeriesConfig
from attention_rnn.inspection import Content
from attention_rnn.progress import StopAtStep
from attention_rnn.run_folder import NEXT, delete_run
from attention_rnn.tasks import is_series

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("attention_rnn.examples") is None, reason="the package is not installed"
)
TINY = ["--config_overrides", "hidden_size=8", "--max_steps", "4", "--warmup_steps", "0"]


@pytest.fixture(scope="module")
def hours(tmp_path_factory):
    stamps = pd.date_range("2024-01-01", periods=24 * 20, freq="h")
    noise = np.random.default_rng(0).normal(scale=0.2, size=len(stamps))
    values = 10 + 3 * np.sin(2 * np.pi * np.arange(len(stamps)) / 24) + noise
    file = tmp_path_factory.mktemp("forecast") / "hours.csv"
    pd.DataFrame({"timestamp": stamps, "load": values}).to_csv(file, index=False)
    return file


def test_a_file_becomes_a_folder_that_forecasts_files(hours, capsys, caplog):
    folder = hours.parent / "run"
    said = run(capsys, "forecast", hours, "-o", folder, *TINY)
    assert "1 series of 480 values of load, one in h from 2024-01-01" in caplog.text
    assert "Chosen by the data, a step being h: prediction_length 24" in caplog.text
    assert "ridge" in said
    assert "beat" in said
    names = {path.name for path in folder.iterdir()}
    assert {"model.safetensors", "README.md", "scores.json", "forecast.csv", "predictions.png"} <= names
    assert "attention-rnn forecast hours.csv" in (folder / "README.md").read_text()

    said = run(capsys, "forecast", hours, "-o", folder, *TINY)
    assert "holds this model already" in said
    assert "holds the training of another command" in refused("forecast", hours, "-o", folder, "--max_steps", "5")

    output = hours.parent / "next.csv"
    run(capsys, "forecast", hours, "--model", folder, "-o", output)
    tables = [pd.read_csv(file) for file in (output, folder / "forecast.csv")]
    np.testing.assert_allclose(tables[0]["target"], tables[1]["target"], rtol=1e-4)
    run(capsys, "predict", folder, hours, "-o", hours.parent / "same.csv")
    assert (hours.parent / "same.csv").read_text() == output.read_text()
    said = run(capsys, "info", folder)
    assert "time-series-forecasting" in said
    assert f"made by    attention-rnn forecast {hours}" in said
    for command in (["evaluate", folder, hours], ["explain", folder, "a"], ["predict", folder]):
        assert f"forecasts series and reads no texts: attention-rnn forecast FILE --model {folder}" in refused(*command)

    (folder / NEXT).mkdir()
    (folder / NEXT / "command.json").write_text("the next one")
    delete_run(folder)
    assert {path.name for path in folder.iterdir()} == {"command.json", NEXT}


def test_a_model_that_forecasts_nothing_is_refused_in_a_line(hours, tmp_path):
    tiny_model().save_pretrained(tmp_path)
    said = refused("forecast", hours, "--model", tmp_path, "-o", tmp_path / "next.csv")
    assert said.endswith("AttentionRnnForConditionalGeneration, which cannot be opened for time-series-forecasting")
    assert len(said) < 250


def test_a_training_that_was_stopped_goes_on_from_there(hours, tmp_path, capsys, monkeypatch):
    step_end, starts = StopAtStep.on_step_end, []
    monkeypatch.setattr(
        StopAtStep, "on_train_begin", lambda self, args, state, *_, **__: starts.append(state.global_step)
    )

    def stop_at_two(self, args, state, *others, **options):
        self.wanted |= state.global_step == 2
        step_end(self, args, state, *others, **options)

    monkeypatch.setattr(StopAtStep, "on_step_end", stop_at_two)
    assert refused("forecast", hours, "-o", tmp_path / "run", *TINY) == "130"
    assert "Stopped at step 2 of 4" in capsys.readouterr().err
    monkeypatch.setattr(StopAtStep, "on_step_end", step_end)
    said = run(capsys, "forecast", hours, "-o", tmp_path / "run", *TINY)
    assert "goes on" in said
    assert starts == [0, 2]


def test_a_preset_takes_the_place_of_the_recipes_model(hours, tmp_path, capsys):
    run(capsys, "forecast", hours, "-o", tmp_path / "run", "--preset", "lstnet", *TINY)
    config = AttentionRnnTimeSeriesConfig.from_pretrained(tmp_path / "run")
    assert (config.patch_length, config.highway_length, config.freeze_highway) == (6, 24, False)
    assert (config.hidden_size, config.attention_type) == (8, "dot")


def test_a_file_that_is_sorted_by_time_is_forecast_too(hours, tmp_path, capsys):
    run(capsys, "forecast", hours, "-o", tmp_path / "run", *TINY)
    load = pd.read_csv(hours)
    series = pd.concat([load.assign(item_id=name, load=load["load"] * scale) for name, scale in (("b", 1), ("a", 2))])
    for name, table in (("by_series", series), ("by_time", series.sort_values("timestamp", kind="stable"))):
        table.to_csv(tmp_path / f"{name}.csv", index=False)
        run(
            capsys, "forecast", tmp_path / f"{name}.csv", "--model", tmp_path / "run", "-o", tmp_path / f"of_{name}.csv"
        )
    assert (tmp_path / "of_by_time.csv").read_text() == (tmp_path / "of_by_series.csv").read_text()


def test_a_missing_price_of_the_future_is_told(hours, tmp_path, capsys, caplog):
    priced = pd.read_csv(hours).assign(price=range(480))
    priced.to_csv(tmp_path / "priced.csv", index=False)
    run(capsys, "forecast", tmp_path / "priced.csv", "-o", tmp_path / "run", "--known_columns", "price", *TINY)
    assert "forecast.csv is not written: series 'series', 2024-01-21 00:00:00: column 'price'" in caplog.text
    assert [record.levelname for record in caplog.records if "not written" in record.getMessage()] == ["WARNING"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.csv"], "there is no file nothing.csv"),
        (["FILE", "--prediction_lenght", "3"], "there is no --prediction_lenght; did you mean --prediction_length?"),
        (["FILE", "--output_dir", "x"], "--output_dir is not for this command: -o names the folder"),
        (["FILE", "--train_file", "x"], "--train_file is not for this command: the file comes first"),
        (["FILE", "--preset", "depar"], "there is no preset 'depar'; did you mean deepar?"),
        (["FILE", "--preset", "echo-state"], "echo-state is solved for, not trained: fit_readout in Python"),
        (["FILE", "--model", "m", "--recipe", "r"], "--recipe is for a training, and --model needs none"),
    ],
)
def test_an_error_is_one_line(hours, arguments, message):
    said = refused("forecast", *[str(hours) if argument == "FILE" else argument for argument in arguments])
    assert message in said
    assert "\n" not in said


def test_a_training_on_texts_sends_series_to_the_forecast(hours):
    assert f"hours.csv holds time stamps and numbers: attention-rnn forecast {hours}" in refused("train", hours)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([("2024-01-31", "3.5"), ("2024-02-29", "")], True),
        ([("31.01.2024 13:00", "-3"), ("31.01.2024 14:00", "4")], True),
        ([("2024-01", 3), ("2024-02", 4)], True),
        ([(pd.Timestamp("2024-01-31"), 3.5)], True),
        ([("31.01.2024", "2024-01-31")], False),  # dates to be written in another form
        ([("2024-01-31", "")], False),
        ([("January 31", "3.5")], False),
        ([("3.5", "2.5")], False),
    ],
)
def test_time_stamps_beside_numbers_are_series(rows, expected):
    assert is_series(Content("f", [dict(zip("ab", row, strict=True)) for row in rows])) is expected


def test_what_says_something_else_than_the_name_of_a_series_is_a_text():
    rows = [{"date": f"2024-01-{day:02}", "stars": "4", "said": f"day {day} was good"} for day in range(1, 31)]
    assert not is_series(Content("reviews", rows))
    assert is_series(Content("shops", [{**row, "said": "bern"} for row in rows]))
