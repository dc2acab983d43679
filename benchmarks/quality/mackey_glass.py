"""Free runs of an echo state network on the Mackey-Glass equation, whose series is made by formula.

    python benchmarks/quality/mackey_glass.py

The equation (Mackey and Glass, 1977), dx/dt = 0.2 x(t - tau) / (1 + x(t - tau)^10) - 0.1 x(t), is chaotic for both tau.
The preset `echo-state` reads 3,000 values and is solved by `fit_readout`, with a penalty chosen on another seed. From
each of 50 later points it then runs freely, on its own forecasts. Scored as by Jaeger and Haas (2004,
https://doi.org/10.1126/science.1091277): the root of the mean squared error after 84 steps, divided by the deviation of
the series. A last run is of 2,000 steps, to see whether it stays where the series is.
"""

import os
import time
from importlib.metadata import version
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import torch
from report import table, write_report
from run import LIBRARIES, commit, cpu_name
from torch import Tensor

from attention_rnn import AttentionRnnForTimeSeriesPrediction, AttentionRnnTimeSeriesConfig, fit_readout

RESULTS = Path(__file__).resolve().parent / "results" / "mackey_glass.md"
UNITS, TAUS, SEEDS = (300, 1000), (17, 30), (1, 2, 3)
GOALS = {(1000, 17): 0.008}
WASHOUT, TRAINED, HORIZON, LONG_RUN, STARTS = 500, 3000, 84, 2000, 50
RIDGE = 1e-8  # chosen with the seed 0: with 1e-10 free runs of 1,000 units leave the series, with 1e-7 they are worse
EDGES = ("lowest", "highest")
STEPS = 10  # of the integration, in a unit of time


def mackey_glass(length: int, tau: int) -> Tensor:
    """The series, a value for each unit of time, by Euler's method as Jaeger and Haas make it; tanh(x - 1)."""
    delay, begin = tau * STEPS, 1000
    x = np.full(delay + (begin + length) * STEPS, 1.2)
    for t in range(delay, len(x) - 1):
        x[t + 1] = x[t] + (0.2 * x[t - delay] / (1 + x[t - delay] ** 10) - 0.1 * x[t]) / STEPS
    return torch.from_numpy(np.tanh(x[delay + begin * STEPS :: STEPS] - 1))


def measure(units: int, tau: int, seed: int) -> dict[str, float]:
    """The error after `HORIZON` steps, between which values a long run and the series lie, and the CPU seconds."""
    start = time.process_time()
    torch.manual_seed(seed)
    known = WASHOUT + TRAINED
    values = mackey_glass(known + STARTS * HORIZON + WASHOUT + HORIZON, tau)
    config = AttentionRnnTimeSeriesConfig.from_preset(
        "echo-state", hidden_size=units, prediction_length=TRAINED, scaling=None
    )
    model = AttentionRnnForTimeSeriesPrediction(config).double()
    fit_readout(model, [{"past_values": values[None, :WASHOUT], "future_values": values[None, WASHOUT:known]}], RIDGE)

    windows = torch.stack([values[known + HORIZON * start :][: WASHOUT + HORIZON] for start in range(STARTS)])
    runs = model.generate(windows[:, :WASHOUT], prediction_length=HORIZON).sequences[:, 0]
    error = (runs[:, -1] - windows[:, -1]).square().mean().sqrt() / values.std()
    long_run = model.generate(values[None, :known], prediction_length=LONG_RUN).sequences
    return {
        "error": error.item(),
        **{f"{name} of the run": edge.item() for name, edge in zip(EDGES, long_run.aminmax(), strict=True)},
        **{f"{name} of the series": edge.item() for name, edge in zip(EDGES, values.aminmax(), strict=True)},
        "seconds": time.process_time() - start,
    }


def section(measured: dict[tuple[int, int], list[dict[str, float]]]) -> str:
    """The part of the report, of all seeds of each (units, tau)."""
    rows = []
    for (units, tau), runs in measured.items():
        errors = [run["error"] for run in runs]
        cells = [f"**{units:,} units, tau {tau}** ({len(runs)} seeds)", f"{mean(errors):.4f} ± {stdev(errors):.4f}"]
        for what in ("run", "series"):
            low = min(run[f"lowest of the {what}"] for run in runs)
            high = max(run[f"highest of the {what}"] for run in runs)
            cells.append(f"{low:.2f} to {high:.2f}")
        rows.append([*cells, f"{mean(run['seconds'] for run in runs):.0f}"])
        if (goal := GOALS.get((units, tau))) is not None:
            rows.append(["goal", f"≤ {goal}", "", "", ""])
    header = ["", "NRMSE after 84 steps", "a free run of 2,000 steps", "the series", "CPU seconds"]
    versions = ", ".join(f"{library} {version(library)}" for library in LIBRARIES[:3])
    return f"""## Forecasting: Mackey-Glass by an echo state network

{" ".join(str(__doc__).split("python benchmarks/quality/mackey_glass.py")[1].split())}

{table(header, rows)}

```bash
python benchmarks/quality/mackey_glass.py
```

On {cpu_name()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads; {versions}; commit {commit()}.
"""


def main() -> None:
    measured = {(units, tau): [measure(units, tau, seed) for seed in SEEDS] for units in UNITS for tau in TAUS}
    RESULTS.write_text(section(measured), encoding="utf-8")
    write_report()


if __name__ == "__main__":
    main()
