r"""Train a classifier of texts: an attention RNN from scratch, or any other model to fine-tune.

    python examples/run_classification.py --do_train --do_eval --do_predict --output_dir runs/reviews \
        --train_file train.tsv --validation_file dev.tsv --test_file test.tsv --column_names label text \
        --tokenizer word --lowercase

One label for each text, several (`--problem_type multi_label_classification`) or a number (`--problem_type
regression`). --help lists all arguments. They may also stand in a .json or .yaml file that comes first on the command
line; what follows it wins. The output folder receives the model with its tokenizer, the metrics, the predictions, a
confusion matrix, pictures of the attention and a model card. Needs `pip install 'attention-rnn[train,plot]'`.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import islice
from typing import Any, ClassVar, get_args

import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from attention_rnn import AttentionRnnConfig, ReliableTrainer
from attention_rnn.arguments import (
    ScriptModelArguments,
    ScriptTrainingArguments,
    TableDataArguments,
    check_choice,
    check_shared_arguments,
    option,
    settle_sizes,
    wanted_splits,
)
from attention_rnn.classes import label_fields, list_labels, with_labels
from attention_rnn.classification import (
    DEFAULT_METRICS,
    EXPLANATIONS,
    LOWER_IS_BETTER,
    METRICS,
    SINGLE_LABEL,
    TEXTS,
    baseline,
    label_value,
    plot_confusion,
    predict,
    read_label,
    score_predictions,
    settle_labels,
    texts_of,
    write_predictions,
)
from attention_rnn.data import choose_columns, drop_empty, get_text
from attention_rnn.heat_maps import classification_alignments
from attention_rnn.tokenizer_training import TokenizerKind, warn_of_poor_tokens
from attention_rnn.training import (
    address_of_model,
    first_row,
    load_or_train_tokenizer,
    origin,
    read_examples,
    read_split,
    special_token_ids,
    start_run,
    train_new_tokenizer,
)
from attention_rnn.usage import classification_limits, classification_usage
from attention_rnn.word_vectors import read_embeddings

try:
    from datasets import Dataset
except ImportError as error:
    raise ImportError(
        f"run_classification.py needs more packages ({error}): pip install 'attention-rnn[train]'"
    ) from error

logger = logging.getLogger("run_classification")

LEAST_STEPS = 600
SIZES_FOR_FEW_EXAMPLES = {"hidden_size": 64, "embedding_size": 128, "embedding_dropout": 0.5, "hidden_dropout": 0.5}


@dataclass
class ModelArguments(ScriptModelArguments):
    """Which model: fine-tune `model_name_or_path`, or train an attention RNN from scratch."""

    of_any_model: ClassVar = (*ScriptModelArguments.of_any_model, "freeze_embeddings")
    of_any_tokenizer: ClassVar = (*ScriptModelArguments.of_any_tokenizer, "freeze_embeddings", "word_vectors")

    model_name_or_path: str | None = option(
        None,
        "Checkpoint to fine-tune, of any AutoModelForSequenceClassification; of an attention RNN that translates, the "
        "encoder is taken.",
    )
    tokenizer: str = option("auto", "Tokenizer to train: bpe, unigram, word or character; auto decides by the texts.")
    word_vectors: str | None = option(
        None,
        "Text file of word vectors (GloVe, word2vec, fastText; may be .gz) that the embeddings of a new model start "
        "from; words that it lacks start as they would without it. Needs words as tokens.",
    )
    freeze_embeddings: bool = option(False, "Leave the embeddings as they start.")


@dataclass
class DataArguments(TableDataArguments):
    """What to read, and what to do with it."""

    train_file: str | None = option(
        None,
        "csv, tsv, json or jsonl with a text and its label in each row. May be compressed (.gz). A tsv file has no "
        "quoting.",
    )
    text_columns: list[str] | None = option(
        None, "Column of the text, or two of a pair. Default: text, sentence, ...; else the first."
    )
    label_column: str | None = option(
        None, "Column of the label. Default: label, class, ...; else the first that is left."
    )
    label_separator: str = option(",", "What stands between the labels of a text, where they are no list.")
    max_length: int = option(512, "Longer texts are cut to that many tokens.")
    task: str = option("text-classification", "The task as the model card tells the Hub.")


@dataclass
class TrainingArguments(ScriptTrainingArguments):
    """The arguments of Trainer with defaults that suit recurrent networks, and a few of our own.

    With --do_train and --do_eval, each epoch is evaluated and the best one by the first of `metrics` is kept.
    """

    problem_type: str = option(SINGLE_LABEL, f"One of {', '.join(METRICS)}.")
    metrics: list[str] | None = option(
        None,
        "The first one selects the best model. "
        + "; ".join(f"{problem_type}: {', '.join(names)}" for problem_type, names in METRICS.items()),
    )
    num_train_epochs: float = option(None, f"Epochs to train. Default: 6, or as many as make {LEAST_STEPS} steps.")
    per_device_train_batch_size: int = option(None, "Training examples per device and step. Default: 64 or fewer.")
    per_device_eval_batch_size: int = option(64, "Evaluation examples per device and step.")

    def __post_init__(self):
        check_choice("problem_type", self.problem_type, METRICS)
        if self.metrics is None:
            self.metrics = DEFAULT_METRICS[self.problem_type]
        self.settle_evaluation(self.metrics[0], LOWER_IS_BETTER)
        self.settle_length(epochs=6, batch_size=64)
        super().__post_init__()


def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    run = start_run("run_classification.py", argv, ModelArguments, DataArguments, TrainingArguments)
    model_args, data_args, training_args = run.arguments
    check_arguments(model_args, data_args, training_args)

    examples = read_splits(data_args, training_args)
    known = []
    if run.pretrained is not None:
        known = list_labels(AutoConfig.from_pretrained(run.pretrained, trust_remote_code=model_args.trust_remote_code))
    labels = settle_labels(known, examples, training_args.problem_type, origin("train", data_args))
    with run.prepare():
        tokenizer = make_tokenizer(run.pretrained, examples, model_args, training_args)
    model = make_model(run.pretrained, tokenizer, labels, model_args, training_args, len(examples.get("train", ())))
    encoded = {split: encode(split, of_split, tokenizer, labels, data_args) for split, of_split in examples.items()}
    if "train" in encoded:
        training_args.suit_length(len(encoded["train"]), LEAST_STEPS)
    problem_type = training_args.problem_type
    score = partial(score_predictions, problem_type=problem_type, metrics=training_args.metrics)

    def evaluate(split: str, prefix: str) -> tuple[dict[str, float], dict[str, float]]:
        output = trainer.predict(encoded[split], metric_key_prefix=prefix)
        if trainer.is_world_process_zero():
            if split == "test":
                write_predictions(run.output_dir, examples[split], output.predictions, labels, problem_type)
            if problem_type == SINGLE_LABEL and find_spec("matplotlib") is not None:
                figure = plot_confusion(output.label_ids, predict(output.predictions, SINGLE_LABEL), labels)
                figure.savefig(run.output_dir / "confusion_matrix.png", dpi=150)
        return output.metrics, score(output)

    trainer = ReliableTrainer(
        model=model,
        args=training_args,
        train_dataset=encoded.get("train"),
        eval_dataset=encoded.get("validation"),
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=score,
    )
    scores = run.train_and_evaluate(trainer, evaluate)

    shown = islice(examples.get("test", examples.get("validation", ())), data_args.num_heat_maps)
    asked = ((texts_of(example), example["label"]) for example in shown)
    alignments = classification_alignments(trainer.model, tokenizer, asked, data_args.max_length)
    picture = run.draw_heat_maps(trainer, alignments)
    texts = dict(zip(TEXTS, texts_of(examples[list(examples)[-1]][0]), strict=False))
    run.finish(
        trainer,
        task=data_args.task,
        usage=classification_usage(trainer.model, address_of_model(trainer), texts, picture),
        limits=classification_limits(
            data_args.max_length, labels, [] if labels or "train" not in examples else examples["train"]["label"]
        ),
        data={split: (origin(split, data_args), len(of_split)) for split, of_split in examples.items()},
        explanations=EXPLANATIONS[problem_type],
        details=baseline(examples, problem_type),
    )
    return scores


def check_arguments(model_args: ModelArguments, data_args: DataArguments, training_args: TrainingArguments) -> None:
    if data_args.text_columns is not None and len(data_args.text_columns) > 2:
        raise ValueError(f"--text_columns must be one column, or two of a pair, got {data_args.text_columns}")
    if not data_args.label_separator:
        raise ValueError("--label_separator must be one or more characters, got ''")
    problem_type = training_args.problem_type
    for name in training_args.metrics:
        check_choice(f"metrics of {problem_type}", name, METRICS[problem_type])
    check_shared_arguments(model_args, data_args, training_args, {"max_length": 2}, training_args.metrics)
    check_choice("tokenizer", model_args.tokenizer, (*get_args(TokenizerKind), "auto"))
    if training_args.label_smoothing_factor and problem_type != SINGLE_LABEL:
        raise ValueError(f"--label_smoothing_factor needs --problem_type {SINGLE_LABEL}, got {problem_type}")
    if model_args.word_vectors is not None and model_args.tokenizer_name is None and model_args.tokenizer != "word":
        raise ValueError(f"--word_vectors needs --tokenizer word, got {model_args.tokenizer}")


def read_splits(data_args: DataArguments, training_args: TrainingArguments) -> dict[str, Dataset]:
    """The examples of each split, in the columns `text`, for a pair `text_pair`, `label` and `place`."""
    splits = wanted_splits(training_args)
    for split in splits:
        settle_text_columns(split, data_args)
    return read_examples(splits, partial(read_labelled, data_args=data_args, training_args=training_args), data_args)


def settle_text_columns(split: str, data_args: DataArguments) -> None:
    """Choose the columns of the text and the label, where the arguments do not name them."""
    place, row = first_row(split, data_args)
    first, *others = data_args.text_columns or [None]
    columns = [name for name in row if name not in others]
    text, data_args.label_column = choose_columns(columns, place, text=first, label=data_args.label_column)
    data_args.text_columns = [text, *others]


def read_labelled(split: str, data_args: DataArguments, training_args: TrainingArguments) -> Iterator[dict[str, Any]]:
    def labelled() -> Iterator[dict[str, Any]]:
        for place, row in islice(read_split(split, data_args), data_args.limit(split)):
            texts = [get_text(row, column, place) for column in data_args.text_columns]
            label = read_label(
                row, data_args.label_column, place, training_args.problem_type, data_args.label_separator
            )
            yield dict(zip(TEXTS, texts, strict=False)) | {"label": label, "place": place}

    columns = TEXTS[: len(data_args.text_columns)]
    yield from drop_empty(labelled(), columns, origin(split, data_args)) if split == "train" else labelled()


def make_tokenizer(
    pretrained: str | None, examples: dict[str, Dataset], model_args: ModelArguments, training_args: TrainingArguments
) -> PreTrainedTokenizerBase:
    def train() -> PreTrainedTokenizerBase:
        texts = [text for column in texts_of(examples["train"][:]) for text in column]
        return train_new_tokenizer("texts", lambda: texts, model_args.tokenizer, model_args)

    return load_or_train_tokenizer(pretrained, model_args, training_args, train)


def make_model(
    pretrained: str | None,
    tokenizer: PreTrainedTokenizerBase,
    labels: list[str],
    model_args: ModelArguments,
    training_args: TrainingArguments,
    examples: int | None = None,
) -> PreTrainedModel:
    if pretrained is not None:
        options = {"dtype": torch.float32, "problem_type": training_args.problem_type}
        model = AutoModelForSequenceClassification.from_pretrained(
            pretrained, trust_remote_code=model_args.trust_remote_code, **options
        )
        model = with_labels(model, labels or ["LABEL_0"])  # as transformers calls a number
    else:
        file = model_args.word_vectors
        sizes = SIZES_FOR_FEW_EXAMPLES if file is None else {}  # the vectors have a size
        overrides = settle_sizes(model_args.config_overrides, examples, sizes)
        if file is not None:
            size = overrides.get("embedding_size")
            ids, vectors = read_embeddings(file, tokenizer, size, training_args.disable_tqdm)
            overrides["embedding_size"] = vectors.shape[1]
        config = AttentionRnnConfig(
            **overrides,
            problem_type=training_args.problem_type,
            **(label_fields(labels) if labels else {"num_labels": 1}),
            vocab_size=len(tokenizer),
            **special_token_ids(tokenizer),
            decoder_start_token_id=None,
            is_encoder_decoder=False,
        )
        model = AutoModelForSequenceClassification.from_config(config)
        if file is not None:
            model.get_input_embeddings().weight.data[ids] = vectors
    model.get_input_embeddings().requires_grad_(not model_args.freeze_embeddings)
    return model


def encode(
    split: str, examples: Dataset, tokenizer: PreTrainedTokenizerBase, labels: list[str], data_args: DataArguments
) -> Dataset:
    """Turn texts and labels into ids, and warn once of what is cut."""
    ids = label_fields(labels)["label2id"]
    too_long = 0

    def tokenize(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        nonlocal too_long
        texts = texts_of(batch)
        columns = dict(tokenizer(*texts))
        if excess := sum(len(tokens) > data_args.max_length for tokens in columns["input_ids"]):
            too_long += excess
            columns = dict(tokenizer(*texts, truncation=True, max_length=data_args.max_length))
        return columns | {"labels": [label_value(label, ids) for label in batch["label"]]}

    encoded = examples.map(tokenize, batched=True, remove_columns=examples.column_names, desc=f"tokenizing {split}")
    warn_of_poor_tokens(f"texts of the {split} data", encoded["input_ids"], tokenizer)
    if too_long:
        logger.warning(
            f"{too_long:,} of {len(examples):,} texts of the {split} data are longer than --max_length "
            f"{data_args.max_length} and were cut."
        )
    return encoded


if __name__ == "__main__":
    main()
