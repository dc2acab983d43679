"""The model card of a trained model: what it reached, how to use it, how it was made."""

import importlib.metadata
import math
import os
import platform
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers import PreTrainedModel, TrainingArguments

from .ensemble import AttentionRnnEnsemble
from .parts import write_whole

TRAINING_CURVES = "training.png"
# what a run may leave in its folder
_PICTURES = {
    TRAINING_CURVES: (
        "The loss, the score and the learning rate in the course of the training. The training loss is of a model that "
        "learns, with dropout and label smoothing, the validation loss of one without: the two cannot be compared"
    ),
    "confusions.png": "Which symbol was taken for which, most often first",
}
_LIBRARIES = ("attention-rnn", "transformers", "torch", "tokenizers", "datasets", "accelerate")
_TRAINING_ARGUMENTS = (
    "learning_rate",
    "lr_scheduler_type",
    "warmup_steps",
    "optim",
    "weight_decay",
    "max_grad_norm",
    "label_smoothing_factor",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "num_train_epochs",
    "max_steps",
    "load_best_model_at_end",
    "bf16",
    "fp16",
    "seed",
)


# scores that are the percentage of examples that are right
_PARTS_OF_EXAMPLES = ("exact_match", "answer_exact_match", "accuracy")
_MANY = 1_000  # examples; of more, chance is a small part of what may be wrong with a score


def tell_chance(scores: Mapping[str, float | str], examples: int | None) -> str | None:
    """
    How far chance may lead a score on few examples, in words: half of the interval of Agresti and Coull (1998,
    https://doi.org/10.2307/2685469), which holds the score on all such examples 19 times of 20.

    Args:
        scores (`dict[str, float | str]`): of a split.
        examples (`int`, *optional*): their number.

    Returns:
        `None` where there are many, or no such score.
    """
    name = next((name for name in _PARTS_OF_EXAMPLES if isinstance(scores.get(name), float)), None)
    if name is None or not examples or examples > _MANY:
        return None
    part = (float(scores[name]) / 100 * examples + 2) / (examples + 4)
    points = max(1, round(200 * math.sqrt(part * (1 - part) / (examples + 4))))
    return f"of {examples:,}, so that chance alone may move {name} by {points} point{'s' * (points > 1)} either way"


def write_model_card(
    output_dir: str | Path,
    *,
    model: PreTrainedModel,
    name: str,
    task: str,
    usage: str,
    limits: str,
    results: Mapping[str, Mapping[str, float | str]],
    data: Mapping[str, tuple[str, int | None]],
    dataset_name: str | None = None,
    dataset_config_name: str | None = None,
    base_model: str | None = None,
    base_folder: str | None = None,
    command: Sequence[str] | None = None,
    training_args: TrainingArguments | None = None,
    training_seconds: float | None = None,
    language: Sequence[str] | None = None,
    license: str | None = None,
    picture: str | None = None,
    explanations: Mapping[str, str] | None = None,
    details: str | None = None,
) -> ModelCard:
    """
    Write the model card of a trained model, `README.md`, into its folder, with the scores in its `model-index`.

    Args:
        output_dir (`str` or `Path`):
            The folder that holds the model.
        model (`PreTrainedModel`):
            The trained model.
        name (`str`):
            Its name: the id of its repository on the Hub, or the name of its folder.
        task (`str`):
            The task as the Hub calls it (`pipeline_tag`): `"translation"`, `"text-classification"`, ...
        usage, limits (`str`):
            Markdown that shows how to use the model, and that says what it is meant for and where it fails.
        results (`dict[str, dict[str, float | str]]`):
            The scores on each split, such as `{"test": {"bleu": 36.1}}`. A string, such as sacrebleu's signature,
            says how a score was computed; it is not a score of its own.
        data (`dict[str, tuple[str, int | None]]`):
            For each split what it was read from and the number of its examples, `None` if that is unknown.
        dataset_name, dataset_config_name (`str`, *optional*):
            The data set on the Hub and its configuration, if the data came from there.
        base_model (`str`, *optional*):
            The model on the Hub that this one was fine-tuned from.
        base_folder (`str`, *optional*):
            The name of the folder, if that model is not on the Hub.
        command (`list[str]`, *optional*):
            The words of the command that made the model. The value of `--hub_token` and the folders of existing files
            are left out.
        training_args (`TrainingArguments`, *optional*):
            The arguments of the training.
        training_seconds (`float`, *optional*):
            Its duration.
        language (`list[str]`, *optional*):
            ISO 639 codes.
        license (`str`, *optional*):
            The Hub's identifier of the licence.
        picture (`str`, *optional*):
            An image to show, as a path relative to `output_dir`.
        explanations (`dict[str, str]`, *optional*):
            What some of the scores are, each in a sentence.
        details (`str`, *optional*):
            Markdown that says more about the results: other systems beside them, pictures.

    Returns:
        `ModelCard`: what was written.

    Raises:
        ValueError: if a split of `results` is not in `data`.
    """
    if unknown := set(results) - set(data):
        raise ValueError(f"results must be of the splits of data, {list(data)}, got {sorted(unknown)} too")
    scores = {
        # what a computer adds to the last digits says nothing
        split: {k: round(v, 4) for k, v in of_split.items() if not isinstance(v, str)}
        for split, of_split in results.items()
    }
    notes = {k: v for of_split in results.values() for k, v in of_split.items() if isinstance(v, str)}
    metrics = list(dict.fromkeys(metric for of_split in scores.values() for metric in of_split))
    card_data = ModelCardData(
        language=list(language) if language else None,
        license=license,
        library_name="transformers",
        tags=["attention-rnn"] if model.config.model_type.startswith("attention_rnn") else None,
        datasets=[dataset_name] if dataset_name else None,
        base_model=base_model,
        metrics=metrics or None,
        pipeline_tag=task,
        model_name=name if metrics else None,
        eval_results=[
            EvalResult(
                task_type=task,
                dataset_type=dataset_name or "custom",
                dataset_name=data[split][0],
                dataset_config=dataset_config_name,
                dataset_split=split,
                metric_type=metric,
                metric_value=score,
            )
            for split, of_split in scores.items()
            for metric, score in of_split.items()
        ]
        or None,
    )

    chance = None
    if "test" in results and task != "token-classification":  # whose accuracy is of words
        chance = tell_chance(results["test"], data["test"][1])
    origin = f", fine-tuned from [{base_model}](https://huggingface.co/{base_model})" if base_model else ""
    origin = f", fine-tuned from `{base_folder}`" if base_folder else origin
    duration = f"Trained in {format_duration(training_seconds)}" if training_seconds is not None else "Evaluated"
    settings = "Its settings stand in [config.json](config.json)."
    if isinstance(model, AttentionRnnEnsemble):
        settings = f"It is {len(model.members)} models that decode together, each with a card of its own."
    sections = [
        f"# {name}",
        f"`{type(model).__name__}` with {model.num_parameters():,} parameters{origin}. {settings}",
        f"![Where the model looked in its source, for each token it wrote]({picture})" if picture else "",
        "## Results" if metrics else "",
        _table(["", *metrics], _score_rows(scores, metrics)) if metrics else "",
        "\n".join(f"- {name}: {what}." for name, what in (explanations or {}).items() if name in metrics),
        *(f"{name}: `{note}`" for name, note in notes.items()),
        (details or "").strip(),
        "## How to use it",
        usage.strip(),
        "## Intended use and limits",
        limits.strip(),
        f"The scores on the test are {chance}." if chance else "",
        "## How it was made",
        _table(["", "data", "examples"], _data_rows(data)),
        f"```bash\n{_public(command)}\n```" if command else "",
        _table(["argument", "value"], _arguments(training_args)) if training_args else "",
        f"{duration} on {_hardware(model)}, with {_versions()}.",
        *(f"![{what}]({name})" for name, what in _PICTURES.items() if Path(output_dir, name).exists()),
    ]
    card = ModelCard(f"---\n{card_data.to_yaml()}\n---\n\n" + "\n\n".join(filter(None, sections)) + "\n")
    write_whole(Path(output_dir) / "README.md", str(card))  # by which a finished training is known
    return card


def _table(header: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    lines = [header, ["---"] * len(header), *([str(cell).replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _score_rows(scores: Mapping[str, Mapping[str, float]], metrics: Sequence[str]) -> Iterable[list[str]]:
    for split, of_split in scores.items():
        yield [split, *(f"{of_split[metric]:.2f}" if metric in of_split else "" for metric in metrics)]


def _data_rows(data: Mapping[str, tuple[str, int | None]]) -> Iterable[list[str]]:
    for split, (origin, examples) in data.items():
        yield [split, origin, "streamed" if examples is None else f"{examples:,}"]


def _public(command: Sequence[str]) -> str:
    words = [part for word in command for part in (word.split("=", 1) if word.startswith("--") else [word])]
    lines, argument = "", ""
    for word in words:
        if word.startswith("--"):
            argument = word.replace("-", "_")
        if argument != "__hub_token":
            lines += " \\\n    " if word.startswith("--") else " "
            is_of_this_machine = os.path.isabs(word) and os.path.exists(word)
            lines += shlex.quote(os.path.basename(word) if is_of_this_machine else word)
    return lines.strip()


def _arguments(training_args: TrainingArguments) -> list[tuple[str, object]]:
    values = training_args.to_dict()
    names = [name for name in _TRAINING_ARGUMENTS if name != "num_train_epochs" or training_args.max_steps < 1]
    arguments = [(name, values[name]) for name in names] + [("processes", training_args.world_size)]
    return [(name, f"{value:g}" if isinstance(value, float) else value) for name, value in arguments]


def format_duration(seconds: float) -> str:
    """As hours and minutes, or minutes and seconds."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def _hardware(model: PreTrainedModel) -> str:
    if model.device.type == "cuda":
        return f"{torch.cuda.device_count()} {torch.cuda.get_device_name()}"
    return f"{torch.get_num_threads()} of {os.cpu_count()} cores of a CPU ({platform.machine()})"


def _versions() -> str:
    versions = [f"Python {platform.python_version()}"]
    for library in _LIBRARIES:
        try:
            versions.append(f"{library} {importlib.metadata.version(library)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(versions)
