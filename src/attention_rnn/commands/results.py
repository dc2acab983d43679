"""What `attention-rnn train` leaves to be read: predictions with their errors marked, and what the model reached."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..conll import read_conll
from ..data import read_rows
from ..inspection import Row
from ..tasks import Task

# of each task, where its script leaves them
_PREDICTIONS = {
    "pairs": "generated_predictions.jsonl",
    "classification": "predictions.jsonl",
    "question-answering": "predictions.jsonl",
    "labelling": "predictions.conll",
}
Scores = Mapping[str, Mapping[str, float | str]]


class _Judged(NamedTuple):
    source: str
    prediction: str
    reference: str
    is_right: bool


def write_marked_predictions(folder: Path, task: Task) -> None:
    """The predictions of the test as a table, what is wrong first and marked."""
    judged = sorted(_judge(folder, task), key=lambda row: row.is_right)
    if not judged:
        return
    with open(folder / "predictions.tsv", "w", encoding="utf-8") as table:
        print("mark", *_Judged._fields[:3], sep="\t", file=table)
        for *values, is_right in judged:
            print("✓" if is_right else "✗", *(" ".join(value.split()) for value in values), sep="\t", file=table)


def _judge(folder: Path, task: Task) -> Iterator[_Judged]:
    file = folder / _PREDICTIONS.get(task.name, "")
    if not file.is_file():
        return
    if task.name == "labelling":
        told_and_right = (read_conll(str(file), 0, column) for column in (2, 1))
        for (_, told), (_, right) in zip(*told_and_right, strict=True):
            label, reference = (" ".join(row["labels"]) for row in (told, right))
            yield _Judged(" ".join(told["tokens"]), label, reference, label == reference)
        return
    for _, row in read_rows(str(file)):
        if task.name == "pairs":
            yield _Judged(row["source"], row["prediction"], row["reference"], row["prediction"] == row["reference"])
        elif task.name == "question-answering":
            references = row["references"] or [""]
            yield _Judged(row["question"], row["prediction"], references[0], row["prediction"] in references)
        elif task.problem_type != "regression":
            text = " | ".join(row[name] for name in ("text", "text_pair") if name in row)
            told, right = (
                row[name] if isinstance(row[name], list) else [row[name]] for name in ("prediction", "reference")
            )
            yield _Judged(text, ", ".join(told), ", ".join(right), set(told) == set(right))


def tell_results(
    folder: Path, task: Task, scores: Scores, rows: Mapping[str, Sequence[Row]], others: Sequence[str] = ()
) -> None:
    """Print what a model has reached, with other lines beneath, and what there is to do next."""
    from ..checkpoints import one_of

    print()
    for split in ("validation", "test"):
        if split in scores:
            told = (f"{name} {value:.2f}" for name, value in scores[split].items() if not isinstance(value, str))
            print(f"{split:10} {', '.join(told)}")
    if (beams := beams_of(folder)) > 1 and task.name == "pairs":
        print(f"           (by a search with {beams} beams; in training it took the likeliest token each time)")
    print(*others, sep="\n", end="\n" if others else "")
    reached = {name: value for name, value in scores.get("test", {}).items() if not isinstance(value, str)}
    is_useless = has_learned_nothing(reached)
    if guess := _most_frequent(task, rows):
        label, accuracy = guess
        print(f"to compare accuracy {accuracy:.2f} by saying {label!r} of every text")
        is_useless = reached.get("accuracy", 100.0) <= accuracy
    if is_useless:
        print("           The model has learned nothing of use: it needs more to train on.")
    shown = ["attention_maps/attention.html", "predictions.tsv", "README.md"]
    shown = [str(folder / name) for name in shown if (folder / name).exists()]
    print(f"look at    {', '.join(shown)}")
    place, start = (shlex.quote(name) for name in (str(folder), one_of(str(folder))))
    print(f"use it     attention-rnn predict {place}")
    looks = f"attention-rnn explain {place}, " if (folder / "attention_maps").exists() else ""
    print(f"go on      {looks}attention-rnn train OTHER --from {start}")


def beams_of(folder: Path) -> int:
    """With how many beams a model generates, as its folder says."""
    file = folder / "generation_config.json"
    return (json.loads(file.read_text(encoding="utf-8")).get("num_beams") or 1) if file.exists() else 1


def has_learned_nothing(scores: Mapping[str, float]) -> bool:
    """Whether nothing is right by any of these scores, of which rates of errors may be more than 100."""
    from ..metrics import LOWER_IS_BETTER

    right = [value for name, value in scores.items() if name not in LOWER_IS_BETTER]
    wrong = [value for name, value in scores.items() if name in LOWER_IS_BETTER]
    return bool(right) and not any(right) and all(value > 90 for value in wrong)


def _most_frequent(task: Task, rows: Mapping[str, Sequence[Row]]) -> tuple[Any, float] | None:
    """The label that most texts of the training have, and the percentage of those of the test that have it too."""
    if task.name != "classification" or task.problem_type != "single_label_classification":
        return None
    from ..classes import most_frequent_label

    return most_frequent_label(*([row["label"] for row in rows[split]] for split in ("train", "test")))
