r"""Train a classifier of recordings: spoken commands, keywords, speakers, languages.

    python examples/run_audio_classification.py --do_train --do_eval --do_predict --output_dir runs/commands \
        --train_file train.tsv --validation_file dev.tsv --test_file test.tsv --column_names audio label

A row names a recording, relative to the folder of the table, and its label; a folder of folders named as the labels
does as well. With `--group_column speaker`, a model is
trained for each speaker, on all others, and tested on this one:

    python examples/run_audio_classification.py --do_train --do_predict --output_dir runs/unseen_speakers \
        --train_file all.tsv --column_names audio label speaker --group_column speaker

--help lists all arguments. They may also stand in a .json or .yaml file that comes first on the command line; what
follows it wins. The output folder receives the model with its feature extractor, the metrics, the predictions, a
confusion matrix, pictures of the attention and a model card. Needs `pip install 'attention-rnn[audio,train,plot]'`.
"""

import copy
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import torch
from transformers import AutoConfig, AutoFeatureExtractor, AutoModelForAudioClassification, PreTrainedModel

from attention_rnn import AttentionRnnSpeechConfig, ReliableTrainer
from attention_rnn.arguments import (
    NewModelArguments,
    ScriptTrainingArguments,
    check_choice,
    check_shared_arguments,
    option,
    parse_config_overrides,
    settle_sizes,
    wanted_splits,
)
from attention_rnn.classes import label_fields, list_labels, with_labels
from attention_rnn.classification import (
    EXPLANATIONS,
    METRICS,
    SINGLE_LABEL,
    baseline,
    plot_confusion,
    predict,
    read_label,
    score_predictions,
    settle_labels,
    write_predictions,
)
from attention_rnn.run_folder import PREPARED
from attention_rnn.speech.data import (
    SpeechCollator,
    SpeechDataArguments,
    SpeechExamples,
    SpeechFeatureArguments,
    check_features,
    check_speech_arguments,
    feature_fields,
    make_feature_extractor,
    measure,
    read_recordings,
    settle_speech_columns,
    without_long,
)
from attention_rnn.speech.pictures import draw_poolings
from attention_rnn.training import Run, address_of_model, origin, read_examples, start_run
from attention_rnn.usage import audio_classification_usage, speech_limits

try:
    from datasets import Dataset
except ImportError as error:
    raise ImportError(
        f"run_audio_classification.py needs more packages ({error}): pip install 'attention-rnn[audio,train]'"
    ) from error

logger = logging.getLogger("run_audio_classification")

LEAST_STEPS = 1_500
SIZES_FOR_FEW_EXAMPLES: dict[str, Any] = {
    "hidden_size": 64,
    "num_mel_bins": 40,
    "hidden_dropout": 0.2,
    "readout_dropout": 0.3,
}


@dataclass
class ModelArguments(SpeechFeatureArguments, NewModelArguments):
    """Which model: fine-tune `model_name_or_path`, or train an attention RNN from scratch."""

    config_class: ClassVar = AttentionRnnSpeechConfig

    model_name_or_path: str | None = option(
        None,
        "Checkpoint to fine-tune, of any AutoModelForAudioClassification; of an attention RNN that transcribes, the "
        "encoder is taken.",
    )


@dataclass
class DataArguments(SpeechDataArguments):
    """What to read, and what to do with it."""

    label_column: str | None = option(
        None, "Column of the label. Default: label, class, command, ...; else the first that is left."
    )
    group_column: str | None = option(
        None, "Column of the groups, such as speakers, of each of which a model is tested that did not train on it."
    )


@dataclass
class TrainingArguments(ScriptTrainingArguments):
    """The arguments of Trainer with defaults that suit recurrent networks, and a few of our own.

    With --do_train and --do_eval, each epoch is evaluated and the best one by the first of `metrics` is kept.
    """

    metrics: list[str] | None = option(
        None, f"Any of {', '.join(METRICS[SINGLE_LABEL])}; the first one selects the best model. Default: accuracy, f1."
    )
    num_train_epochs: float = option(
        None, f"Epochs to train. Default: 20, or more for few examples, so that there are {LEAST_STEPS:,} steps."
    )
    per_device_train_batch_size: int = option(
        None, "Training examples per device and step. Default: 32, or fewer for few examples."
    )
    per_device_eval_batch_size: int = option(64, "Evaluation examples per device and step.")
    learning_rate: float = option(3e-3, "Highest learning rate.")
    lr_scheduler_type: str = option("cosine", "How the learning rate falls.")
    warmup_steps: float = option(50, "Steps in which the learning rate rises.")
    train_sampling_strategy: str = option("random", "Which examples form a batch: random, group_by_length, ...")

    def __post_init__(self):
        if self.metrics is None:
            self.metrics = list(METRICS[SINGLE_LABEL])[:2]
        self.settle_evaluation(self.metrics[0])
        self.settle_length(epochs=20, batch_size=32)
        super().__post_init__()


def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    run = start_run("run_audio_classification.py", argv, ModelArguments, DataArguments, TrainingArguments)
    model_args, data_args, training_args = run.arguments
    check_arguments(model_args, data_args, training_args)
    examples = read_splits(data_args, training_args)
    if data_args.group_column is not None:
        return leave_one_group_out(run, examples["train"])
    return train_model(run, examples)


def leave_one_group_out(run: Run, examples: Dataset) -> dict[str, dict[str, float]]:
    """Train and test a model for each group, and write the scores of all, and their mean."""
    scores: dict[str, dict[str, float]] = {}
    groups = sorted(set(examples["group"]))
    if len(groups) < 2:
        raise ValueError(f"--group_column {run.data_args.group_column} must tell two groups or more, got {groups}")
    for group in groups:
        logger.info(f"{group} is left out of the training and tested.")
        of_fold = copy.copy(run.training_args)
        of_fold.output_dir = str(run.output_dir / Path(group).name)
        split = {
            "train": examples.filter(lambda example, group=group: example["group"] != group),
            "test": examples.filter(lambda example, group=group: example["group"] == group),
        }
        scores[group] = train_model(replace(run, training_args=of_fold, scores={}), split)["test"]
    scores["mean"] = {name: sum(s[name] for s in scores.values()) / len(groups) for name in scores[groups[0]]}
    (run.output_dir / "leave_one_out_results.json").write_text(
        json.dumps(scores, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    logger.info(f"mean of {len(groups)} groups: {scores['mean']}")
    return scores


def train_model(run: Run, examples: dict[str, Dataset]) -> dict[str, dict[str, float]]:
    """Train, test and show a model, as far as the arguments ask for it."""
    model_args, data_args, training_args = run.arguments
    known = []
    if run.pretrained is not None:
        known = list_labels(AutoConfig.from_pretrained(run.pretrained, trust_remote_code=model_args.trust_remote_code))
    labels = settle_labels(known, examples, SINGLE_LABEL, origin("train", data_args))
    values = settle_sizes(
        model_args.config_overrides, len(examples.get("train", ())), SIZES_FOR_FEW_EXAMPLES, AttentionRnnSpeechConfig
    )
    with run.prepare():
        if run.pretrained is None and training_args.process_index == 0:
            make_feature_extractor(examples["train"], values, model_args).save_pretrained(run.output_dir / PREPARED)
    extractor = AutoFeatureExtractor.from_pretrained(
        run.pretrained or run.output_dir / PREPARED, trust_remote_code=model_args.trust_remote_code
    )
    model = make_model(run.pretrained, values, extractor, labels, model_args)
    encoded = {split: encode(split, of_split, extractor, labels, data_args) for split, of_split in examples.items()}
    if "train" in encoded:
        training_args.suit_length(len(encoded["train"]), LEAST_STEPS)
    score = partial(score_predictions, problem_type=SINGLE_LABEL, metrics=training_args.metrics)

    def evaluate(split: str, prefix: str) -> tuple[dict[str, float], dict[str, float]]:
        output = trainer.predict(encoded[split], metric_key_prefix=prefix)
        if trainer.is_world_process_zero():
            if split == "test":
                write_predictions(run.output_dir, examples[split], output.predictions, labels, SINGLE_LABEL)
            if find_spec("matplotlib") is not None:
                figure = plot_confusion(output.label_ids, predict(output.predictions, SINGLE_LABEL), labels)
                figure.savefig(run.output_dir / "confusion_matrix.png", dpi=150)
        return output.metrics, score(output)

    trainer = ReliableTrainer(
        model=model,
        args=training_args,
        train_dataset=encoded.get("train"),
        eval_dataset=encoded.get("validation"),
        processing_class=extractor,
        data_collator=SpeechCollator(extractor),
        compute_metrics=score,
    )
    scores = run.train_and_evaluate(trainer, evaluate)

    last = list(examples)[-1]
    pictures: list[str] = []
    if trainer.has_whole_model and trainer.is_world_process_zero():
        shown = range(min(data_args.num_heat_maps, len(encoded[last])))
        recordings = ((encoded[last].samples(index), examples[last][index]["label"]) for index in shown)
        pictures = draw_poolings(run.output_dir, trainer.model, extractor, recordings)
    run.finish(
        trainer,
        task="audio-classification",
        usage=audio_classification_usage(address_of_model(trainer), pictures[:1]),
        limits=speech_limits(extractor.sampling_rate, labels),
        data={split: (origin(split, data_args), len(of_split)) for split, of_split in examples.items()},
        explanations=EXPLANATIONS[SINGLE_LABEL],
        details=baseline(examples, SINGLE_LABEL),
    )
    return scores


def check_arguments(model_args: ModelArguments, data_args: DataArguments, training_args: TrainingArguments) -> None:
    for name in training_args.metrics:
        check_choice("metrics", name, METRICS[SINGLE_LABEL])
    if data_args.group_column is not None:
        if not training_args.do_train or not training_args.do_predict or training_args.do_eval:
            raise ValueError("--group_column needs --do_train and --do_predict, and no --do_eval: groups are left out")
        if data_args.test_file is not None:
            raise ValueError("--group_column tests on groups of the training data: no --test_file")
        if data_args.dataset_name is None:
            data_args.test_file = data_args.train_file
    check_shared_arguments(model_args, data_args, training_args, {}, training_args.metrics)
    check_speech_arguments(data_args)
    check_features(parse_config_overrides(model_args.config_overrides, AttentionRnnSpeechConfig), model_args)


def read_splits(data_args: DataArguments, training_args: TrainingArguments) -> dict[str, Dataset]:
    """The examples of each split, in the columns `audio`, `recording`, `label`, `group` and `place`."""
    splits = ["train"] if data_args.group_column is not None else list(wanted_splits(training_args))
    for split in splits:
        data_args.label_column = settle_speech_columns(split, data_args, label=data_args.label_column)
    return read_examples(splits, partial(read_labelled, data_args=data_args), data_args)


def read_labelled(split: str, data_args: DataArguments) -> Iterator[dict[str, Any]]:
    for place, row, recording in islice(read_recordings(split, data_args), data_args.limit(split)):
        label = read_label(row, data_args.label_column, place, SINGLE_LABEL, ",")
        group = read_label(row, data_args.group_column or data_args.label_column, place, SINGLE_LABEL, ",")
        yield {**recording, "label": label, "group": group, "place": place}


def make_model(
    pretrained: str | None, values: dict[str, Any], extractor: Any, labels: list[str], model_args: ModelArguments
) -> PreTrainedModel:
    if pretrained is not None:
        model = AutoModelForAudioClassification.from_pretrained(
            pretrained, trust_remote_code=model_args.trust_remote_code, dtype=torch.float32
        )
        return with_labels(model, labels)
    config = AttentionRnnSpeechConfig(
        **{**values, **feature_fields(extractor)}, **label_fields(labels), is_encoder_decoder=False
    )
    return AutoModelForAudioClassification.from_config(config)


def encode(
    split: str, examples: Dataset, extractor: Any, labels: list[str], data_args: DataArguments
) -> SpeechExamples:
    """Read all recordings once, and number their labels."""
    ids = label_fields(labels)["label2id"]
    measured = measure(examples, extractor, split)
    is_train = split == "train"
    if is_train:
        measured = without_long(measured, data_args)
    return SpeechExamples(
        measured, [ids[label] for label in measured["label"]], extractor, data_args if is_train else None
    )


if __name__ == "__main__":
    main()
