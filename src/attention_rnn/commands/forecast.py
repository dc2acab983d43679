"""`attention-rnn forecast`: what comes next in the series of a file."""

import argparse
import json
import logging
import shlex
from collections.abc import Sequence
from pathlib import Path

from ..recipes import as_arguments, load_recipe
from . import CommandParser, UsageError
from .flags import SETTLED, check_flags, check_inputs
from .folder import command_of, how_to_begin, settings_of, training_folder
from .train import quiet, settle_overrides

_DESCRIPTION = """Forecast series: train a model on their file, or use one that is trained.

  attention-rnn forecast sales.csv
  attention-rnn forecast newer.csv --model runs/sales

The file is csv, tsv, json, jsonl or parquet, compressed or not, and has a row for each time stamp and a column of
numbers for each series, or a row for each series and time stamp: item_id, timestamp, target. Its end is held out, to
tell how good the forecasts are beside those that need no training. Ctrl-C stops and leaves the best model so far; the
same command goes on. All arguments of examples/run_forecasting.py are understood too, --prediction_length 48 and
--known_columns price among them; with --model those of examples/forecast_file.py."""


def main(arguments: Sequence[str]) -> None:
    parser = CommandParser("forecast", _DESCRIPTION)
    parser.add_argument("file", help="your series")
    parser.add_argument("--model", metavar="FOLDER", help="use this model, a folder or on the Hub, and train none")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="PATH", help="the folder (runs/NAME), or with --model the file"
    )
    parser.add_argument("--recipe", metavar="NAME", help="a file of arguments (forecasting)")
    parser.add_argument("--preset", metavar="NAME", help="the architecture of a paper: deepar, segrnn, lstnet, ...")
    parser.add_argument(
        "--config_overrides", metavar="NAME=VALUE,...", help="fields of the config, over those of recipe and preset"
    )
    parser.add_argument("--seed", type=int, default=42, help="of the first weights, and of paths (%(default)s)")
    parser.add_argument("--again", action="store_true", help="train anew, or forecast anew, what is there already")
    options, others = parser.parse_known_intermixed_args(list(arguments))
    if not Path(options.file).exists():
        raise FileNotFoundError(f"there is no file {options.file}")
    if options.model is None:
        train(parser, options, arguments, others)
    else:
        forecast(parser, options, others)


def train(parser: CommandParser, options: argparse.Namespace, arguments: Sequence[str], others: Sequence[str]) -> None:
    from ..examples import run_forecasting

    check_flags(run_forecasting, others, parser, SETTLED)
    folder = options.output or Path("runs", Path(options.file).name.split(".")[0])
    contents_read = check_inputs(folder, {"the file": [options.file]}, {"--recipe": options.recipe}, others)
    settings = settings_of(arguments, Path(options.file).read_bytes(), contents_read, command="forecast")
    recipe = load_recipe(options.recipe or "forecasting")
    if options.preset is not None:
        recipe.pop("fit_highway", None)  # a part of our own
    if options.preset == "echo-state":
        raise UsageError("echo-state is solved for, not trained: fit_readout in Python, see docs/forecasting.md")
    settle_overrides(recipe, options, run_forecasting)
    words = as_arguments(recipe)
    words += ["--train_file", options.file, "--do_train", "--do_eval", "--do_predict", "--seed", str(options.seed)]
    words += ["--output_dir", str(folder), "--brief", "True", "--report_to", "none"]
    words += ["--command", command_of(settings)]
    with training_folder(folder, settings, options.again) as data_folder:
        if data_folder is None:
            return
        quiet()
        logging.getLogger("attention_rnn.forecasting").setLevel(logging.INFO)  # what it finds and chooses
        run_forecasting.main([*words, *how_to_begin(options.again), *others])
    tell_results(folder)


def tell_results(folder: Path) -> None:
    """The scores of the test beside those that need no training, and what lies in the folder."""
    from ..checkpoints import open_config
    from ..forecasting.metrics import compare, deciding_metric

    scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    names = ("mse", "mae", "crps", "mase", "coverage")
    print(f"\n{'test':16}" + "".join(f"{name:>10}" for name in names))
    for system, of_it in scores["test"].items():
        print(f"{system:16}" + "".join(f"{of_it[name]:10.3f}" if name in of_it else " " * 10 for name in names))
    _, verdict = compare(scores, deciding_metric(open_config(str(folder))))
    print(verdict.replace("**", ""))
    shown = ["forecast.csv", "forecast.png", "predictions.png", "attention.png", "README.md"]
    print(f"look at    {', '.join(str(folder / name) for name in shown if (folder / name).exists())}")
    print(f"use it     attention-rnn forecast NEWER --model {shlex.quote(str(folder))}")


def forecast(parser: CommandParser, options: argparse.Namespace, others: Sequence[str]) -> None:
    for name in ("recipe", "preset", "config_overrides"):
        if getattr(options, name) is not None:
            parser.error(f"--{name} is for a training, and --model needs none")
    output = options.output or Path(f"{Path(options.file).name.split('.')[0]}.forecast.csv")
    from ..examples.forecast_file import main as forecast_file

    quiet()
    words = [options.model, options.file, str(output), "--seed", str(options.seed)]
    try:
        forecast_file([*words, *(["--overwrite"] if options.again else []), *others])
    except KeyboardInterrupt:
        raise KeyboardInterrupt("The same command goes on.") from None
    print(f"the forecasts lie in {output}")
