"""What `attention-rnn train` leaves to be read: predictions with their errors marked, and what the model reached."""

import json
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from ..conll import read_conll
from ..data import read_rows
from ..inspection import Row
from ..onnx.spelling import unspell, unspell_lemma
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
    """
    Args:
        error: how far a number is from the right one, or whether something else is wrong.
    """

    source: str
    prediction: str
    reference: str
    error: float | bool


def write_marked_predictions(folder: Path, task: Task) -> None:
    """The predictions of the test as a table, what is wrong first and marked, or by the error of numbers."""
    judged = sorted(_judge(folder, task), key=lambda row: -abs(row.error))
    if not judged:
        return
    are_numbers = task.problem_type == "regression" and task.name == "classification"
    with open(folder / "predictions.tsv", "w", encoding="utf-8") as table:
        print("error" if are_numbers else "mark", *_Judged._fields[:3], sep="\t", file=table)
        for *values, error in judged:
            mark = f"{error:+.4g}" if are_numbers else "✗" if error else "✓"
            print(mark, *(" ".join(value.split()) for value in values), sep="\t", file=table)


def _judge(folder: Path, task: Task) -> Iterator[_Judged]:
    file = folder / _PREDICTIONS.get(task.name, "")
    if not file.is_file():
        return
    if task.name == "labelling":
        told_and_right = (read_conll(str(file), 0, column) for column in (2, 1))
        for (_, told), (_, right) in zip(*told_and_right, strict=True):
            label, reference = (" ".join(row["labels"]) for row in (told, right))
            yield _Judged(" ".join(told["tokens"]), label, reference, label != reference)
        return
    for _, row in read_rows(str(file)):
        if task.name == "pairs":
            source, told, right = (row[name] for name in ("source", "prediction", "reference"))
            if task.spelt:
                source, told, right = unspell_lemma(source), unspell(told), unspell(right)
            yield _Judged(source, told, right, told != right)
        elif task.name == "question-answering":
            references = row["references"] or [""]
            yield _Judged(row["question"], row["prediction"], references[0], row["prediction"] not in references)
        elif task.problem_type == "regression":
            told, right = float(row["prediction"]), float(row["reference"])
            yield _Judged(_text_of(row), f"{told:.4g}", f"{right:.4g}", told - right)
        else:
            told, right = (
                row[name] if isinstance(row[name], list) else [row[name]] for name in ("prediction", "reference")
            )
            yield _Judged(_text_of(row), ", ".join(told), ", ".join(right), set(told) != set(right))


def _text_of(row: Row) -> str:
    return " | ".join(row[name] for name in ("text", "text_pair") if name in row)


def tell_results(
    folder: Path, task: Task, scores: Scores, rows: Mapping[str, Sequence[Row]], others: Sequence[str] = ()
) -> None:
    """Print what a model has reached, with other lines beneath, and what there is to do next."""
    from ..checkpoints import one_of
    from ..model_card import tell_chance

    print()
    for split in ("validation", "test"):
        if split in scores:
            told = (f"{name} {value:.2f}" for name, value in scores[split].items() if not isinstance(value, str))
            print(f"{split:10} {', '.join(told)}")
    if task.name != "labelling" and (chance := tell_chance(scores.get("test", {}), len(rows["test"]))):
        print(f"           (the test is {chance})")
    if (beams := beams_of(folder)) > 1 and task.name == "pairs":
        print(f"           (by a search with {beams} beams; in training it took the likeliest token each time)")
    print(*others, sep="\n", end="\n" if others else "")
    reached = {name: value for name, value in scores.get("test", {}).items() if not isinstance(value, str)}
    is_useless = has_learned_nothing(reached)
    if task.name == "classification":
        from ..classification import best_guess

        trained, tested = ([_label(row, task) for row in rows[split]] for split in ("train", "test"))
        guess = best_guess(trained, tested, task.problem_type)
        print(f"to compare {guess.metric} {guess.score:.2f} by saying {guess.said} of every text")
        is_useless = guess.is_as_good(reached)
    elif task.name == "pairs" and "exact_match" in reached and (remembered := _remembered(rows)) >= 1:
        told_by = "writing what training had for a source, or else the source itself"
        print(f"to compare exact_match {remembered:.2f} by {told_by}")
    if is_useless:
        print("           The model has learned nothing of use: it needs more steps, or more to train on.")
    shown = ["attention_maps/attention.html", "predictions.tsv", "README.md"]
    shown = [str(folder / name) for name in shown if (folder / name).exists()]
    print(f"look at    {', '.join(shown)}")
    place, start = (shlex.quote(name) for name in (str(folder), one_of(str(folder))))
    print(f"use it     attention-rnn predict {place}")
    looks = f"attention-rnn explain {place}, " if (folder / "attention_maps").exists() else ""
    print(f"go on      {looks}attention-rnn train OTHER --from {start}")


def _remembered(rows: Mapping[str, Sequence[Row]]) -> float:
    """Percentage of test targets that are the most frequent one of their source in training, or else the source."""
    targets: dict[str, Counter[str]] = {}
    for row in rows["train"]:
        targets.setdefault(row["source"], Counter())[row["target"]] += 1
    said = {source: of_source.most_common(1)[0][0] for source, of_source in targets.items()}
    return 100 * fmean(said.get(row["source"], row["source"]) == row["target"] for row in rows["test"])


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


def _label(row: Row, task: Task) -> Any:
    return float(row["label"]) if task.problem_type == "regression" else row["label"]
