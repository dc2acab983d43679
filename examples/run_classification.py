r"""Train a classifier of texts: an attention RNN from scratch, or any other model to fine-tune.

    python examples/run_classification.py --do_train --do_eval --do_predict --output_dir runs/reviews \
        --train_file train.tsv --validation_file dev.tsv --test_file test.tsv --column_names label text \
        --text_columns text --label_column label --tokenizer word --lowercase

One label for each text, several (`--problem_type multi_label_classification`) or a number (`--problem_type
regression`). --help lists all arguments. They may also stand in a .json or .yaml file that comes first on the command
line; what follows it wins. The output folder receives the model with its tokenizer, the metrics, the predictions, a
confusion matrix, pictures of the attention and a model card. Needs `pip install attention-rnn[train,plot]`.
"""

import json
import logging
import re
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from itertools import chain, islice
from math import isfinite
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    EvalPrediction,
    HfArgumentParser,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)

from attention_rnn import AttentionRnnConfig, ReliableTrainer
from attention_rnn.alignment import Alignment
from attention_rnn.arguments import (
    ScriptModelArguments,
    ScriptTrainingArguments,
    check_choice,
    check_files,
    check_model,
    check_values,
    expand_config_file,
    option,
    parse_config_overrides,
    wanted_splits,
)
from attention_rnn.classes import list_labels, merge_labels, with_labels
from attention_rnn.data import brief, choose_columns, drop_empty, get_text, read_lines, read_rows
from attention_rnn.hub import write_model_card
from attention_rnn.plotting import plot_alignment, write_alignment_page
from attention_rnn.tokenization import TokenizerKind, warn_of_poor_tokens
from attention_rnn.training import (
    delete_run,
    find_checkpoint,
    is_hub_name,
    load_split,
    origin,
    special_token_ids,
    train_and_save,
    train_new_tokenizer,
)

try:
    from datasets import ClassLabel, Dataset
    from scipy.special import expit, softmax
    from scipy.stats import pearsonr, spearmanr
    from sklearn.metrics import ConfusionMatrixDisplay, accuracy_score, confusion_matrix, f1_score, matthews_corrcoef
except ImportError as error:
    raise ImportError(
        f"run_classification.py needs more packages ({error}): pip install attention-rnn[train]"
    ) from error

logger = logging.getLogger("run_classification")

SINGLE_LABEL, MULTI_LABEL, REGRESSION = "single_label_classification", "multi_label_classification", "regression"
f1_micro = partial(f1_score, average="micro", zero_division=1)


def f1_macro(references: np.ndarray, predictions: np.ndarray) -> float:
    """The mean over the labels that are given or predicted; without any, all is right."""
    of_labels = f1_score(references, predictions, average=None, zero_division=np.nan)
    return 1.0 if np.isnan(of_labels).all() else float(np.nanmean(of_labels))


# of each problem type, the metrics as functions of references and predictions; the first two are the default
METRICS: dict[str, dict[str, Callable[[np.ndarray, np.ndarray], float]]] = {
    SINGLE_LABEL: {"accuracy": accuracy_score, "f1": f1_macro, "matthews": matthews_corrcoef},
    MULTI_LABEL: {"f1": f1_macro, "f1_micro": f1_micro, "accuracy": accuracy_score},
    REGRESSION: {
        "pearson": lambda references, predictions: pearsonr(references, predictions).statistic,
        "spearman": lambda references, predictions: spearmanr(references, predictions).statistic,
    },
}
SMALLEST_VALUES = {
    "max_length": 2,
    "max_train_samples": 1,
    "max_eval_samples": 1,
    "max_predict_samples": 1,
    "num_heat_maps": 0,
}
IGNORED_LABEL = -100

USAGE = """from transformers import pipeline

classifier = pipeline("text-classification", {name})
print(classifier([{inputs}], top_k=None))
"""
REMOTE_CODE_USAGE = """Without `import attention_rnn`, the code that the checkpoint carries does the same:
`pipeline("text-classification", {name}, trust_remote_code=True)`."""
ATTENTION_USAGE = """

`model(**inputs, output_attentions=True).attentions[0]` are the weights of the words, (batch, heads, 1, words):

![Which words each head of the pooling looked at]({picture})"""
LIMITS = """The model labels texts like those of its training data{labels}. On other texts expect worse than the scores
above. It read at most {max_length} tokens of a text in training, and reads what its vocabulary lacks as `<unk>`. It
repeats the errors and biases of its training data, and nothing was tested beyond the scores above."""


@dataclass
class ModelArguments(ScriptModelArguments):
    """Which model: fine-tune `model_name_or_path`, or train an attention RNN from scratch."""

    of_any_model: ClassVar[tuple[str, ...]] = (*ScriptModelArguments.of_any_model, "freeze_embeddings")
    of_any_tokenizer: ClassVar[tuple[str, ...]] = (
        *ScriptModelArguments.of_any_tokenizer,
        "freeze_embeddings",
        "word_vectors",
    )

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
class DataArguments:
    """What to read, and what to do with it."""

    train_file: str | None = field(
        default=None,
        metadata={
            "help": "csv, tsv, json or jsonl with a text and its label in each row. May be compressed (.gz). A tsv "
            "file has no quoting."
        },
    )
    validation_file: str | None = field(default=None, metadata={"help": "The same for validation."})
    test_file: str | None = field(default=None, metadata={"help": "The same for testing."})
    file_format: str | None = field(
        default=None, metadata={"help": "csv, tsv, json or jsonl. Default: the extension of each file."}
    )
    dataset_name: str | None = field(
        default=None, metadata={"help": "Data set on the Hub with the splits train, validation, test; or a folder."}
    )
    dataset_config_name: str | None = field(default=None, metadata={"help": "Its configuration."})
    column_names: list[str] | None = field(
        default=None, metadata={"help": "Columns of csv and tsv files that have no header."}
    )
    text_columns: list[str] | None = field(
        default=None,
        metadata={"help": "Column of the text, or two of a pair. Default: text, sentence, ...; else the first."},
    )
    label_column: str | None = field(
        default=None, metadata={"help": "Column of the label. Default: label, class, ...; else the first that is left."}
    )
    label_separator: str = field(
        default=",", metadata={"help": "What stands between the labels of a text, where they are no list."}
    )
    max_length: int = field(default=512, metadata={"help": "Longer texts are cut to that many tokens."})
    max_train_samples: int | None = field(default=None, metadata={"help": "Use that many training examples."})
    max_eval_samples: int | None = field(default=None, metadata={"help": "Use that many validation examples."})
    max_predict_samples: int | None = field(default=None, metadata={"help": "Use that many test examples."})
    num_heat_maps: int = field(default=4, metadata={"help": "Test items of which to draw the attention."})
    task: str = field(default="text-classification", metadata={"help": "The task as the model card tells the Hub."})
    language: list[str] | None = field(default=None, metadata={"help": "Languages for the card, ISO 639 codes."})
    license: str | None = field(default=None, metadata={"help": "Licence for the card, the Hub's identifier."})


@dataclass
class TrainingArguments(ScriptTrainingArguments):
    """The arguments of Trainer with defaults that suit recurrent networks, and a few of our own.

    With --do_train and --do_eval, each epoch is evaluated and the best one by the first of `metrics` is kept.
    """

    problem_type: str = field(default=SINGLE_LABEL, metadata={"help": f"One of {', '.join(METRICS)}."})
    metrics: list[str] | None = field(
        default=None,
        metadata={
            "help": "The first one selects the best model. "
            + "; ".join(f"{problem_type}: {', '.join(names)}" for problem_type, names in METRICS.items())
        },
    )
    num_train_epochs: float = field(default=10.0, metadata={"help": "Epochs to train."})
    per_device_train_batch_size: int = field(default=32, metadata={"help": "Training examples per device and step."})
    per_device_eval_batch_size: int = field(default=64, metadata={"help": "Evaluation examples per device and step."})

    def __post_init__(self):
        if self.problem_type not in METRICS:
            raise ValueError(f"--problem_type must be one of {', '.join(METRICS)}, got {self.problem_type!r}")
        if self.metrics is None:
            self.metrics = list(METRICS[self.problem_type])[:2]
        self.settle_evaluation()
        if self.metric_for_best_model is None and self.load_best_model_at_end:
            self.metric_for_best_model = self.metrics[0]
        super().__post_init__()


def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    argv = expand_config_file(sys.argv[1:] if argv is None else argv)
    parser = HfArgumentParser((ModelArguments, DataArguments, TrainingArguments), allow_abbrev=False)
    model_args, data_args, training_args = parser.parse_args_into_dataclasses(argv, look_for_args_file=False)
    logging.basicConfig(format="%(message)s")
    for name in ("attention_rnn", "run_classification"):
        logging.getLogger(name).setLevel(logging.INFO if training_args.process_index == 0 else logging.ERROR)

    check_arguments(model_args, data_args, training_args)
    output_dir = Path(training_args.output_dir)
    checkpoint = find_checkpoint(output_dir, training_args.resume_from_checkpoint, training_args.overwrite_output_dir)
    pretrained = checkpoint or model_args.model_name_or_path
    examples = read_splits(data_args, training_args)
    labels = settle_labels(pretrained, examples, model_args, data_args, training_args)

    set_seed(training_args.seed)
    with training_args.main_process_first(local=False, desc="preparing the output folder"):
        if training_args.overwrite_output_dir and checkpoint is None and training_args.process_index == 0:
            delete_run(output_dir)
        tokenizer = make_tokenizer(pretrained, examples, model_args, training_args)
    model = make_model(pretrained, tokenizer, labels, model_args, training_args)
    encoded = {split: encode(split, of_split, tokenizer, labels, data_args) for split, of_split in examples.items()}

    trainer = ReliableTrainer(
        model=model,
        args=training_args,
        train_dataset=encoded.get("train"),
        eval_dataset=encoded.get("validation"),
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=lambda output: score(output, training_args),
    )

    training_seconds = None
    if training_args.do_train:
        training_seconds = train_and_save(trainer, checkpoint)

    all_scores, pictures = {}, []
    for split, name in (("validation", "eval"), ("test", "predict")):
        if split not in examples:
            continue
        output = trainer.predict(encoded[split], metric_key_prefix=name)
        all_scores[split] = {metric: output.metrics[f"{name}_{metric}"] for metric in training_args.metrics}
        trainer.log_metrics(name, output.metrics)
        trainer.save_metrics(name, output.metrics)
        if trainer.is_world_process_zero():
            if split == "test":
                write_predictions(output_dir, examples[split], output.predictions, labels, training_args)
            if training_args.problem_type == SINGLE_LABEL and find_spec("matplotlib") is not None:
                draw_confusion(output_dir, output, labels)

    if trainer.is_world_process_zero():
        shown = examples.get("test", examples.get("validation"))
        if shown is not None and trainer.has_whole_model and model.config.model_type == AttentionRnnConfig.model_type:
            pictures = draw_attention(trainer, shown, data_args)
        if training_args.do_train:
            write_card(trainer, examples, labels, all_scores, training_seconds, pictures, argv, model_args, data_args)
        logger.info(f"All results lie in {training_args.output_dir}.")
    if training_args.push_to_hub:
        trainer.push_to_hub()
    return all_scores


def check_arguments(model_args: ModelArguments, data_args: DataArguments, training_args: TrainingArguments) -> None:
    check_files(data_args, training_args)
    if data_args.text_columns is not None and len(data_args.text_columns) > 2:
        raise ValueError(f"--text_columns must be one column, or two of a pair, got {data_args.text_columns}")
    if not data_args.label_separator:
        raise ValueError("--label_separator must be one or more characters, got ''")
    check_values(data_args, training_args, SMALLEST_VALUES)
    metrics, problem_type = training_args.metrics, training_args.problem_type
    for name in metrics:
        if name not in METRICS[problem_type]:
            raise ValueError(
                f"--metrics of {problem_type} must be among {', '.join(METRICS[problem_type])}, got {name!r}"
            )
    best = training_args.metric_for_best_model
    if best is not None and best.removeprefix("eval_") not in ("loss", *metrics):
        raise ValueError(f"--metric_for_best_model must be loss or one of --metrics {metrics}, got {best!r}")
    if training_args.label_smoothing_factor and problem_type != SINGLE_LABEL:
        raise ValueError(f"--label_smoothing_factor needs --problem_type {SINGLE_LABEL}, got {problem_type}")

    check_model(model_args, training_args)
    if model_args.model_name_or_path is not None:
        return
    config = AttentionRnnConfig(**parse_config_overrides(model_args.config_overrides))
    if training_args.label_smoothing_factor and config.pooling_penalty_weight:
        raise ValueError("--label_smoothing_factor makes a loss without pooling_penalty_weight: give one of the two")
    check_choice("tokenizer", model_args.tokenizer, (*get_args(TokenizerKind), "auto"))
    if model_args.word_vectors is not None and model_args.tokenizer_name is None and model_args.tokenizer != "word":
        raise ValueError(f"--word_vectors needs --tokenizer word, got {model_args.tokenizer}")


def read_splits(data_args: DataArguments, training_args: TrainingArguments) -> dict[str, Dataset]:
    """The examples of each split, in the columns `text`, for a pair `text_pair`, `label` and `place`."""
    limits = {
        "train": data_args.max_train_samples,
        "validation": data_args.max_eval_samples,
        "test": data_args.max_predict_samples,
    }
    examples = {}
    for split in wanted_splits(training_args):
        settle_columns(split, data_args)
        rows = islice(read_examples(split, data_args, training_args.problem_type), limits[split])
        if split == "train":
            columns = ["text", "text_pair"][: len(data_args.text_columns)]
            rows = drop_empty(rows, columns, origin(split, data_args))
        examples[split] = Dataset.from_list(list(rows))
        logger.info(f"{split}: {len(examples[split]):,} examples of {origin(split, data_args)}")
    return examples


def settle_columns(split: str, data_args: DataArguments) -> None:
    """Choose the columns of the text and the label, where the arguments do not name them."""
    place, row = next(read_split(split, data_args), ("", None))
    if row is None:
        raise ValueError(f"the {split} data must hold at least one example, got none in {origin(split, data_args)}")
    first, *others = data_args.text_columns or [None]
    columns = [name for name in row if name not in others]
    text, data_args.label_column = choose_columns(columns, place, text=first, label=data_args.label_column)
    data_args.text_columns = [text, *others]


def read_examples(split: str, data_args: DataArguments, problem_type: str) -> Iterator[dict[str, Any]]:
    for place, row in read_split(split, data_args):
        texts = [get_text(row, column, place) for column in data_args.text_columns]
        label = read_label(row, data_args, problem_type, place)
        yield dict(zip(("text", "text_pair"), texts, strict=False)) | {"label": label, "place": place}


def read_label(row: dict[str, Any], data_args: DataArguments, problem_type: str, place: str) -> str | list[str] | float:
    """The name of the label, or several names, or the number."""
    column = data_args.label_column
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
        values = value.split(data_args.label_separator) if isinstance(value, str) else value
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


def read_split(split: str, data_args: DataArguments) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a split with their places, of the files or of the data set on the Hub."""
    if data_args.dataset_name is None:
        yield from read_rows(
            getattr(data_args, f"{split}_file"),
            file_format=data_args.file_format,
            column_names=data_args.column_names,
            wanted_columns=[*(data_args.text_columns or ()), data_args.label_column],
        )
        return
    dataset = load_split(split, data_args)
    features = dataset.features
    names = {name: of_column.names for name, of_column in features.items() if isinstance(of_column, ClassLabel)}
    for number, row in enumerate(dataset, start=1):
        named = {column: of_column[row[column]] for column, of_column in names.items() if row[column] >= 0}
        yield f"{data_args.dataset_name}, {split}, row {number}", row | named


def settle_labels(
    pretrained: str | None,
    examples: dict[str, Dataset],
    model_args: ModelArguments,
    data_args: DataArguments,
    training_args: TrainingArguments,
) -> list[str]:
    """The names of the labels in the order of their ids, and none for numbers; checks that each example has such."""
    problem_type, of_model = training_args.problem_type, []
    if pretrained is not None:
        config = AutoConfig.from_pretrained(pretrained, trust_remote_code=model_args.trust_remote_code)
        of_model = list_labels(config)
    if problem_type == REGRESSION:
        if "train" not in examples and len(of_model) != 1:
            raise ValueError(
                f"--problem_type {REGRESSION} needs a model that tells a number, got the labels {of_model}"
            )
        return []

    def names_of(example: dict[str, Any]) -> list[str]:
        return example["label"] if problem_type == MULTI_LABEL else [example["label"]]

    known, source = of_model, "of the model"
    if "train" in examples:
        found = sort_labels({name for example in examples["train"] for name in names_of(example)})
        known, source = found, f"of the training data, {origin('train', data_args)}"
        if of_model:
            known, what = merge_labels(of_model, found)
            source = f"of the model and {source.removeprefix('of ')}"
            logger.info(f"labels: {what}")
    if len(known) < 2:
        raise ValueError(f"there must be at least two labels {source}, got {known}")
    for example in chain.from_iterable(examples.values()):
        for name in names_of(example):
            if name not in known:
                raise ValueError(
                    f"{example['place']}: the label must be among {brief(known)} {source}, got {brief(name)}"
                )
    return known


def sort_labels(names: Collection[str]) -> list[str]:
    try:
        return sorted(names, key=int)
    except ValueError:
        return sorted(names)


def make_tokenizer(
    pretrained: str | None, examples: dict[str, Dataset], model_args: ModelArguments, training_args: TrainingArguments
) -> PreTrainedTokenizerBase:
    name = pretrained or model_args.tokenizer_name
    if name is not None:
        return AutoTokenizer.from_pretrained(name, trust_remote_code=model_args.trust_remote_code)
    # the main process trains and saves, so that all processes load the same tokens
    if training_args.process_index == 0:
        train = examples["train"]
        texts = [text for column in ("text", "text_pair") if column in train.column_names for text in train[column]]
        tokenizer = train_new_tokenizer("texts", lambda: texts, model_args.tokenizer, model_args)
        tokenizer.save_pretrained(training_args.output_dir)
    return AutoTokenizer.from_pretrained(training_args.output_dir)


def make_model(
    pretrained: str | None,
    tokenizer: PreTrainedTokenizerBase,
    labels: list[str],
    model_args: ModelArguments,
    training_args: TrainingArguments,
) -> PreTrainedModel:
    if pretrained is not None:
        model = AutoModelForSequenceClassification.from_pretrained(
            pretrained,
            trust_remote_code=model_args.trust_remote_code,
            dtype=torch.float32,
            problem_type=training_args.problem_type,
        )
        model = with_labels(model, labels or ["LABEL_0"])  # as transformers calls a number
    else:
        overrides = parse_config_overrides(model_args.config_overrides)
        vectors = {}
        if model_args.word_vectors is not None:
            words = set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens)
            vectors, size = read_word_vectors(model_args.word_vectors, words, training_args.disable_tqdm)
            if overrides.setdefault("embedding_size", size) != size:
                raise ValueError(
                    f"--config_overrides embedding_size must be that of {model_args.word_vectors}, {size}, got "
                    f"{overrides['embedding_size']}"
                )
            logger.info(f"{len(vectors):,} of {len(words):,} words have a vector in {model_args.word_vectors}.")
        classes: dict[str, Any] = {"num_labels": 1}
        if labels:
            classes = {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
        config = AttentionRnnConfig(
            **overrides,
            problem_type=training_args.problem_type,
            **classes,
            vocab_size=len(tokenizer),
            **special_token_ids(tokenizer),
            decoder_start_token_id=None,
            is_encoder_decoder=False,
        )
        model = AutoModelForSequenceClassification.from_config(config)
        weight, ids = model.get_input_embeddings().weight.data, tokenizer.get_vocab()
        for word, vector in vectors.items():
            weight[ids[word]] = torch.from_numpy(vector)
    model.get_input_embeddings().requires_grad_(not model_args.freeze_embeddings)
    return model


def read_word_vectors(
    file: str, words: Collection[str], disable_tqdm: bool = False
) -> tuple[dict[str, np.ndarray], int]:
    """
    The vectors of these words in a text file, and their size.

    Each line holds a word and its numbers, separated by spaces. word2vec and fastText write the number and the size of
    the vectors into the first line, GloVe does not.

    Raises:
        ValueError: for a line that is no vector or not UTF-8, vectors of different sizes, a broken gz file, or where no
            word has a vector.
    """
    vectors: dict[str, np.ndarray] = {}
    size = None
    for number, line in enumerate(tqdm(read_lines(file), desc="reading word vectors", disable=disable_tqdm), start=1):
        if number == 1 and (header := re.fullmatch(r"\d+ (\d+)\s*", line)):
            size = int(header[1])
            continue
        parts = line.rstrip().split(" ")
        size = size or len(parts) - 1
        word = " ".join(parts[:-size])  # a few "words" of GloVe hold spaces
        try:
            if size < 1 or not word:
                raise ValueError(f"got {len(parts)} parts")
            if word in words:
                vectors[word] = np.array(parts[-size:], dtype=np.float32)
        except ValueError as error:
            message = f"{file}, line {number}: there must be a word and {size} numbers, separated by spaces"
            raise ValueError(f"{message}: {error}") from error
    if not vectors:
        raise ValueError(f"{file} must hold a vector for at least one of the {len(words):,} words of the vocabulary")
    return vectors, size


def encode(
    split: str,
    examples: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    labels: list[str],
    data_args: DataArguments,
) -> Dataset:
    """Turn texts and labels into ids, and warn once of what is cut."""
    ids = {name: index for index, name in enumerate(labels)}
    too_long = 0

    def tokenize(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        nonlocal too_long
        texts = [batch[column] for column in ("text", "text_pair") if column in batch]
        columns = dict(tokenizer(*texts))
        if excess := sum(len(tokens) > data_args.max_length for tokens in columns["input_ids"]):
            too_long += excess
            columns = dict(tokenizer(*texts, truncation=True, max_length=data_args.max_length))
        return columns | {"labels": [label_ids(label) for label in batch["label"]]}

    def label_ids(label: str | list[str] | float) -> int | list[float] | float:
        if isinstance(label, list):
            return [float(name in label) for name in labels]
        return ids[label] if isinstance(label, str) else label

    encoded = examples.map(tokenize, batched=True, remove_columns=examples.column_names, desc=f"tokenizing {split}")
    warn_of_poor_tokens(f"texts of the {split} data", encoded["input_ids"], tokenizer)
    if too_long:
        logger.warning(
            f"{too_long:,} of {len(examples):,} texts of the {split} data are longer than --max_length "
            f"{data_args.max_length} and were cut."
        )
    return encoded


def predict(logits: np.ndarray, problem_type: str) -> np.ndarray:
    """The id of the label, or 1 for each label that a text has and 0 for the others, or the number."""
    if problem_type == SINGLE_LABEL:
        return logits.argmax(axis=1)
    return (logits > 0).astype(int) if problem_type == MULTI_LABEL else logits[:, 0]


def score(output: EvalPrediction, training_args: TrainingArguments) -> dict[str, float]:
    """The metrics in percent."""
    problem_type = training_args.problem_type
    predictions, references = predict(output.predictions, problem_type), output.label_ids
    # a correlation with a constant is not defined
    return {
        name: 100 * float(np.nan_to_num(METRICS[problem_type][name](references, predictions)))
        for name in training_args.metrics
    }


def write_predictions(
    output_dir: Path, examples: Dataset, logits: np.ndarray, labels: list[str], training_args: TrainingArguments
) -> None:
    problem_type = training_args.problem_type
    predictions = predict(logits, problem_type)
    probabilities = expit(logits) if problem_type == MULTI_LABEL else softmax(logits, axis=1)
    with open(output_dir / "predictions.jsonl", "w", encoding="utf-8") as file:
        for example, prediction, of_labels in zip(examples, predictions, probabilities, strict=True):
            row = {column: example[column] for column in ("text", "text_pair") if column in example}
            if problem_type == REGRESSION:
                row["prediction"] = float(prediction)
            else:
                chosen = [labels[index] for index in np.flatnonzero(prediction)] if problem_type == MULTI_LABEL else []
                row["prediction"] = chosen if problem_type == MULTI_LABEL else labels[prediction]
                row["probabilities"] = {name: round(float(p), 6) for name, p in zip(labels, of_labels, strict=True)}
            row["reference"] = example["label"]
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def draw_confusion(output_dir: Path, output: Any, labels: list[str]) -> None:
    """Draw how often each label (rows) was taken for each other one (columns); the last split drawn stays."""
    from matplotlib.figure import Figure

    counts = confusion_matrix(output.label_ids, output.predictions.argmax(axis=1), labels=range(len(labels)))
    size = min(2.5 + 0.5 * len(labels), 20)
    axes = Figure(figsize=(size, size), layout="constrained").add_subplot()
    display = ConfusionMatrixDisplay(counts, display_labels=labels)
    display.plot(ax=axes, cmap="Blues", colorbar=False, include_values=len(labels) <= 30, xticks_rotation="vertical")
    axes.figure.savefig(output_dir / "confusion_matrix.png", dpi=150)


def draw_attention(trainer: ReliableTrainer, examples: Dataset, data_args: DataArguments) -> list[str]:
    """
    Draw which words of the first examples the model looked at, each as a picture and all on one page to point at;
    returns the pictures, relative to the output folder.
    """
    model, tokenizer, pictures, alignments = trainer.model.eval(), trainer.processing_class, [], []
    folder = Path(trainer.args.output_dir, "attention_maps")
    for number, example in enumerate(examples.select(range(min(data_args.num_heat_maps, len(examples))))):
        texts = [example[column] for column in ("text", "text_pair") if column in example]
        inputs = tokenizer(*texts, truncation=True, max_length=data_args.max_length, return_tensors="pt")
        with torch.no_grad():
            outputs = model(**inputs.to(model.device), output_attentions=True)
        weights = outputs.attentions[0][0, :, 0]  # (heads, words)
        tokens = tokenizer.convert_ids_to_tokens(inputs["input_ids"][0])
        prediction = predict(outputs.logits.float().cpu().numpy(), model.config.problem_type)[0]
        if model.config.problem_type == SINGLE_LABEL:
            label = model.config.id2label[int(prediction)]
        elif model.config.problem_type == MULTI_LABEL:
            label = ", ".join(model.config.id2label[index] for index in np.flatnonzero(prediction).tolist()) or "none"
        else:
            label = f"{prediction:.3g}"
        heads = ["attention"] if len(weights) == 1 else [f"head {head}" for head in range(len(weights))]
        title = f"predicted: {label}; label: {example['label']}"
        alignments.append(Alignment(weights, tokens, heads, title))
        pictures.append(f"{folder.name}/{number}.png")
        folder.mkdir(exist_ok=True)
        plot_alignment(weights, tokens, heads, title=title).savefig(folder / f"{number}.png")
    if alignments:
        write_alignment_page(folder / "attention.html", alignments)
    return pictures


def write_card(
    trainer: ReliableTrainer,
    examples: dict[str, Dataset],
    labels: list[str],
    scores: dict[str, dict[str, float]],
    training_seconds: float | None,
    pictures: list[str],
    argv: list[str],
    model_args: ModelArguments,
    data_args: DataArguments,
) -> None:
    name = trainer.hub_model_id if trainer.args.push_to_hub else Path(trainer.args.output_dir).resolve().name
    example = examples[list(examples)[-1]][0]
    texts = {column: example[column] for column in ("text", "text_pair") if column in example}
    inputs = json.dumps(texts if len(texts) > 1 else example["text"], ensure_ascii=False)
    usage = USAGE.format(name=json.dumps(name), inputs=inputs)
    if trainer.model.config.model_type == AttentionRnnConfig.model_type:
        usage = f"```python\nimport attention_rnn  # pip install attention-rnn\n{usage}```\n\n"
        usage += REMOTE_CODE_USAGE.format(name=json.dumps(name))
        usage += ATTENTION_USAGE.format(picture=pictures[0]) if pictures else ""
    else:
        usage = f"```python\n{usage}```"
    write_model_card(
        trainer.args.output_dir,
        model=trainer.model,
        name=name,
        task=data_args.task,
        usage=usage,
        limits=LIMITS.format(
            max_length=data_args.max_length, labels=f" with {', '.join(map(repr, labels))}" if labels else ""
        ),
        results=scores,
        data={split: (origin(split, data_args), len(of_split)) for split, of_split in examples.items()},
        dataset_name=data_args.dataset_name if is_hub_name(data_args.dataset_name) else None,
        dataset_config_name=data_args.dataset_config_name,
        command=["python", "run_classification.py", *argv],
        training_args=trainer.args,
        training_seconds=training_seconds,
        base_model=model_args.model_name_or_path if is_hub_name(model_args.model_name_or_path) else None,
        language=data_args.language,
        license=data_args.license,
    )


if __name__ == "__main__":
    main()
