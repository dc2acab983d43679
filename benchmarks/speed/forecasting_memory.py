"""
Memory and time of the windows over many long series: a parquet file with a series in a row is read, split by time and
scaled, and windows of a training are drawn at random. The peak holds the libraries too, about 300 MB.

    python benchmarks/speed/forecasting_memory.py
    python benchmarks/speed/forecasting_memory.py --series 1000 --steps 1000
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from attention_rnn.forecasting import Features, Windows, collate, read_series, split_by_time, standardizers

CONTEXT, HORIZON, SEASON = 336, 96, 24
BATCHES, BATCH_SIZE = 100, 64
SERIES_OF_A_WRITE = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=10_000, help="how many (%(default)s)")
    parser.add_argument("--steps", type=int, default=10_000, help="of each (%(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "series.parquet")
        write(file, options.series, options.steps)
        start = time.perf_counter()
        series = read_series({"train": str(file)})
        told("read", start)
        start = time.perf_counter()
        parts = split_by_time(series, HORIZON)
        features = Features.fit(series, parts["train"], SEASON)
        scales = standardizers(series, parts["train"])
        windows = Windows(series, parts["train"], CONTEXT, HORIZON, features, scales=scales)
        told(f"{len(windows):,} windows", start)
        start = time.perf_counter()
        for indices in np.random.default_rng(0).integers(len(windows), size=(BATCHES, BATCH_SIZE)):
            collate([windows[int(index)] for index in indices])
        told(f"{BATCHES} batches of {BATCH_SIZE}", start)


def write(file: Path, count: int, steps: int) -> None:
    random = np.random.default_rng(0)
    schema = pa.schema([("item_id", pa.string()), ("target", pa.list_(pa.float32()))])
    with pq.ParquetWriter(file, schema) as writer:
        for begin in range(0, count, SERIES_OF_A_WRITE):
            names = [f"series {number}" for number in range(begin, min(begin + SERIES_OF_A_WRITE, count))]
            values = random.normal(size=(len(names), steps)).astype(np.float32)
            writer.write_table(pa.table({"item_id": names, "target": list(values)}, schema=schema))


def told(what: str, start: float) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{what:30} {time.perf_counter() - start:7.1f} s, peak {peak:.2f} GB", flush=True)


if __name__ == "__main__":
    main()
