r"""Train and test the models of one table of RESULTS.md, and write the table anew.

    python benchmarks/quality/run.py g2p_sigmorphon2020 --data_dir PATH
    python benchmarks/quality/run.py g2p_sigmorphon2020 --data_dir PATH --settings ice --seeds 1 --dev_only \
        --num_train_epochs 30 --config_overrides hidden_size=128
    python benchmarks/quality/run.py g2p_sigmorphon2020 --data_dir PATH --settings ice --seeds 1 --auto

Every training is one run of a script of `examples/` on the recipe of the task, and what `tasks.py` adds to it, in a
process of its own. It chooses its model on the development set, and the test set is decoded once for each seed. A
training that has a result is not repeated, so a command that was interrupted continues when it is given again.

Arguments of that script that are not those of this script go to it after the recipe and win. With any of them, or
with --dev_only, it is a trial: its results lie in the folder of the runs and the table stays as it is.

With --auto no recipe is given: `attention-rnn train` chooses all but the splits, and the results stand in a table of
their own beside those of the recipe.
"""

import argparse
import json
import os
import platform
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from forecasting import score_together
from report import AUTO, RESULTS, automatic_section, read_results, section, write_report
from safetensors import safe_open
from tasks import TASKS, Row, Task, arguments_of, scores_by_length
from transformers import AutoTokenizer

from attention_rnn import AttentionRnnEnsemble
from attention_rnn.recipes import as_arguments

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parents[1] / "examples"
LIBRARIES = ("attention-rnn", "torch", "transformers", "tokenizers", "datasets", "accelerate")
# glibc gives large blocks back to the system at once, and page faults then cost a recurrent network much of its time
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**32)}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--data_dir", type=Path, required=True, help="the folder of the data set")
    parser.add_argument("--settings", nargs="+", help="languages or variants (all)")
    parser.add_argument("--seeds", nargs="+", type=int, help="seeds (those of the table)")
    parser.add_argument("--dev_only", action="store_true", help="test on the development set, to choose a recipe")
    parser.add_argument("--auto", action="store_true", help="let `attention-rnn train` choose, in place of the recipe")
    parser.add_argument("--again", action="store_true", help="train again what has a result")
    parser.add_argument("--config_overrides", default="", help="fields of AttentionRnnConfig, on top of the recipe's")
    parser.add_argument("--runs_dir", type=Path, default=Path("runs/quality"), help="where models go (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="threads of a training (%(default)s)")
    options, extra = parser.parse_known_args(argv)
    task = TASKS[options.task]
    settings, seeds = options.settings or list(task.settings), options.seeds or list(task.seeds)
    if unknown := set(settings) - set(task.settings):
        parser.error(f"argument --settings: {sorted(unknown)} are not among {list(task.settings)}")

    trial = bool(options.dev_only or options.config_overrides or extra)
    runs_dir = options.runs_dir / "trial" if trial else options.runs_dir
    runs_dir = runs_dir / "auto" if options.auto else runs_dir
    results_file = (runs_dir / "results" if trial else AUTO if options.auto else RESULTS) / f"{options.task}.json"
    try:
        for setting in settings:
            write_data(task, setting, options.data_dir, runs_dir / options.task / setting)
    except FileNotFoundError as error:
        print(f"skipped: {error.filename} is missing. {options.task} needs the data of {task.home} in --data_dir.")
        return

    recipe = {} if options.auto else arguments_of(task)
    changes = [*(["--config_overrides", options.config_overrides] if options.config_overrides else []), *extra]
    plan = {"task": options.task, "split": "dev" if options.dev_only else "test", "recipe": recipe, "changes": changes}
    results = open_results(results_file, plan)
    for setting in settings:
        for seed in seeds:
            key = {"setting": setting, "seed": seed}
            if find(results["runs"], key) is None or options.again:
                overrides = (recipe.get("config_overrides"), task.settings[setting], options.config_overrides)
                arguments = ["--config_overrides", ",".join(filter(None, overrides))] if any(overrides) else []
                arguments += [*task.setting_arguments(setting), *extra, "--seed", str(seed)]
                folder = runs_dir / options.task / setting / f"seed{seed}"
                if options.auto:
                    command = automatic_command(folder, task, setting, plan["split"], options.data_dir)
                else:
                    command = script_command(folder, task, plan["split"])
                run = {**key, **train(folder, [*command, *arguments], options.threads)}
                run |= test(task, setting, folder, plan["split"])
                results = save(results_file, plan, "runs", key, run)
            print(describe(find(results["runs"], key)), flush=True)
        if task.ensemble and len(seeds) > 1 and not options.auto:
            key = {"setting": setting, "seeds": seeds}
            folders = [runs_dir / options.task / setting / f"seed{seed}" for seed in seeds]
            if find(results["ensembles"], key) is None or options.again:
                ensemble = {**key, "test": test_ensemble(task, folders, plan["split"], options.threads)}
                results = save(results_file, plan, "ensembles", key, ensemble)
            print(describe(find(results["ensembles"], key)), flush=True)
    shown = automatic_section() if options.auto else section(options.task, results)
    print(f"\n{shown}\nAll results lie in {results_file}.")
    if not trial:
        write_report()


def write_data(task: Task, setting: str, data_dir: Path, folder: Path) -> None:
    """Write the splits as the script reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "dev", "test"):
        rows = list(task.read(data_dir, setting, split))
        if task.script == "run_clm.py":
            (folder / f"{split}.txt").write_text("".join(row["text"] for row in rows), encoding="utf-8")
            continue
        rows = [write_recording(row, folder, f"{split}_{number}") for number, row in enumerate(rows)]
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")


def write_recording(row: Row, folder: Path, name: str) -> Row:
    """Write the recording of a row, if it has one, and name it in its place."""
    if "samples" not in row:
        return row
    import soundfile

    (folder / "wav").mkdir(exist_ok=True)
    soundfile.write(folder / "wav" / f"{name}.wav", row["samples"], row["sampling_rate"])
    others = {column: value for column, value in row.items() if column not in ("samples", "sampling_rate")}
    return {"audio": f"wav/{name}.wav", **others}


def read_rows(folder: Path, split: str) -> list[Row]:
    return list(read_jsonl(folder / f"{split}.jsonl"))


def read_jsonl(file: Path) -> Iterator[dict[str, str]]:
    with open(file, encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def script_command(folder: Path, task: Task, split: str) -> list[str]:
    """What trains a model by the recipe of a task and decodes one split."""
    files = {"train": "train", "validation": "dev", "test": split}
    command = [sys.executable, str(EXAMPLES / task.script), *as_arguments(arguments_of(task))]
    command += ["--do_train", "--do_eval", "--output_dir", str(folder), "--overwrite_output_dir"]
    if follows_in_time(task, split):
        del files["test"]
    else:
        command += ["--do_predict"]
    for name, of_split in files.items():
        command += [f"--{name}_file", str(data_file(folder, task, of_split))]
    if task.script == "run_seq2seq.py":
        command += ["--source_column", "source", "--target_column", "target", "--num_heat_maps", "2"]
    return [*command, "--use_cpu", "True", "--disable_tqdm", "True"]


def automatic_command(folder: Path, task: Task, setting: str, split: str, data_dir: Path) -> list[str]:
    """What trains a model without a recipe, on the files as they are published where the command reads them."""
    files = {of_split: data_file(folder, task, of_split) for of_split in ("train", "dev", split)}
    if task.published_file is not None:
        files = {of_split: task.published_file(data_dir, setting, of_split) for of_split in files}
    command = [sys.executable, "-m", "attention_rnn", "train", str(files["train"]), "--validation", str(files["dev"])]
    return [*command, "--test", str(files[split]), "--output", str(folder), "--again"]


def data_file(folder: Path, task: Task, split: str) -> Path:
    """Where `write_data` has written a split."""
    return folder.parent / f"{split}.{'txt' if task.script == 'run_clm.py' else 'jsonl'}"


def train(folder: Path, command: list[str], threads: int) -> dict[str, Any]:
    """Train one model and decode one split by a command; returns what is worth knowing of it."""
    environment = {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    start, log = cpu_seconds(), folder.with_suffix(".log")
    with open(log, "w", encoding="utf-8") as output:
        code = subprocess.call(
            command, env={**os.environ, **KEEP_MEMORY, **environment}, stdout=output, stderr=subprocess.STDOUT
        )
    if code:
        sys.exit(f"{shlex.join(command)}\nfailed with exit code {code}. The end of {log}:\n{log.read_text()[-2000:]}")
    results = json.loads((folder / "all_results.json").read_text(encoding="utf-8"))
    with safe_open(folder / "model.safetensors", "pt") as weights:
        parameters = sum(weights.get_tensor(name).numel() for name in weights.keys())  # noqa: SIM118
    return {
        "dev": {
            name.removeprefix("eval_"): value
            for name, value in results.items()
            if name.startswith("eval_") and not name.startswith(("eval_samples", "eval_steps", "eval_runtime"))
        },
        "training_minutes": round(results["train_runtime"] / 60, 2),
        "cpu_minutes": round((cpu_seconds() - start) / 60, 2),
        "epochs": results["epoch"],
        "parameters": parameters,
        "commit": commit(),
        "machine": f"{cpu_name()}, {os.cpu_count()} cores, {threads} threads",
        "versions": ", ".join(
            [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in LIBRARIES)]
        ),
    }


def follows_in_time(task: Task, split: str) -> bool:
    """Whether a split cannot be tested too, since a test follows the development set in time."""
    return task.script == "run_forecasting.py" and split == "dev"


def test(task: Task, setting: str, folder: Path, split: str) -> dict[str, Any]:
    """Score what the script has decoded, unless it has done so itself."""
    if task.score is None:
        results = json.loads((folder / "all_results.json").read_text(encoding="utf-8"))
        prefix = "eval" if follows_in_time(task, split) else "predict"
        return {"test": {name: results[f"{prefix}_{name}"] for name in task.metrics}}
    predictions = [row["prediction"] for row in read_jsonl(folder / "generated_predictions.jsonl")]
    rows = read_rows(folder.parent, split)[: len(predictions)]  # --max_predict_samples takes the first ones
    scores: dict[str, Any] = {"test": task.score(predictions, rows)}
    if task.measure is not None:
        scores["test"] |= task.measure(setting, folder, rows)
    if task.lengths:
        scores["test_by_length"] = scores_by_length(task, predictions, rows)
    return scores


def test_ensemble(task: Task, folders: list[Path], split: str, threads: int) -> dict[str, float]:
    """The scores of the models of several seeds that decode, or forecast, together."""
    torch.set_num_threads(threads)
    if task.script == "run_forecasting.py":
        files = {"train": "train", "validation": "dev"} | ({"test": "test"} if split == "test" else {})
        scores = score_together(folders, {name: data_file(folders[0], task, of) for name, of in files.items()})
        return {name: scores[name] for name in task.metrics}
    predictions = [row["prediction"] for row in read_jsonl(folders[0] / "generated_predictions.jsonl")]
    rows = read_rows(folders[0].parent, split)[: len(predictions)]
    ensemble, tokenizer = AttentionRnnEnsemble.from_pretrained(folders), AutoTokenizer.from_pretrained(folders[0])
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]["source"]))
    for start in range(0, len(order), 64):
        batch = order[start : start + 64]
        inputs = tokenizer([rows[index]["source"] for index in batch], padding=True, return_tensors="pt")
        texts = tokenizer.batch_decode(ensemble.generate(**inputs), skip_special_tokens=True)
        for index, text in zip(batch, texts, strict=True):
            predictions[index] = text.strip()
    return task.score(predictions, rows)


def open_results(file: Path, plan: dict[str, Any]) -> dict[str, Any]:
    """The results of this plan so far; those of another recipe are not among them."""
    results = read_results(file)
    if results is None or any(results[name] != value for name, value in plan.items()):
        return {**plan, "runs": [], "ensembles": []}
    return results


def save(file: Path, plan: dict[str, Any], kind: str, key: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    """Add a result to the file, or replace it; other processes may do the same."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(Path(tempfile.gettempdir(), f"{file.stem}.lock")):
        results = open_results(file, plan)
        results[kind] = [other for other in results[kind] if not is_of(other, key)] + [entry]
        results[kind].sort(key=lambda entry: list(TASKS[plan["task"]].settings).index(entry["setting"]))
        file.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return results


def find(entries: list[dict[str, Any]], key: dict[str, Any]) -> dict[str, Any] | None:
    return next((entry for entry in entries if is_of(entry, key)), None)


def is_of(entry: dict[str, Any], key: dict[str, Any]) -> bool:
    return all(entry[name] == value for name, value in key.items())


def describe(entry: dict[str, Any]) -> str:
    seed = f"seed {entry['seed']}" if "seed" in entry else f"ensemble of {len(entry['seeds'])}"
    scores = ", ".join(f"{name} {value:.3f}" for name, value in entry["test"].items())
    minutes = f", {entry['cpu_minutes']:.1f} CPU minutes" if "cpu_minutes" in entry else ""
    return f"{entry['setting']}, {seed}: {scores}{minutes}"


def cpu_seconds() -> float:
    """What the processes that have ended used, of all cores together."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def commit() -> str | None:
    """The commit that is checked out, with a mark if what decides a result differs from it."""
    code = [HERE / "tasks.py", EXAMPLES, EXAMPLES.with_name("src")]
    if (head := git("rev-parse", "--short", "HEAD")) is None:
        return None
    return head + ("-dirty" if git("status", "--porcelain", "--", *map(str, code)) else "")


def git(*arguments: str) -> str | None:
    if shutil.which("git") is None:
        return None
    process = subprocess.run(["git", *arguments], cwd=HERE, capture_output=True, text=True)
    return process.stdout.strip() if process.returncode == 0 else None


def cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
