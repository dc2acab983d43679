r"""Train a model that forecasts time series: an attention RNN from scratch, or one to train on.

    python examples/run_forecasting.py --train_file sales.csv --output_dir runs/sales --do_train --do_predict
    python examples/run_forecasting.py --train_file 2022.csv --validation_file 2023.csv --test_file 2024.csv \
        --output_dir runs/load --do_train --do_predict --prediction_length 48 --known_columns temperature --calendar

A table has a row for each time stamp, with a column for each channel to forecast, or a row for each series and time
stamp. Of one file the end is held out: for the test, and before it for the validation that chooses the model. Several
files follow each other in time. How far to look ahead and back is chosen by the data where nothing says it.

--help lists all arguments. They may also stand in a .json or .yaml file that comes first on the command line; what
follows it wins. The output folder receives the model, the scores beside those of forecasts that need no training,
tables of what was forecast at each cut-off of the test and of what comes behind the end of the data, pictures, and a
model card. Needs `pip install 'attention-rnn[forecasting,plot]'`.
"""

import json
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from typing import Any, ClassVar

import torch
from transformers import AutoConfig, AutoModelForTimeSeriesPrediction, PreTrainedModel, set_seed

from attention_rnn import AttentionRnnTimeSeriesConfig, ReliableTrainer
from attention_rnn.arguments import (
    NewModelArguments,
    ScriptDataArguments,
    ScriptTrainingArguments,
    check_choice,
    check_model,
    check_values,
    option,
    parse_config_overrides,
    wanted_splits,
)
from attention_rnn.training import Run, address_of_model, load_split, origin, start_run
from attention_rnn.usage import forecasting_limits, forecasting_usage

try:
    from attention_rnn.forecasting import Features, Windows, collate, split_by_time, standardizers
    from attention_rnn.forecasting.baselines import WindowRidge, context_of_baselines, score_baselines
    from attention_rnn.forecasting.data import SeriesSet, read_series
    from attention_rnn.forecasting.metrics import (
        LOWER_IS_BETTER,
        METRICS,
        ForecastMetrics,
        Scores,
        compare,
        deciding_metric,
    )
    from attention_rnn.forecasting.plots import draw_pictures
    from attention_rnn.forecasting.settings import Settings, choose_settings
    from attention_rnn.forecasting.tables import Columns
    from attention_rnn.forecasting.windows import FLOAT_FORMAT, scales_in_training, write_predictions
    from attention_rnn.pipelines_time_series import TimeSeriesForecastingPipeline
except ImportError as error:
    raise ImportError(
        f"run_forecasting.py needs more packages ({error}): pip install 'attention-rnn[forecasting]'"
    ) from error

logger = logging.getLogger("run_forecasting")

MOST_TRAINED, MOST_VALIDATED = 200_000, 2_000  # windows of a training and of each of its evaluations
# what the data and arguments of their own decide
SETTLED = ("prediction_length", "context_length", "patch_length", "num_channels")


@dataclass
class ModelArguments(NewModelArguments):
    """Which model: go on with `model_name_or_path`, or train an attention RNN from scratch."""

    config_class: ClassVar[Any] = AttentionRnnTimeSeriesConfig

    fit_highway: bool = option(
        False,
        "Add a linear map of the context, solved for by ridge regression; the network learns what it leaves.",
    )


@dataclass
class DataArguments(ScriptDataArguments):
    """What to read, and what to do with it."""

    train_file: str | None = option(
        None, "csv, tsv, json, jsonl or parquet. Text may be compressed (.gz). Without a test file its end is tested."
    )
    validation_file: str | None = option(None, "What follows it in time. Default: the end of train_file.")
    test_file: str | None = option(None, "What follows them in time. Default: the end of train_file.")
    file_format: str | None = option(None, "csv, tsv, json, jsonl or parquet. Default: the extension of each file.")
    column_names: list[str] | None = option(None, "Columns of csv and tsv files that have no header.")
    timestamp_column: str | None = option(None, "Default: timestamp, date, ...; else what looks like one.")
    item_column: str | None = option(None, "Column that names the series of a row. Default: item_id, series, ...")
    target_columns: list[str] | None = option(
        None, "What to forecast, a channel each. Default: target, value, ... beside an item; else all numbers."
    )
    known_columns: list[str] | None = option(None, "Numbers that are known ahead, such as prices or holidays.")
    past_columns: list[str] | None = option(None, "Numbers that are known up to now.")
    static_columns: list[str] | None = option(None, "Numbers that are the same in all rows of a series.")
    category_columns: list[str] | None = option(None, "Words that are the same in all rows of a series.")
    frequency: str | None = option(None, "Step of the time stamps, such as 15min, h, D, MS. Default: what they show.")
    time_zone: str | None = option(None, "Of time stamps without an offset, such as Europe/Berlin.")
    calendar: bool = option(False, "Tell the model the time of the day, the week, the month and the year.")
    prediction_length: int | None = option(None, "Steps to look ahead. Default: by the frequency.")
    context_length: int | None = option(None, "Steps to look back. Default: by the season.")
    patch_length: int | None = option(None, "Steps that the model reads at once. Default: a season.")
    season: int | None = option(None, "Steps after which series resemble themselves. Default: found in the data.")
    num_cutoffs: int = option(5, "Cut-offs of the test, and of the validation, that are taken from the end of a file.")
    cutoff_stride: int | None = option(None, "Steps from one cut-off to the next. Default: prediction_length.")
    num_pictures: int = option(4, "Series of which to draw the forecasts.")
    task: str = option("time-series-forecasting", "The task as the model card tells the Hub.")


@dataclass
class TrainingArguments(ScriptTrainingArguments):
    """The arguments of Trainer with defaults that suit forecasting, and a few of our own.

    Each epoch of a training is evaluated, and the best one by the loss on the validation is kept.
    """

    num_train_epochs: float | None = option(None, "Epochs to train. Default: 8, more of few windows, fewer of many.")
    per_device_train_batch_size: int | None = option(None, "Windows per device and step. Default: up to 64.")
    per_device_eval_batch_size: int = option(256, "Windows per device when evaluating.")
    lr_scheduler_type: str = option("cosine", "How the learning rate goes down.")
    warmup_steps: float = option(50, "Steps in which it goes up.")
    train_sampling_strategy: str = option("random", "Which windows form a batch.")
    label_names: list[str] | None = field(default_factory=lambda: ["future_values"])

    def __post_init__(self):
        self.do_eval |= self.do_train  # there is always something to hold out
        self.settle_length(8.0, 64)
        self.settle_evaluation("loss", LOWER_IS_BETTER)
        super().__post_init__()


def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    run = start_run("run_forecasting.py", argv, ModelArguments, DataArguments, TrainingArguments)
    model_args, data_args, training_args = run.arguments
    check_arguments(model_args, data_args, training_args)

    series = read(data_args)
    settings, features = settle(run, series, data_args)
    parts = split_by_time(series, settings.prediction_length, data_args.num_cutoffs, data_args.cutoff_stride)
    if features is None:
        features = Features.fit(series, parts["train"], settings.season, data_args.calendar)
    set_seed(training_args.seed)
    model = make_model(run, settings, features, model_args)
    scales = standardizers(series, parts["train"])
    in_training = scales_in_training(model.config, series, scales)
    levels = model.config.quantile_levels if model.config.distribution_output != "point" else []

    def cut(split: str, context_length: int = settings.context_length, **options: Any) -> Windows:
        if split != "train":
            options |= {"sees_before": True, "stride": data_args.cutoff_stride or settings.prediction_length}
        return Windows(
            series, parts[split], context_length, settings.prediction_length, features, scales=in_training, **options
        )

    most = {"train": MOST_TRAINED, "validation": MOST_VALIDATED, "test": None}
    windows = {split: cut(split, most=most[split]) for split in wanted_splits(training_args)}
    if "train" in windows:
        training_args.suit_length(len(windows["train"]), least_steps=500, most_steps=20_000)
    metrics = {split: ForecastMetrics(of_split, parts["train"], scales, levels) for split, of_split in windows.items()}
    tables: dict[str, dict[str, dict[str, float]]] = {}
    kept: dict[str, Scores] = {}

    def evaluate(split: str, prefix: str) -> tuple[dict[str, float], dict[str, float]]:
        output = trainer.predict(windows[split], metric_key_prefix=prefix)
        kept[split] = metrics[split].scores(output)
        scores = kept[split].result()
        if trainer.is_world_process_zero():
            tables[split] = {"this model": scores, **baselines(split)}
            if split == "test":
                write_predictions(run.output_dir / "predictions.csv", windows[split], output, levels)
        return output.metrics, scores

    @cache
    def ridge() -> WindowRidge:
        fitted = WindowRidge(settings.context_length, settings.prediction_length)
        with suppress(ValueError):  # a part may have no window; then the ridge says what repeat-last says
            fitted.fit(cut("train", most=MOST_TRAINED), cut("validation", most=MOST_VALIDATED))
        return fitted

    def baselines(split: str) -> dict[str, dict[str, float]]:
        longer = context_of_baselines(settings.context_length, settings.season)
        scores_of = lambda: Scores(series, parts["train"], settings.season, scales)  # noqa: E731
        return score_baselines(cut(split, longer, most=most[split]), scores_of, settings.season, ridge())

    if model_args.fit_highway and run.pretrained is None:
        model.readout.set_highway(torch.from_numpy(ridge().map))

    trainer = ReliableTrainer(
        model=model,
        args=training_args,
        train_dataset=windows.get("train"),
        eval_dataset=windows.get("validation"),
        data_collator=collate,
        compute_metrics=metrics.get("validation"),
    )
    scores = run.train_and_evaluate(trainer, evaluate)

    details = ""
    if trainer.is_world_process_zero() and trainer.has_whole_model:
        details, verdict = compare(tables, deciding_metric(model.config))
        logger.info(f"{details}\n{verdict}")
        (run.output_dir / "scores.json").write_text(json.dumps(tables, indent=1) + "\n", encoding="utf-8")
        forecast_what_comes(run, trainer.model, series)
        split = list(kept)[-1]
        kept[split].by_series().to_csv(run.output_dir / "scores_by_series.csv", index=False)
        pictures = draw_pictures(run.output_dir, trainer.model, windows[split], kept[split], data_args.num_pictures)
        shown = [f"![{caption}]({name})\n\n{caption}." for name, caption in pictures.items()]
        details = "\n\n".join(["### Beside what needs no training", details, verdict, *shown])
    run.finish(
        trainer,
        task=data_args.task,
        usage=forecasting_usage(
            trainer.model, address_of_model(trainer), origin(list(windows)[-1], data_args) or "new.csv"
        ),
        limits=forecasting_limits(trainer.model, features.to_dict()),
        data={split: (origin(split, data_args) or origin("train", data_args), len(w)) for split, w in windows.items()},
        explanations=METRICS,
        details=details,
    )
    return scores


def check_arguments(model_args: ModelArguments, data_args: DataArguments, training_args: TrainingArguments) -> None:
    files = [data_args.train_file, data_args.validation_file, data_args.test_file]
    if any(files) == (data_args.dataset_name is not None):
        raise ValueError("the series must come from files, such as --train_file, or from --dataset_name")
    if training_args.do_train and not (data_args.train_file or data_args.dataset_name):
        raise ValueError("--do_train needs --train_file or --dataset_name")
    least = ("prediction_length", "context_length", "patch_length", "season", "num_cutoffs", "cutoff_stride")
    check_values(data_args, training_args, {**dict.fromkeys(least, 1), "num_pictures": 0})
    if data_args.num_pictures and find_spec("matplotlib") is None:
        raise ImportError("--num_pictures needs matplotlib: pip install 'attention-rnn[plot]', or set it to 0")
    if training_args.metric_for_best_model is not None:
        best = training_args.metric_for_best_model.removeprefix("eval_")
        check_choice("metric_for_best_model", best, ("loss", *METRICS))
    check_model(model_args, training_args)
    if named := set(SETTLED) & set(parse_config_overrides(model_args.config_overrides, model_args.config_class)):
        raise ValueError(f"--config_overrides must leave {', '.join(sorted(named))} to the arguments of those names")


def read(data_args: DataArguments) -> SeriesSet:
    sources = {}
    for split in ("train", "validation", "test"):
        if data_args.dataset_name is None:
            if (file := getattr(data_args, f"{split}_file")) is not None:
                sources[split] = file
        else:
            with suppress(*[ValueError] if sources else []):  # there may be no split but the first
                sources[split] = load_split(split, data_args)
    columns = Columns(
        data_args.timestamp_column,
        data_args.item_column,
        *(getattr(data_args, f"{kind}_columns") or [] for kind in ("target", "known", "past", "static", "category")),
    )
    return read_series(
        sources,
        columns,
        frequency=data_args.frequency,
        time_zone=data_args.time_zone,
        file_format=data_args.file_format,
        column_names=data_args.column_names,
    )


def settle(run: Run, series: SeriesSet, data_args: DataArguments) -> tuple[Settings, Features | None]:
    """How far to look ahead and back, and what else to look at: by the arguments and the data, or by the model."""
    names = ("prediction_length", "context_length", "patch_length", "season")
    given = {name: getattr(data_args, name) for name in names}
    if run.pretrained is None:
        return choose_settings(series, None, **given), None
    config = AutoConfig.from_pretrained(run.pretrained, trust_remote_code=run.model_args.trust_remote_code)
    if not isinstance(getattr(config, "features", None), dict):
        raise ValueError(f"--model_name_or_path must be a model of run_forecasting.py, got {run.pretrained}")
    features = Features(**config.features)
    if features.targets != series.columns.targets:
        raise ValueError(f"the model forecasts {features.targets}, but the data have {series.columns.targets}")
    of_model = [config.prediction_length, config.context_length, config.patch_length, features.season]
    for name, value in zip(names, of_model, strict=True):
        if given[name] not in (None, value):
            raise ValueError(f"--{name} must be that of the model, {value}, got {given[name]}")
    return Settings(*of_model), features


def make_model(run: Run, settings: Settings, features: Features, model_args: ModelArguments) -> PreTrainedModel:
    if run.pretrained is not None:
        return AutoModelForTimeSeriesPrediction.from_pretrained(
            run.pretrained, trust_remote_code=model_args.trust_remote_code, dtype=torch.float32
        )
    config = AttentionRnnTimeSeriesConfig(
        **parse_config_overrides(model_args.config_overrides, model_args.config_class),
        prediction_length=settings.prediction_length,
        context_length=settings.context_length,
        patch_length=settings.patch_length,
        num_channels=len(features.targets),
        num_time_features=features.num_time_features,
        num_past_features=len(features.past_only),
        num_static_real_features=len(features.static),
        num_static_categorical_features=len(features.categories),
        cardinality=features.cardinality or None,
        **({"highway_length": settings.context_length, "freeze_highway": True} if model_args.fit_highway else {}),
    )
    config.features = features.to_dict()
    return AutoModelForTimeSeriesPrediction.from_config(config)


def forecast_what_comes(run: Run, model: PreTrainedModel, series: SeriesSet) -> None:
    """A table of what comes behind the end of the data, where all is known that the model wants to know ahead."""
    forecast = TimeSeriesForecastingPipeline(model=model.eval(), task="time-series-forecasting")
    try:
        table = forecast.forecast_series(series)
    except ValueError as error:
        logger.warning(f"forecast.csv is not written: {error}")
    else:
        table.to_csv(run.output_dir / "forecast.csv", index=False, float_format=FLOAT_FORMAT)


if __name__ == "__main__":
    main()
