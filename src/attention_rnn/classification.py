"""Labels of texts, one or several, and numbers: how they are read, predicted, scored, shown and written."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from transformers import EvalPrediction

from .classes import check_labels, check_recurrence, merge_labels
from .data import brief, write_json_lines

try:
    from scipy.special import expit, softmax
    from scipy.stats import pearsonr, spearmanr
    from sklearn.metrics import (
        ConfusionMatrixDisplay,
        accuracy_score,
        confusion_matrix,
        f1_score,
        matthews_corrcoef,
        mean_absolute_error,
    )
except ImportError as error:
    raise ImportError(
        f"attention_rnn.classification needs scikit-learn ({error}): pip install 'attention-rnn[train]'"
    ) from error

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEXTS = ("text", "text_pair")  # the columns of an example
SHOWN = (*TEXTS, "audio")  # of these, what predictions are written beside
IGNORED_LABEL = -100
SINGLE_LABEL, MULTI_LABEL, REGRESSION = "single_label_classification", "multi_label_classification", "regression"
f1_micro = partial(f1_score, average="micro", zero_division=1)


def f1_macro(references: np.ndarray, predictions: np.ndarray) -> float:
    """The mean over the labels that are given or predicted; without any, all is right."""
    of_labels = f1_score(references, predictions, average=None, zero_division=np.nan)
    return 1.0 if np.isnan(of_labels).all() else float(np.nanmean(of_labels))


# of each problem type, the metrics as functions of references and predictions
METRICS: dict[str, dict[str, Callable[[np.ndarray, np.ndarray], float]]] = {
    SINGLE_LABEL: {"accuracy": accuracy_score, "f1": f1_macro, "matthews": matthews_corrcoef},
    MULTI_LABEL: {"f1": f1_macro, "f1_micro": f1_micro, "accuracy": accuracy_score},
    REGRESSION: {
        "pearson": lambda references, predictions: pearsonr(references, predictions).statistic,
        "spearman": lambda references, predictions: spearmanr(references, predictions).statistic,
        "mae": mean_absolute_error,
    },
}
DEFAULT_METRICS = {
    SINGLE_LABEL: ["accuracy", "f1"],
    MULTI_LABEL: ["f1", "f1_micro"],
    REGRESSION: ["pearson", "spearman", "mae"],
}
LOWER_IS_BETTER = ("mae",)

EXPLANATIONS = {
    SINGLE_LABEL: {
        "accuracy": "Percentage of examples with the right label",
        "f1": "Mean over the labels of their F1, the harmonic mean of precision and recall, in percent (macro F1)",
        "matthews": "Matthews correlation coefficient, in percent: 0 is what guessing reaches",
    },
    MULTI_LABEL: {
        "f1": "Mean over the labels of their F1, the harmonic mean of precision and recall, in percent (macro F1)",
        "f1_micro": "F1 over all labels of all examples together, in percent (micro F1)",
        "accuracy": "Percentage of examples of which all labels are right",
    },
    REGRESSION: {
        "pearson": "Pearson correlation of the predicted and the right numbers, in percent",
        "spearman": "Spearman correlation of the ranks of the predicted and the right numbers, in percent",
        "mae": "Mean distance of the predicted from the right numbers, in their own unit",
    },
}


def texts_of(example: dict[str, Any]) -> list[Any]:
    """The text of an example, or the two of a pair; of a batch, the lists of them."""
    return [example[column] for column in TEXTS if column in example]


def settle_labels(
    known: Sequence[str], examples: Mapping[str, Iterable[dict[str, Any]]], problem_type: str, origin: str
) -> list[str]:
    """
    The names of the labels of a model in the order of their ids, and none for numbers.

    Args:
        known: those of the checkpoint, none of a new model.
        examples: by split, each with its `label`, as `read_label` returns it, and its `place`.
        problem_type: a key of `METRICS`.
        origin: what the training data are called in messages.

    Raises:
        ValueError: there are less than two labels, or no two texts with the same one; an example has another one, or a
            model does not tell numbers.
    """
    if problem_type == REGRESSION:
        if "train" not in examples and len(known) != 1:
            raise ValueError(f"--problem_type {REGRESSION} needs a model that tells a number, got the labels {known}")
        return []
    labels, source = list(known), "of the model"
    if "train" in examples:
        found = [name for example in examples["train"] for name in _names(example)]
        check_recurrence(found)
        labels = merge_labels(known, sort_labels(set(found)))
        source = f"of {'the model and ' if known else ''}the training data, {origin}"
    if len(labels) < 2:
        raise ValueError(f"there must be at least two labels {source}, got {labels}")
    for example in chain.from_iterable(examples.values()):
        check_labels(_names(example), labels, example["place"], source)
    return labels


def _names(example: dict[str, Any]) -> list[str]:
    return example["label"] if isinstance(example["label"], list) else [example["label"]]


def label_value(label: str | list[str] | float, ids: Mapping[str, int]) -> int | list[float] | float:
    """What a model learns of a label: its id; of several labels 1 or 0 for each that there is; the number as it is."""
    if isinstance(label, list):
        return [float(name in label) for name in ids]
    return ids[label] if isinstance(label, str) else label


def read_label(
    row: dict[str, Any], column: str, place: str, problem_type: str, separator: str
) -> str | list[str] | float:
    """
    The label of a text.

    Args:
        row (`dict[str, Any]`), column (`str`), place (`str`): where it stands, see `read_rows`.
        problem_type (`str`): a key of `METRICS`.
        separator (`str`): what stands between several labels that are no list.

    Returns:
        its name, or several names, or a number.

    Raises:
        ValueError: there is nothing of this kind.
    """
    if column not in row:
        raise ValueError(f"{place}: there must be a column {column!r}, got the columns {brief(list(row))}")
    value = row[column]
    if problem_type == REGRESSION:
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = float("nan")
        # what transformers leaves out of a loss is no number here
        if not isfinite(number) or number == IGNORED_LABEL:
            raise ValueError(
                f"{place}: column {column!r} must hold a number other than {IGNORED_LABEL}, got {brief(value)}"
            )
        return number
    values = [value]
    if problem_type == MULTI_LABEL:
        values = value.split(separator) if isinstance(value, str) else value
        if not isinstance(values, list):
            raise ValueError(f"{place}: column {column!r} must hold a list of labels or text, got {brief(value)}")
        values = [name for name in values if name != ""]  # a text may have no label
    names = [str(name).strip() for name in values if isinstance(name, (str, int))]
    if len(names) < len(values) or not all(names):
        raise ValueError(
            f"{place}: a label in column {column!r} must be text or an integer, got {brief(value)}. Lists need "
            f"--problem_type {MULTI_LABEL}, other numbers --problem_type {REGRESSION}."
        )
    return names if problem_type == MULTI_LABEL else names[0]


def sort_labels(names: Collection[str]) -> list[str]:
    """By number where all of them are numbers, otherwise by name."""
    try:
        return sorted(names, key=int)
    except ValueError:
        return sorted(names)


def predict(logits: np.ndarray, problem_type: str) -> np.ndarray:
    """
    What a classifier says of each text: the id of its label, or 1 for each label that it has and 0 for the others, or a
    number.

    Args:
        logits (`np.ndarray` of shape (texts, labels)): as the model returns them.
        problem_type (`str`): a key of `METRICS`.
    """
    if problem_type == SINGLE_LABEL:
        return logits.argmax(axis=1)
    return (logits > 0).astype(int) if problem_type == MULTI_LABEL else logits[:, 0]


def score_predictions(output: EvalPrediction, problem_type: str, metrics: Iterable[str]) -> dict[str, float]:
    """These of `METRICS`, all but distances in percent. A correlation with a constant, which is not defined, is 0."""
    logits: Any = output.predictions
    references: Any = output.label_ids
    predictions = predict(logits, problem_type)
    scores = {name: float(np.nan_to_num(METRICS[problem_type][name](references, predictions))) for name in metrics}
    return {name: score if name in LOWER_IS_BETTER else 100 * score for name, score in scores.items()}


class Guess(NamedTuple):
    """
    Says the same of every text.

    Args:
        said: what it says.
        metric: the one of `METRICS` that tells how good it is.
        score: its value on the test.
    """

    said: str
    metric: str
    score: float

    def is_as_good(self, scores: Mapping[str, float]) -> bool:
        """Whether a model with these scores is no better, if they tell."""
        if self.metric not in scores:
            return False
        score = scores[self.metric]
        return score >= self.score if self.metric in LOWER_IS_BETTER else score <= self.score


def best_guess(trained: Sequence[Any], tested: Sequence[Any], problem_type: str) -> Guess:
    """What a model has to beat: the most frequent label of the training, all labels, or the mean of the numbers."""
    if problem_type == REGRESSION:
        mean = fmean(trained)
        return Guess(f"{mean:.4g}", "mae", fmean(abs(number - mean) for number in tested))
    if problem_type == MULTI_LABEL:
        labels = set(chain.from_iterable(trained))
        shares = [sum(label in of_text for of_text in tested) / len(tested) for label in labels]
        return Guess("all labels", "f1", 100 * fmean(2 * share / (1 + share) for share in shares))
    ((label, _),) = Counter(trained).most_common(1)
    return Guess(repr(label), "accuracy", 100 * fmean(other == label for other in tested))


def baseline(examples: Mapping[str, Any], problem_type: str) -> str | None:
    """What a model has to beat on the test, in a sentence; nothing without a training or a test."""
    if not {"train", "test"} <= set(examples):
        return None
    guess = best_guess(examples["train"]["label"], examples["test"]["label"], problem_type)
    return f"To compare: always saying {guess.said} has {guess.metric} {guess.score:.2f} on the test."


def write_predictions(
    output_dir: Path, examples: Iterable[dict[str, Any]], logits: np.ndarray, labels: Sequence[str], problem_type: str
) -> None:
    """A JSON object for each text or recording: what the model says, its probability for each label, the reference."""
    predictions = predict(logits, problem_type)
    probabilities = expit(logits) if problem_type == MULTI_LABEL else softmax(logits, axis=1)
    rows = []
    for example, prediction, of_labels in zip(examples, predictions, probabilities, strict=True):
        row = {column: example[column] for column in SHOWN if column in example}
        if problem_type == REGRESSION:
            row["prediction"] = float(prediction)
        else:
            several = [labels[index] for index in np.flatnonzero(prediction).tolist()]
            row["prediction"] = several if problem_type == MULTI_LABEL else labels[prediction]
            row["probabilities"] = {name: round(float(p), 6) for name, p in zip(labels, of_labels, strict=True)}
        rows.append(row | {"reference": example["label"]})
    write_json_lines(output_dir / "predictions.jsonl", rows)


def plot_confusion(references: np.ndarray, predictions: np.ndarray, labels: Sequence[str]) -> "Figure":
    """Draw how often each label (rows) was taken for each other one (columns), of ids of references and predictions."""
    from matplotlib.figure import Figure

    counts = confusion_matrix(references, predictions, labels=range(len(labels)))
    size = min(2.5 + 0.5 * len(labels), 20)
    figure = Figure(figsize=(size, size), layout="constrained")
    display = ConfusionMatrixDisplay(counts, display_labels=labels)
    display.plot(
        ax=figure.add_subplot(),
        cmap="Blues",
        colorbar=False,
        include_values=len(labels) <= 30,
        xticks_rotation="vertical",
    )
    return figure
