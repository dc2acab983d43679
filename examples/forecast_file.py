r"""Forecast every series of a file, however many there are.

    python examples/forecast_file.py runs/sales sales.csv forecast.csv
    accelerate launch --num_processes 4 examples/forecast_file.py runs/load meters.parquet forecast.csv \
        --prediction_length 48 --quantile_levels 0.1 0.5 0.9

The input is csv, tsv, json, jsonl (which may be compressed, .gz) or parquet with the columns that the model was trained
on. Rows behind the last value of a series may tell what is known ahead. The output is csv: item_id, timestamp, target
and a column for each quantile, the series in the order of the input.

Where the rows of each series follow each other, the file is read series by series and never held in memory. Finished
parts lie in OUTPUT.parts; when the command was interrupted, the same command continues behind them, also with another
number of processes, and the output is the same as without the interruption.

Needs `pip install 'attention-rnn[forecasting]'`.
"""

import argparse
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import attention_rnn  # noqa: F401, registers the models and the pipeline
from attention_rnn.checkpoints import open_pipeline
from attention_rnn.data import FORMATS
from attention_rnn.parts import contents_of, merge, parts_of, prepare, write_whole

try:
    import pandas as pd
    from accelerate import Accelerator, InitProcessGroupKwargs
    from accelerate.utils import set_seed

    from attention_rnn.forecasting.data import read_series
    from attention_rnn.forecasting.tables import Columns, ScatteredRows, read_by_item, read_chunks
    from attention_rnn.forecasting.windows import FLOAT_FORMAT
except ImportError as error:
    raise ImportError(
        f"forecast_file.py needs more packages ({error}): pip install 'attention-rnn[forecasting]'"
    ) from error

PATIENCE = timedelta(days=30)  # of processes that have finished for those that have not


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a folder that run_forecasting.py left, or a name on the Hub; TimesFM too")
    parser.add_argument("input", help="the file to read")
    parser.add_argument("output", type=Path, help="the csv file to write")
    parser.add_argument("--file_format", choices=[*FORMATS, "parquet"], help="of the input (from its name)")
    parser.add_argument("--column_names", nargs="+", help="columns of a csv or tsv file that has no header")
    parser.add_argument("--timestamp_column", help="column of the time stamps (timestamp, date, ...)")
    parser.add_argument("--item_column", help="column that names the series of a row (item_id, series, ...)")
    parser.add_argument("--target_columns", nargs="+", help="what to forecast (as in the training)")
    parser.add_argument("--frequency", help="step of the time stamps (that of the model)")
    parser.add_argument("--time_zone", help="of time stamps without an offset")
    parser.add_argument("--trust_remote_code", action="store_true", help="run code that comes with the checkpoint")
    parser.add_argument("--prediction_length", type=int, help="how far to look ahead (as the model was trained to)")
    parser.add_argument("--quantile_levels", nargs="*", type=float, help="those to write (all of the model)")
    parser.add_argument("--seed", type=int, default=42, help="of paths beyond the trained horizon (%(default)s)")
    parser.add_argument("--batch_size", type=int, default=256, help="series at once (%(default)s)")
    parser.add_argument("--part_size", type=int, default=512, help="series of a part, which is in memory (%(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="begin anew, whatever an earlier command has left")
    options = parser.parse_args(arguments)
    for name in ("batch_size", "part_size", "prediction_length"):
        if (value := getattr(options, name)) is not None and value < 1:
            parser.error(f"argument --{name}: {value} is below 1")

    if options.output.suffix != ".csv":
        raise ValueError(f"the output is csv and must be named so, got {options.output}")

    on_cpu = not torch.accelerator.is_available()
    accelerator = Accelerator(cpu=on_cpu, kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)])
    forecast = open_pipeline(
        "time-series-forecasting",
        options.model,
        trust_remote_code=options.trust_remote_code,
        device=accelerator.device,
    )
    columns = columns_of(options, forecast)
    # looks at every row before any work is done
    try:
        total, is_scattered = sum(1 for _ in read_items(options, forecast, columns)), False
    except ScatteredRows as error:
        total, is_scattered = sum(1 for _ in read_items(options, forecast, columns, in_memory=True)), True
        if accelerator.is_main_process:
            print(f"{error}: all rows are held in memory")
    if not total:
        raise ValueError(f"there must be at least one row, got none in {options.input}")
    folder = parts_of(options.output)
    if accelerator.is_main_process:
        settings = {name: value for name, value in vars(options).items() if name not in ("overwrite", "output")}
        settings |= {"series": total, **contents_of(options.model, options.input)}
        prepare(options.output, settings, options.overwrite)
    accelerator.wait_for_everyone()

    items = read_items(options, forecast, columns, in_memory=is_scattered)
    with tqdm(total=total, unit=" series", disable=not accelerator.is_main_process) as progress:
        for number, _ in enumerate(range(0, total, options.part_size)):
            part = list(islice(items, options.part_size))
            file = folder / f"{number:08}.csv"
            if number % accelerator.num_processes == accelerator.process_index and not file.exists():
                set_seed(options.seed + number)  # so that a part does not depend on those before it
                write_whole(file, as_csv(forecast_part(forecast, part, options), header=number == 0))
            progress.update(len(part))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        merge(options.output, "*.csv")
    accelerator.end_training()


def as_csv(table: pd.DataFrame, header: bool) -> str:
    return table.to_csv(index=False, header=header, float_format=FLOAT_FORMAT)


def columns_of(options: argparse.Namespace, forecast: Any) -> Columns:
    """What the columns hold, as far as the user says it or the file has those of the training."""
    targets = options.target_columns
    if not targets:
        first = next(read_chunks(options.input, Columns(), options.file_format, options.column_names), None)
        targets = None if first is None else forecast.targets_among(list(first.columns))
    return forecast.columns(options.timestamp_column, options.item_column, targets)


def read_items(
    options: argparse.Namespace, forecast: Any, columns: Columns, in_memory: bool = False
) -> Iterator[tuple[Columns, pd.DataFrame]]:
    """The last rows of each series, and what their columns hold."""
    longest = forecast.context_length + (options.prediction_length or forecast.prediction_length)
    return read_by_item(options.input, columns, longest, options.file_format, options.column_names, in_memory=in_memory)


def forecast_part(forecast: Any, part: list[tuple[Columns, pd.DataFrame]], options: argparse.Namespace) -> pd.DataFrame:
    """The table of these series."""
    frequency = options.frequency or forecast.frequency
    rows = pd.concat([rows for _, rows in part])
    series = read_series({"part": rows}, part[0][0], frequency=frequency, time_zone=options.time_zone)
    return forecast.forecast_series(
        series,
        prediction_length=options.prediction_length,
        quantile_levels=options.quantile_levels,
        batch_size=options.batch_size,
    )


if __name__ == "__main__":
    main()
