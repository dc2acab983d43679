"""Write RESULTS.md, the plot of quality by source length and the model card of each recipe from the files in results/.

python benchmarks/quality/report.py
"""

import json
import shlex
import textwrap
from collections.abc import Iterable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from huggingface_hub import ModelCardData
from tasks import LOWER_IS_BETTER, TASKS, Task

from attention_rnn.recipes import as_arguments

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
AUTO = RESULTS / "auto"  # of `attention-rnn train` without a recipe
MACKEY_GLASS = RESULTS / "mackey_glass.md"  # a section that a script of its own has written
PLOT = HERE.parents[1] / "docs" / "quality_by_length.png"
CARDS = HERE.parents[1] / "model_cards"
# what the plot shows: the score, its heading, and the lines with their settings
BY_LENGTH: dict[str, tuple[str, str, dict[str, str]]] = {
    "mt_multi30k_ende": ("bleu", "BLEU", {"attention": "attention", "without": "no_attention"}),
    "summ_aeslc": (
        "rouge1",
        "ROUGE-1",
        {"attention, copying, coverage": "pointer", "attention": "attention", "without": "no_attention"},
    ),
}

INTRODUCTION = """# Quality on published tables

Written by `report.py` from the files in [results/](results). Every line in bold is what a
[recipe](../../src/attention_rnn/recipes) reached here: the mean over seeds, ± the standard deviation. Recipes were
chosen on the development sets, each training keeps its best model by the development set, and the test set is decoded
once for each seed. CPU minutes are those of one training, its evaluations and its test, of all cores together: the
clock shows no more than them, whatever else the machine does. Goals were set beforehand, those in minutes for two
cores. What others report is in italics; what is marked unverified was not checked against the paper. The
[README](README.md) says how to run it.
"""


def read_results(file: Path) -> dict[str, Any] | None:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def write_report() -> None:
    (HERE / "RESULTS.md").write_text(report_text(), encoding="utf-8")
    CARDS.mkdir(exist_ok=True)
    for name in TASKS:
        if results := read_results(RESULTS / f"{name}.json"):
            (CARDS / f"{name}.md").write_text(card(name, results), encoding="utf-8")


def report_text(plot: bool = True) -> str:
    """The whole report; with `plot`, the plot that it shows is drawn too."""
    results = {name: read_results(RESULTS / f"{name}.json") for name in TASKS}
    parts = [INTRODUCTION, *(section(name, of_task) for name, of_task in results.items())]
    parts += [MACKEY_GLASS.read_text(encoding="utf-8")] if MACKEY_GLASS.is_file() else []
    parts += [automatic_section()] if AUTO.is_dir() else []
    if plot:
        plot_by_length(results)
    if lines_by_length(results):
        parts.append(
            "## Quality by source length\n\nThe bars are standard deviations, where there are several seeds.\n\n"
            f"![Scores by source length with and without attention](../../docs/{PLOT.name})\n"
        )
    return "\n".join(parts)


def card(name: str, results: dict[str, Any]) -> str:
    """The model card of a recipe: what its models reach, how to train one, what it costs, and where it fails."""
    task, runs = TASKS[name], results["runs"]
    data = ModelCardData(
        language=list(task.language),
        library_name="transformers",
        tags=["attention-rnn"],
        pipeline_tag=task.pipeline_tag,
        metrics=list(task.metrics),
    )
    sizes = [run["parameters"] for run in runs]
    parameters = " to ".join(dict.fromkeys(f"{size / 1e6:.1f}" for size in (min(sizes), max(sizes))))
    costs = [run["cpu_minutes"] for run in runs if "cpu_minutes" in run]
    minutes = f", {mean(costs):.0f} CPU minutes a training" if costs else ""
    recipe = f"src/attention_rnn/recipes/{task.recipe}.yaml"
    options = "--train_file TRAIN --validation_file DEV --test_file TEST --do_train --do_eval --do_predict"
    arguments = shlex.join(as_arguments(task.arguments))
    lines = [options, *textwrap.wrap(arguments, 110, break_long_words=False, break_on_hyphens=False)]
    options = " \\\n    ".join(lines)
    what_it_reaches = section(name, results, heading="What it reaches").replace("](../../docs/", "](../docs/")
    return f"""---
{data.to_yaml()}
---

# {task.title}

A model of [this recipe](../{recipe}) has {parameters} million parameters{minutes}, no GPU. It is
trained from random weights, on no other data than these.

{what_it_reaches}
The command trains and tests every model of the table. One model of one's own data:

```bash
python examples/{task.script} {recipe} --output_dir runs/{name} \\
    {options}
```

## Intended use and limits

{task.limits}

## Data

{task.home}. Licence: {task.license} A model that is given away must respect it; none comes with this repository.
"""


def section(name: str, results: dict[str, Any] | None, heading: str | None = None) -> str:
    """The part of the report on one task, with its title as heading unless there is another."""
    task = TASKS[name]
    runs = results["runs"] if results else []
    ensembles = results["ensembles"] if results else []
    columns = [*task.metrics, "cpu_minutes"]
    rows = []
    for line, settings in task.results.items():
        rows.append([f"**{line}**{coverage(runs, settings)}", *summary(task, runs, settings, columns)])
        rows += goal(task, line, columns)
        if task.ensemble and ensembles:
            members = max(len(entry["seeds"]) for entry in ensembles)
            entries = [entry for entry in ensembles if len(entry["seeds"]) == members and entry["setting"] in settings]
            if entries:
                title = f"**ensemble of {members}**{coverage(entries, settings)}"
                rows.append([title, *summary(task, entries, settings, columns)])
                rows += goal(task, "ensemble", columns)
    for system, scores in task.published.items():
        rows.append(
            [f"*{system}*", *(f"*{scores[column]:.{task.digits}f}*" if column in scores else "" for column in columns)]
        )
    parts = [f"## {heading or task.title}", task.notes, table(["", *task.metrics.values(), "CPU minutes"], rows)]
    if any(len(settings) > 1 for settings in task.results.values()) and runs:
        by_setting = [[setting, *summary(task, runs, [setting], columns)] for setting in task.settings]
        parts.append(table(["", *task.metrics.values(), "CPU minutes"], by_setting))
    text = RESULTS / f"{name}.md"  # what there is to say about the figures, with links that lead from results/
    parts += [text.read_text(encoding="utf-8").strip().replace("](../../../", "](../../")] if text.is_file() else []
    parts.append(f"```bash\npython benchmarks/quality/run.py {name} --data_dir PATH\n```")
    commits: dict[str, list[str]] = {}
    for run in runs:
        commits.setdefault(f"{run['machine']}; {run['versions']}", []).append(str(run["commit"]))
    parts += [f"On {environment}; commit {', '.join(dict.fromkeys(of_it))}." for environment, of_it in commits.items()]
    return "\n\n".join(parts) + "\n"


def automatic_section() -> str:
    """What `attention-rnn train` reaches where it chooses everything, beside what the recipes of the tasks reach."""
    rows, measured, commits = [], [], {}
    for name, task in TASKS.items():
        automatic, tuned = read_results(AUTO / f"{name}.json"), read_results(RESULTS / f"{name}.json")
        metric = next(iter(task.metrics))
        for setting in task.settings if automatic else ():
            cells = [
                summary(task, results["runs"] if results else [], [setting], [metric, "cpu_minutes"])
                for results in (tuned, automatic)
            ]
            if cells[1][0]:
                runs = [run for run in automatic["runs"] if run["setting"] == setting]
                seeds = ", ".join(str(run["seed"]) for run in runs)
                rows.append([f"{name}, {setting}", task.metrics[metric], *cells[0], *cells[1], seeds])
                for run in runs:
                    commits.setdefault(f"{run['machine']}; {run['versions']}", []).append(str(run["commit"]))
        left = [setting for setting in task.settings if not any(row[0] == f"{name}, {setting}" for row in rows)]
        measured += [f"{name}: {', '.join(left)}"] if left and automatic else []
    text = AUTO / "auto.md"
    parts = [
        "## Automatic against tuned",
        "What `attention-rnn train` reaches on the same splits with no argument but their files, beside the recipe of "
        "the task, which was trained for as many epochs as `tasks.py` says.",
        table(["", "score", "tuned", "CPU minutes", "automatic", "CPU minutes", "seeds"], rows),
        f"Not measured: {'; '.join(measured)}; and all other tasks."
        if measured
        else "All other tasks are not measured.",
    ]
    parts += [text.read_text(encoding="utf-8").strip()] if text.is_file() else []
    parts.append("```bash\npython benchmarks/quality/run.py g2p_sigmorphon2020 --data_dir PATH --auto\n```")
    parts += [f"On {environment}; commit {', '.join(dict.fromkeys(of_it))}." for environment, of_it in commits.items()]
    return "\n\n".join(parts) + "\n"


def table(header: list[str], rows: Iterable[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rows])


def coverage(entries: list[dict[str, Any]], settings: list[str]) -> str:
    """How many seeds a line is the mean of, and whether settings lack."""
    measured = {entry["setting"] for entry in entries} & set(settings)
    if not measured:
        return ", not measured yet"
    seeds = len(seeds_of_all(entries, sorted(measured)))
    of_settings = f"{len(measured)} of {len(settings)}" if len(measured) < len(settings) else ""
    of_seeds = f"{seeds} seed{'s' if seeds > 1 else ''}" if "seed" in entries[0] else ""
    note = ", ".join(filter(None, [of_seeds, of_settings]))
    return f" ({note})" if note else ""


def seeds_of_all(entries: list[dict[str, Any]], settings: list[str]) -> list[Any]:
    """The seeds that every one of these settings was trained with."""
    seeds = [{str(entry.get("seed")) for entry in entries if entry["setting"] == setting} for setting in settings]
    return sorted(set.intersection(*seeds)) if seeds else []


def summary(task: Task, entries: list[dict[str, Any]], settings: list[str], columns: list[str]) -> list[str]:
    """The mean of each column over settings and then seeds, and its deviation over seeds."""
    measured = [setting for setting in settings if any(entry["setting"] == setting for entry in entries)]
    cells = []
    for column in columns:
        by_seed = []
        for seed in seeds_of_all(entries, measured):
            of_seed = [e for e in entries if e["setting"] in measured and str(e.get("seed")) == seed]
            values = [e["test"].get(column, e.get(column)) for e in of_seed]
            if None not in values:
                by_seed.append(mean(values))
        cells.append(with_deviation(by_seed, 1 if column == "cpu_minutes" else task.digits))
    return cells


def with_deviation(values: list[float], digits: int) -> str:
    if not values:
        return ""
    return f"{mean(values):.{digits}f}" + (f" ± {stdev(values):.{digits}f}" if len(values) > 1 else "")


def goal(task: Task, line: str, columns: list[str]) -> list[list[str]]:
    goals = task.goals.get(line)
    if goals is None:
        return []
    signs = {column: "≤" if column in LOWER_IS_BETTER else "≥" for column in columns}
    return [["goal", *(f"{signs[column]} {goals[column]}" if column in goals else "" for column in columns)]]


def lines_by_length(results: dict[str, dict[str, Any] | None]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Of each task that was measured with and without attention, the scores by source length of every seed."""
    lines = {
        name: {
            label: [run["test_by_length"] for run in of_task["runs"] if run["setting"] == setting]
            for label, setting in settings.items()
        }
        for name, (_, _, settings) in BY_LENGTH.items()
        if (of_task := results.get(name))
    }
    return {name: of_task for name, of_task in lines.items() if all(of_task.values())}


def plot_by_length(results: dict[str, dict[str, Any] | None]) -> None:
    """Draw the scores by source length, with and without attention."""
    lines = lines_by_length(results)
    if not lines:
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(lines), 3.6), layout="constrained")
    for axes, (name, of_task) in zip(figure.subplots(1, len(lines), squeeze=False)[0], lines.items(), strict=True):
        metric, heading, _ = BY_LENGTH[name]
        for label, runs in of_task.items():
            buckets = list(runs[0])
            values = [[run[bucket][metric] for run in runs] for bucket in buckets]
            errors = [stdev(of_bucket) for of_bucket in values] if len(runs) > 1 else None
            axes.errorbar(
                buckets, [mean(of_bucket) for of_bucket in values], errors, marker="o", label=label, capsize=3
            )
        axes.set_title(TASKS[name].title)
        axes.set_xlabel("words of the source")
        axes.set_ylabel(heading)
        axes.set_ylim(bottom=0)
        axes.legend()
        axes.spines[["top", "right"]].set_visible(False)
    PLOT.parent.mkdir(exist_ok=True)
    figure.savefig(PLOT, dpi=150)


if __name__ == "__main__":
    write_report()
