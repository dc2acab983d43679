"""
`attention-rnn train --num_models`: models of several seeds, tested single and together, and distilled into one.

Of a training in `runs/words` the models lie in `runs/words/members/seed42` and so on, and the folder is their ensemble.
With `--distil` the folder is their student, and the ensemble lies in `runs/words/teachers`.
"""

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev

from ..arguments import parse_arguments
from ..checkpoints import CARD, MEMBERS, TEACHERS, open_encoder_decoder
from ..data import read_rows
from ..distillation import DistillationArguments
from ..metrics import METRICS
from ..model_card import format_duration, write_model_card
from ..run_folder import NEXT, delete_run
from ..tasks import Task
from ..training import address_of_folder
from . import UsageError
from .flags import name_of_flag
from .models import COMMAND
from .results import Scores, write_marked_predictions
from .train import quiet, script

LOG = "training.log"
_BETWEEN_LINES = 60  # seconds, of what is told of several trainings at once
_PREFIXES = {"validation": "eval", "test": "predict"}  # of the names of scores
# what the test of a model that is there does without, beside all that is said of a new model
_OF_TRAINING = ("do_train", "early_stopping_patience", "eval_strategy", "save_strategy", "resume_from_checkpoint")
_USAGE = """```bash
attention-rnn predict {name}
```

```python
from attention_rnn.checkpoints import open_encoder_decoder

ensemble, tokenizer = open_encoder_decoder("{name}")
outputs = ensemble.generate(**tokenizer([{source}], return_tensors="pt"))
print(tokenizer.batch_decode(outputs, skip_special_tokens=True))
```"""
_LIMITS = "As of each of the models, which their cards tell. Together they take the time and the memory of all."


def check_several(options: argparse.Namespace, task: Task, others: Sequence[str]) -> None:
    """
    Raises:
        UsageError: the options do not go together, or with the task.
    """
    if options.num_models == 1:
        raise UsageError(f"{'--distil' if options.distil else '--processes'} needs --num_models 2 or more")
    if task.name != "pairs":
        raise UsageError(f"--num_models is for pairs, and the task is {task.name}")
    given = {word.split("=")[0] for word in others}
    if "--push_to_hub" in given:
        raise UsageError("--push_to_hub is for one model: upload what --num_models leaves by `hf upload`")
    if options.distil and "--teacher_models" in given:
        raise UsageError("--distil has teachers of its own, the models that it trains: no --teacher_models")


def train_several(
    folder: Path,
    task: Task,
    words: Sequence[str],
    options: argparse.Namespace,
    data: Mapping[str, tuple[str, int]],
    command: str,
) -> tuple[Scores, list[str]]:
    """
    Train a model of each seed, test them together, and distil them if that is wanted. What an earlier call has finished
    is not done again.

    Args:
        folder (`Path`): where it goes; holds the settings of the command.
        task (`Task`): of pairs.
        words (`list[str]`): the arguments of the script, but for its folder and its seed.
        options (`Namespace`): of the command: how many models there are, whose first has its seed, as the student does;
            how many are trained at once, and whether they are distilled.
        data (`dict[str, tuple[str, int]]`), command (`str`): what the card tells, see `write_model_card`.

    Returns:
        The scores of what the folder then is, and lines on those of the models that it was made of.

    Raises:
        KeyboardInterrupt: Ctrl-C; says how many models are trained.
        ChildProcessError: a training has failed.
    """
    run = script(task.name)
    untaught = without(words, DistillationArguments.__dataclass_fields__) if options.distil else words
    if options.again:  # what the script would refuse is to leave the earlier training as it is
        kinds = (run.ModelArguments, run.DataArguments, run.TrainingArguments)
        run.check_arguments(*parse_arguments([*untaught, *_place(folder, options.seed)], *kinds))
    delete_earlier(folder)
    ensemble = folder / TEACHERS if options.distil else folder
    seeds = range(options.seed, options.seed + options.num_models)
    members = [ensemble / MEMBERS / f"seed{seed}" for seed in seeds]
    for place in {ensemble, *members} - {folder}:  # each is used by itself too, also one that is not finished
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / COMMAND, place)
    trainings = {member: [*untaught, *_place(member, seed)] for member, seed in zip(members, seeds, strict=True)}
    train_all(trainings, options.processes)
    if not (ensemble / CARD).exists():
        print(f"\nthe {len(members)} models are tested together", flush=True)
        run.main([*words_of_test(untaught), "--model_name_or_path", str(ensemble), *_place(ensemble, seeds[0])])
    for place in (ensemble, *members):
        write_marked_predictions(place, task)
    source = next(row["source"] for _, row in read_rows(str(ensemble / "generated_predictions.jsonl")))
    single = [read_scores(member, "predict") for member in members]
    rows = dict(zip([member.name for member in members], map(tell, single), strict=True))
    rows |= {"mean": tell_mean(single), "together": tell(read_scores(ensemble, "predict"))}
    scores = {split: read_scores(ensemble, prefix) for split, prefix in _PREFIXES.items()}
    if not (ensemble / CARD).exists():  # the last thing, as by it a finished training is known
        write_model_card(
            ensemble,
            model=open_encoder_decoder(str(ensemble))[0],
            name=ensemble.resolve().name,
            task="translation",
            usage=_USAGE.format(name=address_of_folder(ensemble), source=json.dumps(source, ensure_ascii=False)),
            limits=_LIMITS,
            results=scores,
            data=data,
            command=shlex.split(command),
            details=f"The models alone and together, on the test:\n\n{table_of(rows)}",
        )
    if options.distil:
        print("\nthe ensemble is distilled into one model", flush=True)
        scores = run.main([*words, "--teacher_models", *map(str, members), *_place(folder, seeds[0])])
        with open(folder / CARD, "a", encoding="utf-8") as file:
            file.write(f"\n## Beside its teachers\n\n{table_of(rows)}\n")
    told = {
        row: ", ".join(f"{name} {rows[row][name]}" for name in scores["test"] if name in rows[row])
        for row in ("mean", "together")
    }
    lines = [f"{'single':10} {told['mean']}, the mean of {len(members)}"]
    return scores, [*lines, f"{'together':10} {told['together']}"] if options.distil else lines


def delete_earlier(folder: Path) -> None:
    """Delete an earlier training, of one model or of several, if this one does not go on with it."""
    if any((folder / NEXT).glob("*.json")):
        delete_run(folder)


def _place(folder: Path, seed: int) -> list[str]:
    return ["--output_dir", str(folder), "--seed", str(seed)]


def words_of_test(words: Sequence[str]) -> list[str]:
    """Of the arguments of a training those of the test of a model that is there."""
    return without(words, {*script("pairs").ModelArguments.__dataclass_fields__, *_OF_TRAINING})


def without(words: Sequence[str], left_out: Container[str]) -> list[str]:
    """The arguments of a command line but those of some names."""
    kept, is_kept = [], True
    for word in words:
        if word.startswith("--"):
            name = name_of_flag(word)
            is_kept = name not in left_out and name.removeprefix("no_") not in left_out
        kept += [word] if is_kept else []
    return kept


def train_all(trainings: Mapping[Path, Sequence[str]], processes: int) -> None:
    """Run the trainings that are not finished, so many at once, each in a process of its own."""
    waiting = [folder for folder in trainings if not (folder / CARD).exists()]
    running: dict[Path, subprocess.Popen] = {}
    number, finished, start = len(trainings), 0, time.monotonic()
    told_at = start
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                folder = waiting.pop(0)
                left = len(waiting) + len(running) + 1
                seconds = (time.monotonic() - start) / finished * left if finished else 0
                told = f", about {format_duration(seconds)} left for all" if seconds else ""
                told += f", which writes to {folder / LOG}" if processes > 1 else ""
                print(f"\nmodel {number - len(waiting)} of {number}, {folder.name}{told}", flush=True)
                running[folder] = start_training(folder, trainings[folder], processes)
            time.sleep(0.05)
            if processes > 1 and time.monotonic() - told_at > _BETWEEN_LINES:
                told_at = time.monotonic()
                for folder in running:
                    print(f"{folder.name}: {_last_line(folder / LOG)}", flush=True)
            for folder in [folder for folder, process in running.items() if process.poll() is not None]:
                if running.pop(folder).returncode:
                    place = "above" if processes == 1 else str(folder / LOG)
                    raise ChildProcessError(f"{folder.name} has failed, see {place}")
                finished += 1
                if processes > 1:
                    print(f"{folder.name} is trained", flush=True)
    except BaseException as error:
        for process in running.values():
            process.send_signal(signal.SIGINT)
        for process in running.values():
            process.wait()
        if isinstance(error, KeyboardInterrupt):
            done = sum((folder / CARD).exists() for folder in trainings)
            raise KeyboardInterrupt(f"Stopped: {done} of {number} models are trained.") from None
        raise


def _last_line(file: Path) -> str:
    lines = file.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "begins")


def start_training(folder: Path, words: Sequence[str], processes: int) -> subprocess.Popen:
    """Start the process of a training. Of several at once each has its share of the cores, and writes into a file."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", __name__, *words]
    if processes == 1:
        return subprocess.Popen(command, start_new_session=True)  # Ctrl-C is passed on, once
    import torch

    threads = str(max(1, torch.get_num_threads() // processes))
    with open(folder / LOG, "a", encoding="utf-8") as log:
        environment = os.environ | {"OMP_NUM_THREADS": threads}
        return subprocess.Popen(command, start_new_session=True, env=environment, stdout=log, stderr=log)


def main(words: Sequence[str]) -> None:
    """A training, in a process of its own that ends, with a checkpoint, when the one that has started it is gone."""
    threading.Thread(target=_watch, args=[os.getppid()], daemon=True).start()
    quiet()
    try:
        script("pairs").main(words)
    except KeyboardInterrupt as error:
        sys.exit(str(error) or 130)
    except (ValueError, OSError, ImportError) as error:  # what the user can mend
        sys.exit(" ".join(str(error).split()))


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGINT)


def read_scores(folder: Path, prefix: str) -> dict[str, float]:
    """What a run of the script has measured on a split, by the names of the metrics."""
    results = json.loads((folder / f"{prefix}_results.json").read_text(encoding="utf-8"))
    names = [key.removeprefix(f"{prefix}_") for key in results]
    return {name: results[f"{prefix}_{name}"] for name in names if name in METRICS}


def tell(scores: Mapping[str, float]) -> dict[str, str]:
    return {name: f"{value:.2f}" for name, value in scores.items()}


def tell_mean(scores: Sequence[Mapping[str, float]]) -> dict[str, str]:
    """The mean of each score, and the standard deviation."""
    values = {name: [of_one[name] for of_one in scores] for name in scores[0]}
    return {name: f"{fmean(of_name):.2f} ± {stdev(of_name):.2f}" for name, of_name in values.items()}


def table_of(rows: Mapping[str, Mapping[str, str]]) -> str:
    """Scores in markdown, a line for each row."""
    names = list(next(iter(rows.values())))
    lines = [["test", *names], ["---"] * (len(names) + 1), *([row, *scores.values()] for row, scores in rows.items())]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main(sys.argv[1:])
